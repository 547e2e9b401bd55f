"""Noise schedules: how much signal and how much noise x_t carries at time t.

`base` defines what a schedule is, and the other modules hold the schedules. To add a schedule, write a subclass of
`Schedule` and add one line to ``SCHEDULES`` in ``config/registry.py``.
"""

from __future__ import annotations

from ...config.registry import SCHEDULES
from ...config.sections import ScheduleConfig
from .base import Schedule

__all__ = ["Schedule", "build_schedule"]


def build_schedule(config: ScheduleConfig) -> Schedule:
    """Make the schedule that a configuration names."""
    schedule: Schedule = SCHEDULES[config.name].from_config(config)
    return schedule
