from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
import torch

from dualdiff_cli.bench import clock as benchmarking
from dualdiff_cli.bench.clock import Competitor, Measurement, Prepared, TimedCall, measure, ratio_of_medians
from dualdiff_cli.compute.device import memory_rise
from dualdiff_cli.errors import DeviceError
from dualdiff_cli.seeding import stream

CPU = torch.device("cpu")


class Clock:
    """A clock that only moves when something waits on it, in the place of `time`."""

    def __init__(self) -> None:
        self.ns = 0

    def perf_counter_ns(self) -> int:
        return self.ns

    def wait(self, seconds: float) -> None:
        self.ns += round(1e9 * seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(benchmarking, "time", clock)
    return clock


def racing(call: TimedCall, *, name: str = "a", **options: Any) -> Measurement:
    return Measurement(Competitor({"name": name}, lambda: Prepared(call), **options))


def test_competitors_take_turns() -> None:
    turns: list[str] = []
    measurements = [racing(lambda units, name=name: turns.append(name), name=name) for name in "abc"]  # type: ignore[misc]
    measure(measurements, repeats=4, device=CPU, seconds_per_block=0)
    assert turns == [*"abc", *"abc" * 4]  # one call of each warms up
    assert [len(m.raw_s) for m in measurements] == [4, 4, 4]


def test_a_blocks_size_comes_from_its_budget(clock: Clock) -> None:
    calls: list[int] = []

    def call(units: int) -> None:
        calls.append(units)
        clock.wait(0.001 * units)

    measurement = racing(call, whole=10_000)
    measure([measurement], repeats=2, device=CPU, seconds_per_block=0.05)
    assert calls[-2:] == [measurement.block] * 2 == [50] * 2
    assert measurement.raw_s == pytest.approx([0.05, 0.05])
    assert measurement.record()["extrapolated"]
    assert measurement.record()["median_s"] == pytest.approx(10)


@pytest.mark.parametrize(
    ("whole", "quantum", "budget", "block"),
    [(10, 1, 1e9, 10), (100, 30, 0.0, 30), (100, 30, 1e9, 100), (20, 30, 0.0, 20), (1, 1, 0.01, 1)],
)
def test_a_block_is_a_multiple_of_the_quantum_or_the_whole(whole: int, quantum: int, budget: float, block: int) -> None:
    calls: list[int] = []
    measurement = racing(calls.append, whole=whole, quantum=quantum)
    measure([measurement], repeats=1, device=CPU, seconds_per_block=budget)
    assert measurement.block == block
    assert all(units % quantum == 0 or units == whole for units in calls)
    assert measurement.record()["extrapolated"] == (block < whole)


def test_a_slow_first_call_does_not_make_the_block_small(clock: Clock) -> None:
    slow = [0.1]

    def call(units: int) -> None:
        clock.wait(slow.pop() if slow else 1e-4 * units)

    measurement = racing(call, whole=10_000)
    measure([measurement], repeats=1, device=CPU, seconds_per_block=0.2)
    assert measurement.block == 2000


def test_preparation_and_warm_up_are_told_apart_and_not_counted(clock: Clock) -> None:
    def prepare() -> Prepared:
        clock.wait(5)
        return Prepared(lambda units: clock.wait(0.01 * units), {"provider": "a clock"})

    measurement = Measurement(Competitor({}, prepare))
    measure([measurement], repeats=3, device=CPU)
    record = measurement.record()
    assert (record["prepare_s"], record["warm_up_s"]) == pytest.approx((5, 0.02))
    assert record["raw_s"] == pytest.approx([0.01] * 3)
    assert record["provider"] == "a clock"


def test_statistics_are_numpys_and_nothing_is_clipped() -> None:
    measurement = racing(print)
    measurement.block, measurement.raw_s = 1, [3.0, 1.0, 2.0, 4.0, 1000.0]
    record = measurement.record()
    low, high = np.percentile([1.0, 2.0, 3.0, 4.0, 1000.0], [25, 75])
    assert (record["median_s"], record["iqr_s"]) == (3.0, high - low)
    assert record["p95_s"] == pytest.approx(np.percentile(measurement.raw_s, 95))
    assert record["raw_s"] == [3.0, 1.0, 2.0, 4.0, 1000.0]


@pytest.mark.parametrize(("spread", "unstable"), [(0.09, False), (0.11, True)])
def test_a_row_is_unstable_where_the_quartiles_are_a_tenth_of_the_median_apart(spread: float, unstable: bool) -> None:
    measurement = racing(print)
    measurement.block, measurement.raw_s = 1, [1 - spread / 2, 1 - spread / 2, 1.0, 1 + spread / 2, 1 + spread / 2]
    assert measurement.record()["unstable"] is unstable


def test_one_time_alone_has_a_median_and_is_neither_stable_nor_unstable() -> None:
    measurement = racing(print, whole=6)
    measurement.block, measurement.raw_s = 3, [2.0]
    record = measurement.record()
    assert [record[key] for key in ("median_s", "iqr_s", "p95_s", "unstable")] == [4.0, None, None, None]


def test_who_fails_is_a_row_with_its_reason_and_the_others_go_on() -> None:
    def absent() -> Prepared:
        raise DeviceError("There is no such device.", "Use another.")

    calls: list[int] = []

    def tires(units: int) -> None:
        calls.append(units)
        if len(calls) > 3:
            raise RuntimeError("tired\nat line 1")

    failing, tiring, fine = Measurement(Competitor({}, absent)), racing(tires), racing(lambda units: None)
    measure([failing, tiring, fine], repeats=5, device=CPU, seconds_per_block=0)
    assert (failing.record()["failure"], failing.record()["median_s"]) == ("There is no such device.", None)
    assert (tiring.failure, len(tiring.raw_s)) == ("RuntimeError: tired", 2)
    assert (fine.failure, len(fine.raw_s)) == (None, 5)


def test_an_interrupt_keeps_the_blocks_that_were_finished() -> None:
    calls: list[int] = []

    def call(units: int) -> None:
        calls.append(units)
        if len(calls) == 4:
            raise KeyboardInterrupt

    measurement = racing(call)
    with pytest.raises(KeyboardInterrupt):
        measure([measurement], repeats=9, device=CPU, seconds_per_block=0)
    assert len(measurement.raw_s) == 2
    assert gc.isenabled()


def test_garbage_is_not_collected_while_the_clock_runs() -> None:
    states: list[bool] = []
    measure([racing(lambda units: states.append(gc.isenabled()))], repeats=2, device=CPU, seconds_per_block=0)
    assert states[-2:] == [False, False]
    assert gc.isenabled()


def test_a_ratios_interval_covers_the_true_one_about_as_often_as_it_says() -> None:
    draws = stream(0, "times")
    covered = 0
    for _ in range(60):
        a, b = 3 * draws.lognormal(sigma=0.1, size=30), draws.lognormal(sigma=0.1, size=20)
        ratio = ratio_of_medians(a, b)
        assert ratio.value == pytest.approx(np.median(a) / np.median(b))
        covered += ratio.low <= 3 <= ratio.high
    assert 50 <= covered <= 60


def test_pairing_takes_out_what_the_rounds_have_in_common() -> None:
    draws = stream(0, "times")
    rounds = draws.lognormal(sigma=0.5, size=15)
    a, b = 2 * rounds * draws.lognormal(sigma=0.01, size=15), rounds
    paired, apart = ratio_of_medians(a, b, paired=True), ratio_of_medians(a, b)
    assert paired.high - paired.low < 0.2 < apart.high - apart.low
    assert paired.low <= 2.02
    assert paired.high >= 1.98


def test_a_rise_in_memory_is_the_calls_highest_and_forgets_earlier_ones() -> None:
    def fill(megabytes: int) -> None:
        np.ones(megabytes << 20, dtype=np.uint8)

    large, small = memory_rise(lambda: fill(200), CPU), memory_rise(lambda: fill(40), CPU)
    if large is None or small is None:
        pytest.skip("this platform does not tell")
    assert 190 << 20 < large < 260 << 20
    assert 35 << 20 < small < 60 << 20


@pytest.mark.gpu
def test_a_rise_in_memory_on_a_gpu_is_what_the_allocator_gave() -> None:
    device = torch.device("cuda")
    rise = memory_rise(lambda: torch.ones(64 << 18, device=device), device)
    assert rise is not None
    assert 64 << 20 <= rise < 80 << 20
