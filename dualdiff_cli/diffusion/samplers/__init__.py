"""Samplers: methods that turn noise into samples with a denoiser.

`base` holds the loop that all methods share, `generation` draws any number of samples with it, and the other modules
hold the methods. To add a sampler, write a subclass of `Sampler` and add one line to ``SAMPLERS`` in
``config/registry.py``.
"""

from __future__ import annotations

from ...config.registry import SAMPLERS
from ...config.sections import SamplingConfig
from .base import Level, Sampler
from .generation import BLOCK, draw_noise, generate, generate_by, noise_walk, points_per_call, prepare
from .redrawing import Reach, Redrawing

__all__ = [
    "BLOCK",
    "Level",
    "Reach",
    "Redrawing",
    "Sampler",
    "build_sampler",
    "draw_noise",
    "generate",
    "generate_by",
    "noise_walk",
    "points_per_call",
    "prepare",
]


def build_sampler(config: SamplingConfig) -> Sampler:
    """Make the sampler that a configuration names."""
    sampler: Sampler = SAMPLERS[config.sampler].from_config(config)
    return sampler
