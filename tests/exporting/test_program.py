from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dualdiff_cli import seeding
from dualdiff_cli.config.registry import SAMPLERS
from dualdiff_cli.diffusion.denoisers import Denoiser
from dualdiff_cli.diffusion.mixtures import MixtureDenoiser
from dualdiff_cli.diffusion.samplers import Sampler
from dualdiff_cli.diffusion.samplers.ancestral import DDIM
from dualdiff_cli.diffusion.schedules import Schedule
from dualdiff_cli.diffusion.schedules.continuous import (
    ContinuousLinearBeta,
    LogSNRUniform,
    StraightLine,
    VarianceExploding,
)
from dualdiff_cli.diffusion.schedules.tables import Cosine, LinearBeta, zero_terminal_snr
from dualdiff_cli.errors import InputError
from dualdiff_cli.exporting.program import Program, compile_sampler, count_evaluations

SCHEDULES = {
    "log-snr-uniform": LogSNRUniform(sigma_min=0.01, sigma_max=30.0),
    "variance-exploding": VarianceExploding(sigma_min=0.01, sigma_max=30.0),
    "straight-line": StraightLine(),
    "linear-beta": LinearBeta(),
    "zero-terminal-snr": zero_terminal_snr(LinearBeta()),
    "cosine": Cosine(),
    "linear-beta-continuous": ContinuousLinearBeta(),
}
NAMES = [name for name in SAMPLERS if name != "adaptive"]


def mixture(schedule: Schedule) -> MixtureDenoiser:
    means, stds = torch.tensor([[1.0, 0.5], [-1.0, -0.2]]), torch.tensor([[0.5, 0.4], [0.6, 0.3]])
    return MixtureDenoiser(torch.tensor([0.3, 0.7]), means, stds, schedule)


def follow(program: Program, denoiser: Denoiser, noise: Tensor, step_noise: Tensor) -> Tensor:
    """The walk as the module's docstring states it."""
    state = torch.zeros(program.mixing.shape[1], *noise.shape, dtype=torch.float64)
    state[:2] = program.prior_std * noise
    for t, mixing, draws in zip(program.times, program.mixing, program.draws, strict=True):
        sources = torch.cat([state, denoiser(state[0], t).unsqueeze(0), step_noise[draws]])
        state = torch.einsum("pr,rnd->pnd", mixing, sources)
    return state[1]


def largest_difference(sampler: Sampler, schedule: Schedule) -> float:
    noise = torch.randn(sampler.draws, 50, 2, generator=seeding.torch_stream(0, "noise"), dtype=torch.float64)
    denoiser, program = mixture(schedule), compile_sampler(sampler, schedule)
    points = sampler(denoiser, noise[0], noise[1:])
    return float((follow(program, denoiser, noise[0], noise[1:]) - points).abs().max() / points.abs().max())


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", NAMES)
def test_the_program_of_a_sampler_draws_its_points(name: str, schedule: str) -> None:
    for steps in (1, 2, 9):
        sampler = SAMPLERS[name](steps=steps, grid="log-snr")
        assert largest_difference(sampler, SCHEDULES[schedule]) < 1e-11


def test_the_share_of_fresh_noise_of_ddim_is_in_its_program() -> None:
    sampler = DDIM(steps=9, eta=0.5)
    assert compile_sampler(sampler, SCHEDULES["cosine"]).step_draws == 8
    assert largest_difference(sampler, SCHEDULES["cosine"]) < 1e-12


@pytest.mark.parametrize(
    ("name", "evaluations", "state", "draws"),
    [("ancestral", 9, 2, 1), ("dpmpp-2m-sde", 9, 3, 1), ("dpmpp-3m", 9, 4, 0), ("heun", 17, 3, 0), ("ddim", 9, 2, 0)],
)
def test_a_program_remembers_no_more_than_its_method(name: str, evaluations: int, state: int, draws: int) -> None:
    sampler, schedule = SAMPLERS[name](steps=9), SCHEDULES["log-snr-uniform"]
    program = compile_sampler(sampler, schedule)
    assert count_evaluations(sampler, schedule) == evaluations
    assert program.mixing.shape == (evaluations, state, state + 1 + draws)
    assert program.draws.shape == (evaluations, draws)
    assert program.times.shape == (evaluations,)


def test_adaptive_steps_have_no_program() -> None:
    for ask in (compile_sampler, count_evaluations):
        with pytest.raises(InputError, match="'adaptive' cannot be exported: it chooses its steps"):
            ask(SAMPLERS["adaptive"](steps=9), SCHEDULES["log-snr-uniform"])


def test_steps_whose_coefficients_fill_the_memory_are_refused_and_can_be_counted() -> None:
    sampler, schedule = SAMPLERS["annealed-langevin"](steps=2000), SCHEDULES["log-snr-uniform"]
    with pytest.raises(InputError, match=r"2,000 steps of annealed-langevin take 11 GB.*--what denoiser"):
        compile_sampler(sampler, schedule)
    assert count_evaluations(sampler, schedule) == 5 * 1999 + 1
