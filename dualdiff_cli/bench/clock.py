"""Timing: competitors take turns on one clock, and every raw time is kept.

A competitor is prepared (built, compiled, captured or loaded), then warmed up until the time of one unit of its task is
known, and then timed in blocks of as many units as fit a given time. Blocks of all competitors are interleaved, A B C A
B C …, so that a slow minute of the machine slows all of them down alike. All use the same clock: wait for the device,
read ``perf_counter_ns``, call, wait for the device, read again. Python's garbage collector is switched off meanwhile.
On a GPU every block follows a call that is not timed: a GPU lowers its clocks while a competitor computes on the CPU.

No time is clipped or left out. A median is given with its interquartile range, and is called unstable if that range
exceeds a tenth of the median; one time alone has no range. If only a part of a task was timed, the time is scaled to
the whole task, and the record says so.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from ..compute.device import memory_rise, synchronize
from ..errors import DualdiffError
from ..seeding import stream

__all__ = ["UNSTABLE", "Competitor", "Measurement", "Prepared", "Ratio", "TimedCall", "measure", "ratio_of_medians"]

UNSTABLE = 0.1
"""A measurement is unstable if its interquartile range is a larger share of the median than this."""
RESAMPLES = 10_000
"""Bootstrap resamples behind an interval."""

TimedCall = Callable[[int], object]
"""A function that does the given number of units of a task."""


class Prepared(NamedTuple):
    """The function that is timed, and facts that its preparation found out, such as the execution provider."""

    call: TimedCall
    facts: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Competitor:
    """One way of doing a task.

    Attributes:
        labels: plain values that distinguish the competitor from the others.
        prepare: does all work that is done once. A function that is compiled on its first call is called there.
        whole: number of units of the whole task.
        quantum: smallest number of units of a call; a call does a multiple of the quantum, or the whole task.
        memory_on: the device whose memory the competitor works in; None if its use of memory cannot be measured.

    """

    labels: Mapping[str, Any]
    prepare: Callable[[], Prepared]
    whole: int = 1
    quantum: int = 1
    memory_on: torch.device | None = None


@dataclass
class Measurement:
    """What has been measured of a competitor so far.

    Attributes:
        prepare_s: seconds of the preparation.
        warm_up_s: seconds of the calls between preparation and timing.
        block: number of units in a timed call.
        raw_s: seconds of each timed call.
        memory_bytes: by how many bytes the first call, of one quantum, raised the memory in use; None if unknown.
        facts: see `Prepared`.
        failure: the reason why the competitor failed; None if it did not fail.

    """

    competitor: Competitor
    prepare_s: float | None = None
    warm_up_s: float | None = None
    block: int = 0
    raw_s: list[float] = field(default_factory=list)
    memory_bytes: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    failure: str | None = None

    @property
    def seconds(self) -> np.ndarray:
        """Seconds of the whole task according to each block, (repeats,)."""
        return np.asarray(self.raw_s) * (self.competitor.whole / max(self.block, 1))

    def record(self) -> dict[str, Any]:
        """Give plain values. Times are seconds of the whole task, except ``raw_s``, the seconds of each block."""
        whole = self.competitor.whole
        spread = dict.fromkeys(("median_s", "iqr_s", "p95_s", "unstable"), None)
        if len(self.raw_s) == 1:  # of a measurement that was stopped or failed later
            spread["median_s"] = float(self.seconds[0])
        elif self.raw_s:
            low, median, high, p95 = (float(q) for q in np.percentile(self.seconds, [25, 50, 75, 95]))
            unstable = high - low > UNSTABLE * median
            spread = {"median_s": median, "iqr_s": high - low, "p95_s": p95, "unstable": unstable}
        return {
            **self.competitor.labels,
            **self.facts,
            "failure": self.failure,
            **spread,
            "repeats": len(self.raw_s),
            "whole": whole,
            "block": self.block,
            "extrapolated": bool(self.raw_s) and self.block < whole,
            "prepare_s": self.prepare_s,
            "warm_up_s": self.warm_up_s,
            "memory_bytes": self.memory_bytes,
            "raw_s": list(self.raw_s),
        }


def measure(
    measurements: Sequence[Measurement],
    *,
    repeats: int,
    device: torch.device,
    seconds_per_block: float = 0.5,
    on_step: Callable[[str, Measurement], None] = lambda doing, measurement: None,
) -> None:
    """Prepare and warm up every competitor, then time them in turn.

    Every result is stored in its measurement at once, so that an interrupt loses no finished block. If a competitor
    fails, its measurement keeps the reason, and the other competitors continue.

    Args:
        measurements: new measurements, in the order of their turns.
        repeats: number of timed blocks of each competitor.
        device: the device to wait for before the clock is read.
        seconds_per_block: how long a block should take; a block takes longer if one quantum takes longer.
        on_step: called before each preparation and each block with what is done, and for which measurement.

    """
    calls: dict[int, TimedCall] = {}
    for i, measurement in enumerate(measurements):
        on_step("preparing", measurement)
        with _failure_noted(measurement):
            started = time.perf_counter_ns()
            prepared = measurement.competitor.prepare()
            synchronize(device)
            measurement.prepare_s = (time.perf_counter_ns() - started) * 1e-9
            measurement.facts = prepared.facts
            _warm_up(measurement, prepared.call, device, seconds_per_block)
            calls[i] = prepared.call
    with _no_garbage_collection():
        for _ in range(repeats):
            for i, call in list(calls.items()):
                measurement = measurements[i]
                on_step("timing", measurement)
                with _failure_noted(measurement):
                    if device.type == "cuda":  # a GPU that idled while a competitor used the CPU has slowed down
                        _clock(call, min(measurement.competitor.quantum, measurement.competitor.whole), device)
                    measurement.raw_s.append(_clock(call, measurement.block, device))
                if measurement.failure:
                    del calls[i]


def _clock(call: TimedCall, units: int, device: torch.device) -> float:
    """Give the seconds of one call."""
    synchronize(device)
    started = time.perf_counter_ns()
    call(units)
    synchronize(device)
    return (time.perf_counter_ns() - started) * 1e-9


def _warm_up(measurement: Measurement, call: TimedCall, device: torch.device, target: float) -> None:
    """Call until the number of units that take the target's seconds is known, and make that number the block."""
    whole = measurement.competitor.whole
    quantum = min(measurement.competitor.quantum, whole)
    units, seconds = quantum, 0.0

    def first() -> None:
        nonlocal seconds
        seconds = _clock(call, units, device)

    place = measurement.competitor.memory_on
    if place is None:
        first()
    else:
        measurement.memory_bytes = memory_rise(first, place)
    measurement.warm_up_s = seconds
    # The first call may be slower than later ones. Its time counts only if it takes longer than the target anyway.
    while seconds < target:
        seconds = _clock(call, units, device)
        measurement.warm_up_s += seconds
        if seconds >= target / 4 or units >= whole:
            break
        units = min(2 * units, whole)
    fitting = int(target / seconds * units) // quantum * quantum
    measurement.block = min(max(fitting, quantum), whole)


@contextmanager
def _failure_noted(measurement: Measurement) -> Iterator[None]:
    try:
        yield
    except DualdiffError as error:
        measurement.failure = error.problem
    except (
        Exception
    ) as error:  # a compiler or a runtime may raise anything; the first line of its message is the reason
        lines = str(error).strip().splitlines()
        measurement.failure = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Ratio(NamedTuple):
    """A ratio of two medians with a 95 % interval."""

    value: float
    low: float
    high: float


def ratio_of_medians(
    numerator: Sequence[float] | np.ndarray, denominator: Sequence[float] | np.ndarray, *, paired: bool = False
) -> Ratio:
    """Give the ratio of two medians with its percentile bootstrap interval.

    Efron & Tibshirani 1993, "An Introduction to the Bootstrap", §13.3. From few times the interval is too narrow: with
    five times of each, somewhat.

    Args:
        numerator, denominator: times, (n,) and (m,).
        paired: whether the i-th times of both were taken in the same round; n = m, and they are resampled together.

    """
    a, b = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    draws = stream(0, "bootstrap of a ratio of medians")
    rows_a = draws.integers(len(a), size=(RESAMPLES, len(a)))
    rows_b = rows_a if paired else draws.integers(len(b), size=(RESAMPLES, len(b)))
    ratios = np.median(a[rows_a], axis=1) / np.median(b[rows_b], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Ratio(float(np.median(a) / np.median(b)), float(low), float(high))
