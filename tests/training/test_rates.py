"""The learning rate and the EMA decay as functions of the step."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dualdiff_cli.compute.optimiser import ema_decay, learning_rate
from dualdiff_cli.config.sections import TrainingConfig


def test_learning_rate_falls_from_eta_along_half_a_cosine_to_zero() -> None:
    config = TrainingConfig(steps=300, learning_rate=0.02)
    rates = [learning_rate(step, config) for step in range(301)]
    assert rates[0] == 0.02
    assert rates[100] == pytest.approx(0.015)
    assert rates[150] == pytest.approx(0.01)
    assert rates[300] == 0
    assert all(a > b for a, b in itertools.pairwise(rates))


def test_learning_rate_falls_from_eta_along_a_line_to_zero() -> None:
    config = TrainingConfig(steps=300, learning_rate=0.02, annealing="linear")
    rates = [learning_rate(step, config) for step in range(301)]
    assert rates == pytest.approx([0.02 * (1 - step / 300) for step in range(301)], abs=1e-15)
    assert rates[300] == 0


@pytest.mark.parametrize("annealing", ["cosine", "linear"])
def test_learning_rate_rises_in_equal_shares_of_the_annealed_one_and_ends_at_zero(annealing: str) -> None:
    config = TrainingConfig.model_validate({"steps": 50, "learning_rate": 0.02, "annealing": annealing})
    warmed = config.model_copy(update={"warmup": 4})
    shares = [learning_rate(step, warmed) / learning_rate(step, config) for step in range(50)]
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8] + 46 * [1])
    assert learning_rate(50, warmed) == 0
    longer_than_the_run = config.model_copy(update={"warmup": 99})
    assert [learning_rate(step, longer_than_the_run) for step in (0, 50)] == pytest.approx([0.02 / 100, 0])


def test_ema_decay_is_the_formula_and_a_copy_during_the_warm_up() -> None:
    config = TrainingConfig(ema_warmup=100, ema_decay=0.995)
    for step in range(10_001):
        epoch = np.float64(max(step - 100 - 1, 0))
        expected = np.clip(1 - (1 + epoch / 1.0) ** -(2 / 3), 0.0, 0.995) if epoch > 0 else 0.0
        assert ema_decay(step, config) == pytest.approx(expected, rel=1e-14)
    assert ema_decay(101, config) == 0
    assert ema_decay(101 + 7, config) == pytest.approx(3 / 4)  # 8^(2/3) = 4
    assert ema_decay(101 + 26, config) == pytest.approx(8 / 9)  # 27^(2/3) = 9
    assert ema_decay(2928, config) < ema_decay(2929, config) == 0.995  # 0.005^(-3/2) = 2828.4
