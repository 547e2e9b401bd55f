"""Timing: competitors in turn, on one clock, with every raw time kept.

A competitor is prepared (built, compiled, captured, loaded), then warmed up until it is known how long a unit of its
task takes, then timed in blocks of a size that fits a budget. Blocks of all competitors are interleaved, A B C A B C …,
so that a slow minute of the machine falls on all of them alike. One clock serves them all: wait for the device, read
``perf_counter_ns``, call, wait for the device, read again; Python's garbage collector is off meanwhile.

Nothing is clipped or left out. A median stands with its interquartile range, and is called unstable where that exceeds
a tenth of it. A task of which only a part was measured is scaled to the whole, and the record says so.
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

__all__ = ["UNSTABLE", "Call", "Competitor", "Measurement", "Prepared", "Ratio", "measure", "ratio_of_medians"]

UNSTABLE = 0.1
"""Share of the median beyond which an interquartile range makes a measurement unstable."""
RESAMPLES = 10_000

Call = Callable[[int], object]
"""Does a number of units of a task."""


class Prepared(NamedTuple):
    """What is timed, and what became known of it on the way: the execution provider that runs it, for one."""

    call: Call
    facts: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Competitor:
    """One way of doing a task.

    Attributes:
        labels: what tells it from the others.
        prepare: does all that is done once; what is compiled on the first call is to be called there.
        whole: units of the whole task.
        quantum: units that a call takes at least, and takes a multiple of unless it takes the whole.
        memory_on: the device whose memory it works in; None where nothing tells how much it takes.

    """

    labels: Mapping[str, Any]
    prepare: Callable[[], Prepared]
    whole: int = 1
    quantum: int = 1
    memory_on: torch.device | None = None


@dataclass
class Measurement:
    """What is known of a competitor so far.

    Attributes:
        prepare_s: seconds that the preparation took.
        warm_up_s: seconds of the calls after it that were not counted.
        block: units in a timed call.
        raw_s: seconds of each timed call, as measured.
        memory_bytes: how far the first call, of one quantum, raised the memory in use; None where nothing tells.
        facts: see `Prepared`.
        failure: why there are no more times than these, if that is so.

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
        """Seconds of the whole task by each block, (repeats,)."""
        return np.asarray(self.raw_s) * (self.competitor.whole / max(self.block, 1))

    def record(self) -> dict[str, Any]:
        """Give plain values: times of the whole task in seconds, but ``raw_s`` of a block, as measured."""
        whole = self.competitor.whole
        spread = dict.fromkeys(("median_s", "iqr_s", "p95_s", "unstable"), None)
        if self.raw_s:
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

    What is measured stands in the measurements at once, so that an interrupt loses no block that was finished. A
    competitor that fails is left with its reason, and the others go on.

    Args:
        measurements: new ones, in the order of their turns.
        repeats: blocks of each.
        device: what to wait for before the clock is read.
        seconds_per_block: how long a block should take; it takes longer where the quantum does.
        on_step: told before each preparation and each block what is done, and for whom.

    """
    calls: dict[int, Call] = {}
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
                    measurement.raw_s.append(_clock(call, measurement.block, device))
                if measurement.failure:
                    del calls[i]


def _clock(call: Call, units: int, device: torch.device) -> float:
    """Seconds of one call, on the one clock."""
    synchronize(device)
    started = time.perf_counter_ns()
    call(units)
    synchronize(device)
    return (time.perf_counter_ns() - started) * 1e-9


def _warm_up(measurement: Measurement, call: Call, device: torch.device, target: float) -> None:
    """Call until it is known how many units take the target's seconds; that is the block."""
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
    # The first call may be slow for reasons of its own: it is believed only where that cannot make the block smaller.
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
    except Exception as error:  # of whatever a compiler or a runtime throws, the row's reason is one line
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
    """Median of one set of times over that of another, with its percentile bootstrap interval.

    Efron & Tibshirani 1993, "An Introduction to the Bootstrap", §13.3. Resampling cannot show more than the times do:
    with five of each the interval is somewhat too narrow.

    Args:
        numerator, denominator: (n,) and (m,) times.
        paired: the i-th times of both were taken in the same round, and are drawn together; n = m.

    """
    a, b = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    draws = np.random.default_rng(0)
    rows_a = draws.integers(len(a), size=(RESAMPLES, len(a)))
    rows_b = rows_a if paired else draws.integers(len(b), size=(RESAMPLES, len(b)))
    ratios = np.median(a[rows_a], axis=1) / np.median(b[rows_b], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Ratio(float(np.median(a) / np.median(b)), float(low), float(high))
