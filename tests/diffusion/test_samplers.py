from __future__ import annotations

import copy
from collections.abc import Callable

import diffusers
import numpy as np
import pytest
import torch
from closed_forms import gaussian_denoiser
from torch import Tensor

from dualdiff_cli.config.registry import SAMPLERS
from dualdiff_cli.config.sections import SamplingConfig
from dualdiff_cli.diffusion.denoisers import Denoiser
from dualdiff_cli.diffusion.mixtures import MixtureDenoiser
from dualdiff_cli.diffusion.network_denoiser import NetworkDenoiser
from dualdiff_cli.diffusion.samplers import BLOCK, Level, Sampler, build_sampler, draw_noise, generate
from dualdiff_cli.diffusion.samplers.ancestral import DDIM
from dualdiff_cli.diffusion.samplers.base import noise_of, step_times
from dualdiff_cli.diffusion.schedules import Schedule
from dualdiff_cli.diffusion.schedules.continuous import LogSNRUniform, StraightLine, VarianceExploding
from dualdiff_cli.diffusion.schedules.tables import LinearBeta, zero_terminal_snr
from dualdiff_cli.errors import InputError

MEAN, STD = torch.tensor([0.5, -0.3]), torch.tensor([1.2, 0.6])
VP = LogSNRUniform(sigma_min=0.01, sigma_max=30.0)
CPU = torch.device("cpu")


def mixture(schedule: Schedule) -> MixtureDenoiser:
    weights = torch.tensor([0.3, 0.7])
    means, stds = torch.tensor([[1.0, 0.5], [-1.0, -0.2]]), torch.tensor([[0.5, 0.4], [0.6, 0.3]])
    return MixtureDenoiser(weights, means, stds, schedule)


def noise_for(sampler: Sampler, n: int, seed: int = 0) -> tuple[Tensor, Tensor | None]:
    noise = torch.randn(sampler.draws, n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return noise[0], noise[1:] if sampler.stochastic else None


def whitened(noise: Tensor) -> Tensor:
    """Shift and mix draws (…, n, d), so that their mean is 0 and their covariance 1 but for rounding."""
    centred = noise - noise.mean(-2, keepdim=True)
    covariance = centred.mT @ centred / (noise.shape[-2] - 1)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), centred.mT, upper=False).mT


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_is_built_by_the_name_that_it_bears(name: str) -> None:
    sampler = build_sampler(SamplingConfig(sampler=name, steps=7, grid="karras"))
    assert type(sampler) is SAMPLERS[name]
    assert (sampler.name, sampler.steps, sampler.grid) == (name, 7, "karras")


def test_ddim_is_built_with_its_share_of_fresh_noise() -> None:
    assert build_sampler(SamplingConfig(sampler="ddim")).draws == 1
    stochastic = build_sampler(SamplingConfig(sampler="ddim", eta=0.25, steps=4))
    assert isinstance(stochastic, DDIM)
    assert (stochastic.eta, stochastic.draws) == (0.25, 4)


GAUSSIAN_CASES = [
    (name, schedule)
    for name in SAMPLERS
    if "langevin" not in name
    for schedule in (
        VP,
        VarianceExploding(sigma_min=0.01, sigma_max=30.0),
        StraightLine(),
        LinearBeta(length=1000),
        zero_terminal_snr(LinearBeta()),
    )
] + [("annealed-langevin", VP), ("annealed-langevin", LinearBeta(length=1000))]


@pytest.mark.parametrize(
    ("name", "schedule"), GAUSSIAN_CASES, ids=lambda v: v if isinstance(v, str) else type(v).__name__
)
def test_a_gaussian_is_sampled_with_its_mean_and_covariance(name: str, schedule: Schedule) -> None:
    # A step is affine in the state and the noise. Whitened noise gives the exact moments of a deterministic method, and
    # leaves nothing to chance in a stochastic one but correlations between its draws.
    sampler = SAMPLERS[name](steps=100, grid="log-snr")
    start, fresh = noise_for(sampler, 8000 if sampler.stochastic else 1000)
    noise = whitened(start), None if fresh is None else whitened(fresh)
    x = sampler(gaussian_denoiser(MEAN, STD, schedule), *noise)
    # First-order methods cut corners at 100 steps: by theory their spread is then off by up to a tenth.
    # Annealed Langevin widens a Gaussian by 1/√(1 − r²/2) = 7 %, and by a little more as it lags behind the levels.
    rough = {"ancestral": 0.1, "ddim": 0.06, "euler": 0.06, "predictor-corrector": 0.1, "annealed-langevin": 0.12}
    tolerance = rough.get(name, 0.02 if name != "heun-stochastic" else 0.04)
    assert (x.mean(0) - MEAN).abs().max() < 0.03
    assert (x.std(0) / STD - 1).abs().max() < tolerance
    assert abs(float(torch.corrcoef(x.T)[0, 1])) < 0.03


def test_first_order_bias_halves_with_the_step() -> None:
    def bias(steps: int) -> float:
        sampler = SAMPLERS["ancestral"](steps=steps, grid="log-snr")
        x = sampler(gaussian_denoiser(MEAN, STD, VP), *noise_for(sampler, 50_000))
        return abs(float(x.std(0)[0] / STD[0] - 1))

    assert bias(50) / bias(100) == pytest.approx(2.0, abs=0.4)


def test_the_corrector_takes_a_langevin_step_of_the_published_size() -> None:
    """The score of a standard normal is −x; ε = 2 (r σ)² (Song et al. 2021, Alg. 4, with σ for the ratio of norms)."""
    denoiser = gaussian_denoiser(torch.zeros(2), torch.ones(2), VP)
    now, after = (Level(t, *VP(t)) for t in (torch.tensor(1.0), torch.tensor(0.9)))
    x, z = torch.ones(1, 2, dtype=torch.float64), torch.tensor([[[0.0, 0.0]], [[0.0, 1.0]]], dtype=torch.float64)
    sampler, epsilon = SAMPLERS["predictor-corrector"](steps=5), 2 * 0.16**2 * float(after.sigma) ** 2
    predicted = SAMPLERS["ancestral"](steps=5).step(denoiser, x, now, after, z, [])
    corrected = sampler.step(denoiser, x, now, after, z, [])
    expected = predicted * (1 - epsilon) + (2 * epsilon) ** 0.5 * z[1]
    torch.testing.assert_close(corrected, expected, rtol=1e-6, atol=0)


def test_langevin_leaves_the_modes_with_the_share_that_began_near_them() -> None:
    """Two far modes of weights 0.9 and 0.1: annealing finds the weights, plain Langevin keeps the start's halves."""
    schedule = LogSNRUniform(sigma_min=0.1, sigma_max=30.0)
    means, stds = torch.tensor([[3.0, 0.0], [-3.0, 0.0]]), torch.full((2, 2), 0.3)
    denoiser = MixtureDenoiser(torch.tensor([0.9, 0.1]), means, stds, schedule)
    shares = {}
    for name in ("langevin", "annealed-langevin"):
        sampler = SAMPLERS[name](steps=100, grid="log-snr")
        shares[name] = float((sampler(denoiser, *noise_for(sampler, 2000))[:, 0] > 0).double().mean())
    assert shares["langevin"] == pytest.approx(0.5, abs=0.06)
    assert shares["annealed-langevin"] == pytest.approx(0.9, abs=0.06)


@pytest.fixture(scope="module")
def flow() -> tuple[Denoiser, Tensor, Tensor]:
    """A denoiser, noise, and the points to which its flow takes the noise, with an error that no test sees."""
    # The noise begins so high that the multistep methods' first steps, of lower order, do not count.
    denoiser = mixture(LogSNRUniform(sigma_min=0.3, sigma_max=3000.0))
    noise = torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return denoiser, noise, SAMPLERS["heun"](steps=3000, grid="log-snr")(denoiser, noise)


@pytest.mark.parametrize(
    ("name", "order"), [("euler", 1), ("ddim", 1), ("heun", 2), ("dpm-solver-2", 2), ("dpmpp-2m", 2), ("dpmpp-3m", 3)]
)
def test_flow_solvers_converge_with_their_order(name: str, order: int, flow: tuple[Denoiser, Tensor, Tensor]) -> None:
    denoiser, noise, exact = flow
    steps = np.array([60, 120, 240])
    errors = [float((SAMPLERS[name](steps=int(n), grid="log-snr")(denoiser, noise) - exact).norm()) for n in steps]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize("off_centre", [False, True])
def test_the_adaptive_flow_is_the_limit_of_the_fixed_ones(off_centre: bool) -> None:
    denoiser = mixture(LogSNRUniform(sigma_min=0.01, sigma_max=5.0))
    denoiser.off_centre = off_centre
    noise = torch.randn(100, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = SAMPLERS["heun"](steps=700, grid="log-snr")(denoiser, noise)
    adaptive = SAMPLERS["adaptive"](steps=1)
    assert (adaptive(denoiser, noise) - exact).abs().max() < 1e-3
    (start, _), (clean, end) = adaptive.states(denoiser, noise)
    assert (start.t, clean.t) == (1.0, None)
    assert torch.equal(end, adaptive(denoiser, noise))


@pytest.mark.parametrize("last_finite", [-10.0, 0.0])
def test_where_the_adaptive_flow_cannot_go_on_its_samples_are_no_numbers(last_finite: float) -> None:
    class Broken(MixtureDenoiser):
        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
            is_finite = self.schedule.log_snr(t) / 2 < last_finite
            return torch.where(is_finite, super().forward(x_t, t), torch.nan)

    denoiser = Broken(torch.ones(1), torch.zeros(1, 2), torch.ones(1, 2), VP)
    samples = SAMPLERS["adaptive"](steps=1)(denoiser, torch.ones(3, 2))
    assert samples.shape == (3, 2)
    assert samples.isnan().all()


def test_euler_and_ddim_without_noise_are_the_same() -> None:
    denoiser = mixture(VP)
    noise = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    euler, ddim = (SAMPLERS[name](steps=17, grid="karras")(denoiser, noise) for name in ("euler", "ddim"))
    torch.testing.assert_close(euler, ddim, rtol=1e-10, atol=1e-10)


def test_ddim_with_all_noise_fresh_is_ancestral() -> None:
    denoiser = mixture(LinearBeta())
    ancestral, ddim = SAMPLERS["ancestral"](steps=100), DDIM(steps=100, eta=1.0)
    noise = noise_for(ancestral, 50)
    torch.testing.assert_close(ddim(denoiser, *noise), ancestral(denoiser, *noise), rtol=1e-9, atol=1e-9)


def test_the_gauge_of_a_schedule_does_not_change_the_flow() -> None:
    """Variance exploding and preserving schedules of the same σ/α are one process in y = x/α."""
    exploding = VarianceExploding(sigma_min=0.01, sigma_max=30.0)
    noise = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exploding.prior_std = 1 / float(VP(torch.tensor(1.0))[0])  # the same start
    for name in ("euler", "heun", "dpm-solver-2", "dpmpp-2m", "dpmpp-3m"):
        points = [SAMPLERS[name](steps=20)(mixture(schedule), noise) for schedule in (VP, exploding)]
        torch.testing.assert_close(*points, rtol=1e-7, atol=1e-7)


class AtTimes(Sampler):
    """Another method's steps at given times."""

    def __init__(self, method: type[Sampler], times: Tensor) -> None:
        super().__init__(steps=len(times))
        self.method = method(steps=len(times))
        self.draws_per_step = self.method.draws_per_step
        self.times = times

    def levels(self, schedule: Schedule) -> list[Level]:
        alpha, sigma = schedule(self.times)
        clean = Level(None, torch.ones_like(alpha[0]), torch.zeros_like(alpha[0]))
        return [*(Level(*level) for level in zip(self.times, alpha, sigma, strict=True)), clean]

    def step(self, *args, **kwargs) -> Tensor:  # type: ignore[no-untyped-def]
        return self.method.step(*args, **kwargs)


def use_float64(scheduler) -> None:  # type: ignore[no-untyped-def]
    """Their β table in our precision: in float32 1 − ᾱ is off by up to 1e-3 of itself at the clean end."""
    scheduler.betas = torch.linspace(1e-4, 0.02, 100, dtype=torch.float64)
    scheduler.alphas = 1 - scheduler.betas
    scheduler.alphas_cumprod = torch.cumprod(scheduler.alphas, 0)


def run_diffusers(scheduler, denoiser: Denoiser, start: Tensor, fresh: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    """Their loop with our oracle's noise prediction and our random numbers."""
    module = scheduler.step.__globals__
    draws = iter([*fresh, torch.zeros_like(start)])
    saved = module.get("randn_tensor")
    module["randn_tensor"] = lambda shape, **_: next(draws)
    try:
        x = start
        for t in scheduler.timesteps:
            time = t.double()
            level = Level(time, *denoiser.schedule(time))
            epsilon = noise_of(x, denoiser(x, time), level)
            x = scheduler.step(epsilon, t, x).prev_sample
    finally:
        module["randn_tensor"] = saved
    return x


TABLE = {"num_train_timesteps": 100, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
DPM = {**TABLE, "timestep_spacing": "linspace", "final_sigmas_type": "zero"}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "make", "steps"),
    [
        ("ancestral", lambda: diffusers.DDPMScheduler(**TABLE, clip_sample=False), 100),
        ("ddim", lambda: diffusers.DDIMScheduler(**TABLE, clip_sample=False), 100),
        ("dpmpp-2m", lambda: diffusers.DPMSolverMultistepScheduler(**DPM, solver_order=2), 20),
        (
            "dpmpp-2m-sde",
            lambda: diffusers.DPMSolverMultistepScheduler(**DPM, solver_order=2, algorithm_type="sde-dpmsolver++"),
            20,
        ),
    ],
)
def test_steps_are_those_of_diffusers(name: str, make: Callable[[], object], steps: int) -> None:
    scheduler = make()
    use_float64(scheduler)
    scheduler.set_timesteps(steps)  # type: ignore[attr-defined]
    denoiser = mixture(LinearBeta())
    sampler = AtTimes(SAMPLERS[name], scheduler.timesteps.double())  # type: ignore[attr-defined]
    start, fresh = noise_for(sampler, 64)
    theirs = run_diffusers(scheduler, denoiser, start, torch.zeros(steps, 64, 2) if fresh is None else fresh)
    torch.testing.assert_close(sampler(denoiser, start, fresh), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("grid", ["uniform", "log-snr", "karras"])
@pytest.mark.parametrize("schedule", [VP, StraightLine(), LinearBeta()], ids=lambda s: type(s).__name__)
def test_grids_run_from_the_noisy_to_the_clean_end(schedule: Schedule, grid) -> None:  # type: ignore[no-untyped-def]
    times = step_times(schedule, 12, grid)
    assert times[0] == schedule.t_max
    assert times[-1] == schedule.t_min
    assert (times.diff() < 0).all()


@pytest.mark.parametrize(("name", "grid"), [("langevin", "uniform"), ("euler", "log-snr"), ("euler", "karras")])
def test_a_table_is_enough_for_more_steps_than_its_entries_unless_each_needs_an_entry(name: str, grid) -> None:  # type: ignore[no-untyped-def]
    table, sampler = LinearBeta(length=5), SAMPLERS[name](steps=12, grid=grid)
    assert len(sampler.levels(table)) == 13
    assert sampler.levels(table)[-2].t == table.t_min
    with pytest.raises(InputError, match="12 steps were asked of a schedule with 5 times"):
        SAMPLERS["euler"](steps=12, grid="uniform").levels(table)


def test_karras_grid_is_their_formula() -> None:
    alpha, sigma = VP(step_times(VP, 10, "karras"))
    i = torch.arange(10, dtype=torch.float64)
    expected = (30.0 ** (1 / 7) + i / 9 * (0.01 ** (1 / 7) - 30.0 ** (1 / 7))) ** 7
    torch.testing.assert_close(sigma / alpha, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_same_numbers_give_the_same_points(name: str) -> None:
    sampler = SAMPLERS[name](steps=8, grid="log-snr")
    noise = noise_for(sampler, 16)
    first, again = (sampler(mixture(VP), *noise) for _ in range(2))
    assert torch.equal(first, again)
    other = sampler(mixture(VP), *noise_for(sampler, 16, seed=1))
    assert not torch.allclose(first, other)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "adaptive"])
def test_a_point_does_not_depend_on_the_others(name: str) -> None:
    sampler = SAMPLERS[name](steps=8, grid="log-snr")
    start, fresh = noise_for(sampler, 16)
    alone = sampler(mixture(VP), start[3:4], None if fresh is None else fresh[:, 3:4])
    torch.testing.assert_close(sampler(mixture(VP), start, fresh)[3:4], alone, rtol=1e-12, atol=1e-12)


def test_noise_is_standard_normal_and_differs_between_blocks_and_seeds() -> None:
    noise = draw_noise(5, 0, dim=3, draws=10)
    assert noise.shape == (10, BLOCK, 3)
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    for seed, block in ((5, 1), (6, 0)):
        correlation = np.corrcoef(noise.ravel(), draw_noise(seed, block, dim=3, draws=10).ravel())[0, 1]
        assert abs(correlation) < 0.02


def test_points_do_not_depend_on_the_chunk_size() -> None:
    n = 3 * BLOCK + 17
    sampler = SAMPLERS["ancestral"](steps=5, grid="log-snr")
    draws = [
        np.concatenate(list(generate(sampler, mixture(VP), n, dim=2, seed=1, device=CPU, chunk=chunk)))
        for chunk in (1, 2 * BLOCK, 100 * BLOCK)
    ]
    assert draws[0].shape == (n, 2)
    assert all(np.array_equal(draws[0], draw) for draw in draws[1:])


def test_the_first_points_of_a_long_draw_are_those_of_a_short_one() -> None:
    sampler = SAMPLERS["ancestral"](steps=5, grid="log-snr")
    short, long = (
        np.concatenate(list(generate(sampler, mixture(VP), n, dim=2, seed=1, device=CPU))) for n in (10, BLOCK + 5)
    )
    np.testing.assert_allclose(short, long[:10], rtol=1e-10)


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_sample_of_a_limited_denoiser_grows_without_bound(name: str) -> None:
    """The network always answers far outside: at worst, a sample is at the end of the range plus a standard normal."""

    class Runaway(torch.nn.Linear):
        def forward(self, x: Tensor, t: Tensor, s: Tensor, *, stratified: bool = False) -> Tensor:  # type: ignore[override]
            return 20 * x

    denoiser = NetworkDenoiser(Runaway(1, 1).double(), VP, prediction="data").requires_grad_(False)
    sampler = build_sampler(SamplingConfig(sampler=name, steps=50, grid="log-snr"))
    noise = draw_noise(0, 0, dim=2, draws=sampler.draws)[:, :100]
    limited = copy.deepcopy(denoiser)
    limited.limit(torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    assert sampler(limited, noise[0], noise[1:]).abs().max() < 1 + 5
    if name == "dpmpp-2m-sde":
        assert sampler(denoiser, noise[0], noise[1:]).abs().max() > 1e6
