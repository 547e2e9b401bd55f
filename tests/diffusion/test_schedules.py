from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from scipy.stats import kstest

from dualdiff_cli.diffusion.schedules import Schedule
from dualdiff_cli.diffusion.schedules.continuous import (
    ContinuousLinearBeta,
    LogSNRUniform,
    StraightLine,
    VarianceExploding,
)
from dualdiff_cli.diffusion.schedules.tables import Cosine, LinearBeta, zero_terminal_snr
from dualdiff_cli.errors import InputError

SCHEDULES: list[Schedule] = [
    LinearBeta(),
    Cosine(),
    ContinuousLinearBeta(),
    LogSNRUniform(sigma_min=0.002, sigma_max=20.0),
    VarianceExploding(sigma_min=0.002, sigma_max=20.0),
    StraightLine(),
    zero_terminal_snr(LinearBeta()),
]


def names(schedule: Schedule) -> str:
    return type(schedule).__name__


def axis(schedule: Schedule, n: int = 50) -> torch.Tensor:
    return torch.linspace(schedule.t_min, schedule.t_max, n, dtype=torch.float64)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=names)
def test_noise_grows_and_signal_does_not(schedule: Schedule) -> None:
    alpha, sigma = schedule(axis(schedule))
    assert (sigma.diff() > 0).all()
    assert (alpha.diff() <= 0).all()
    assert alpha.dtype == sigma.dtype == torch.float64


@pytest.mark.parametrize("schedule", SCHEDULES, ids=names)
def test_log_snr_is_that_of_alpha_and_sigma(schedule: Schedule) -> None:
    t = axis(schedule)[:-1]
    alpha, sigma = schedule(t)
    torch.testing.assert_close(schedule.log_snr(t), 2 * torch.log(alpha / sigma), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=names)
def test_time_inverts_log_snr(schedule: Schedule) -> None:
    t = axis(schedule)[:-1] if schedule.ends_in_pure_noise else axis(schedule)
    if schedule.discrete:
        t = t.round()
    torch.testing.assert_close(schedule.time(schedule.log_snr(t)), t, rtol=0, atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=names)
def test_every_row_gets_the_noise_of_its_own_time_in_its_own_dtype(schedule: Schedule) -> None:
    x, epsilon = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0))
    t = axis(schedule)
    x_t = schedule.add_noise(x, epsilon, t)
    assert x_t.dtype == x.dtype
    for k in (0, 20, 49):
        alpha, sigma = map(float, schedule(t[k]))
        torch.testing.assert_close(x_t[k], alpha * x[k] + sigma * epsilon[k])
        torch.testing.assert_close(schedule.add_noise(x, epsilon, t[k])[k], x_t[k])


def test_alpha_and_sigma_have_as_many_axes_as_what_they_multiply() -> None:
    for like in (torch.zeros(50), torch.zeros(50, 3), torch.zeros(50, 4, 3)):
        for t, rows in ((axis(SCHEDULES[0]), 50), (torch.tensor(7.0), 1)):
            assert {c.shape for c in SCHEDULES[0].alpha_sigma(t, like)} == {(rows, *(1,) * (like.dim() - 1))}


def test_the_papers_table_keeps_36_percent_of_the_signals_power() -> None:
    alpha, _ = LinearBeta()(torch.tensor(99.0))
    assert float(alpha**2) == pytest.approx(0.3636, abs=5e-4)
    assert float(alpha) == pytest.approx(0.603, abs=1e-3)


def test_linear_beta_table_is_diffusers() -> None:
    theirs = DDPMScheduler(num_train_timesteps=100, beta_start=1e-4, beta_end=0.02).alphas_cumprod
    alpha, _ = LinearBeta()(torch.arange(100))
    torch.testing.assert_close(alpha**2, theirs.double(), rtol=1e-5, atol=0)


def test_cosine_table_is_diffusers() -> None:
    theirs = DDPMScheduler(num_train_timesteps=100, beta_schedule="squaredcos_cap_v2").alphas_cumprod
    alpha, _ = Cosine(length=100)(torch.arange(100))
    torch.testing.assert_close(alpha**2, theirs.double(), rtol=2e-5, atol=1e-9)


def test_zero_terminal_snr_is_diffusers() -> None:
    theirs = DDIMScheduler(num_train_timesteps=100, beta_start=1e-4, beta_end=0.02, rescale_betas_zero_snr=True)
    alpha, _ = zero_terminal_snr(LinearBeta())(torch.arange(100))
    torch.testing.assert_close(alpha**2, theirs.alphas_cumprod.double(), rtol=1e-3, atol=1e-6)
    assert alpha[-1] == 0
    assert float(alpha[0]) == pytest.approx(math.sqrt(1 - 1e-4))


def test_continuous_linear_beta_is_the_limit_of_its_table() -> None:
    def distance(length: int) -> float:
        table = LinearBeta(length=length, beta_min=0.1 / length, beta_max=20 / length)
        limit = ContinuousLinearBeta(length=length, beta_min=0.1 / length, beta_max=20 / length)
        entries = torch.arange(length)
        return float((table(entries)[0] - limit((entries + 1) / length)[0]).abs().max())

    assert distance(2000) < distance(1000) / 1.9
    assert distance(2000) < 2e-3


def test_gauges_are_what_they_are_called() -> None:
    for schedule in SCHEDULES:
        alpha, sigma = schedule(axis(schedule))
        total = {"VarianceExploding": alpha, "StraightLine": alpha + sigma}.get(names(schedule), alpha**2 + sigma**2)
        torch.testing.assert_close(total, torch.ones_like(total))


def test_log_snr_uniform_spends_the_same_time_on_every_factor_of_noise() -> None:
    alpha, sigma = LogSNRUniform(sigma_min=0.01, sigma_max=10.0)(torch.tensor([0.0, 1 / 3, 2 / 3, 1.0]))
    torch.testing.assert_close(sigma / alpha, torch.tensor([0.01, 0.1, 1.0, 10.0], dtype=torch.float64))


def test_a_table_is_linear_in_log_snr_between_entries() -> None:
    table = LinearBeta()
    below, between, above = table.log_snr(torch.tensor([3.0, 3.25, 4.0]))
    torch.testing.assert_close(between, 0.75 * below + 0.25 * above)


def test_before_a_last_entry_of_zero_there_is_no_signal() -> None:
    table = zero_terminal_snr(LinearBeta(length=129))
    t = torch.tensor([127.25, 127.5, 127.75, 128.0])
    assert (table.log_snr(t) == -math.inf).all()
    torch.testing.assert_close(table.time(2 * table.lam_start), torch.tensor(127.0).double(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("stratified", [False, True])
def test_drawn_times_are_uniform(stratified: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    schedule = LogSNRUniform(sigma_min=0.01, sigma_max=10.0)
    t = torch.cat([schedule.draw(100, generator, stratified=stratified) for _ in range(50)])
    assert kstest(t.numpy(), "uniform").pvalue > 0.01


def test_drawn_entries_of_a_table_are_all_equally_likely() -> None:
    t = LinearBeta(length=10).draw(100_000, torch.Generator().manual_seed(0))
    counts = np.bincount(t.long().numpy(), minlength=10)
    assert len(counts) == 10
    assert np.abs(counts - 10_000).max() < 500


def test_stratified_times_fall_into_every_slice() -> None:
    t = StraightLine().draw(64, torch.Generator().manual_seed(0), stratified=True)
    slices = ((t - 1e-3) / (1 - 1e-3) * 64).floor().long()
    assert slices.tolist() == list(range(64))


def test_the_same_seed_draws_the_same_times() -> None:
    draws = [LinearBeta().draw(10, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*draws)


def test_more_steps_than_a_table_has_are_refused() -> None:
    with pytest.raises(InputError, match="100 times"):
        LinearBeta().times(101)


def test_times_run_from_noise_to_data() -> None:
    assert LinearBeta().times(100).tolist() == list(range(99, -1, -1))
    assert StraightLine().times(3).tolist() == pytest.approx([1.0, 0.5005, 0.001])
