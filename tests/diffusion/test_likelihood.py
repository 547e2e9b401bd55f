"""The model's log-density, against Gaussians and mixtures, against one, and against its own order."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from closed_forms import gaussian_denoiser
from scipy.stats import norm

from dualdiff_cli.config.registry import SAMPLERS
from dualdiff_cli.config.sections import NetworkSettings
from dualdiff_cli.data import FloatArray, GaussianMixture
from dualdiff_cli.diffusion import likelihood
from dualdiff_cli.diffusion.denoisers import Denoiser
from dualdiff_cli.diffusion.exact import exact_denoiser
from dualdiff_cli.diffusion.likelihood import log_density, path_divergence
from dualdiff_cli.diffusion.network_denoiser import NetworkDenoiser
from dualdiff_cli.diffusion.networks.experts import build_network
from dualdiff_cli.diffusion.schedules import Schedule
from dualdiff_cli.diffusion.schedules.continuous import LogSNRUniform, StraightLine, VarianceExploding
from dualdiff_cli.diffusion.schedules.tables import LinearBeta

WIDE = LogSNRUniform(sigma_min=0.01, sigma_max=3000.0)
SCHEDULES: list[Schedule] = [
    LinearBeta(),  # ends with 60 % of the signal
    LogSNRUniform(sigma_min=0.01, sigma_max=5.0),
    VarianceExploding(sigma_min=0.01, sigma_max=5.0),
    StraightLine(),
]
THREE = GaussianMixture(
    np.array([0.5, 0.3, 0.2]),
    np.array([[-1.0, 0.5], [0.8, 0.8], [0.3, -1.2]]),
    np.array([[0.3, 0.2], [0.1, 0.4], [0.25, 0.25]]),
)


def blurred(mixture: GaussianMixture, s: float) -> GaussianMixture:
    return GaussianMixture(mixture.weights, mixture.means, np.sqrt(mixture.stds**2 + s**2))


def grid(half: float, n: int) -> tuple[FloatArray, float]:
    """Midpoints of n × n cells of the square [−half, half]², and a cell's area."""
    side = (np.arange(n) + 0.5) / n * 2 * half - half
    return np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2), (2 * half / n) ** 2


def random_network(schedule: Schedule) -> Denoiser:
    config = NetworkSettings(
        name="small", experts=2, width=16, blocks=1, gate_hidden=(8,), embedding="multiscale", finest_frequency=2.0
    )
    network = build_network(config, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.trunks.head[-1].weight.mul_(3)  # type: ignore[union-attr]
    return NetworkDenoiser(network, schedule, prediction="velocity")


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(("d", "off_centre"), [(1, False), (2, False), (3, False), (2, True)])
def test_a_gaussians_flow_has_its_closed_form_under_every_schedule(
    schedule: Schedule, d: int, off_centre: bool
) -> None:
    """y_0 = μ + k(y_T − μ) with k² = (v + s_0²)/(v + s_T²), from y_T ~ N(m, (prior/α_T)²).

    m is zero, or off the centre E[x | x_T = 0] = μ s_T²/(v + s_T²).
    """
    mean, std = torch.linspace(-0.5, 1.0, d, dtype=torch.float64), torch.linspace(0.3, 1.2, d, dtype=torch.float64)
    lam = torch.stack([schedule.lam_start, schedule.lam_end])
    s_end, s_start = torch.exp(-lam)  # the flow ends at the noise
    k = torch.sqrt((std**2 + s_start**2) / (std**2 + s_end**2))
    alpha_end = schedule(schedule.time(2 * lam[:1]))[0]
    m = mean * s_end**2 / (std**2 + s_end**2) if off_centre else torch.zeros_like(mean)
    expected = norm((mean + k * (m - mean)).numpy(), (k * schedule.prior_std / alpha_end).numpy())
    x = np.random.default_rng(0).normal(size=(20, d))
    denoiser = gaussian_denoiser(mean, std, schedule)
    denoiser.off_centre = off_centre
    found = log_density(denoiser, x)
    np.testing.assert_allclose(found, expected.logpdf(x).sum(axis=1), rtol=0, atol=1e-4)


def test_a_mixtures_flow_gives_the_mixture_with_the_least_noise_on_it() -> None:
    x = THREE.sample(300, np.random.default_rng(0))
    found = log_density(exact_denoiser(THREE, WIDE), x)
    np.testing.assert_allclose(found, blurred(THREE, 0.01).log_prob(x), rtol=0, atol=1e-3)
    assert abs(np.mean(found - blurred(THREE, 0.01).log_prob(x))) < 1e-4


def test_a_density_in_other_units_has_the_same_flow() -> None:
    shift, scale = np.array([0.2, -0.1]), np.array([0.5, 4.0])
    x = THREE.sample(50, np.random.default_rng(0))
    data = GaussianMixture(THREE.weights, shift + scale * THREE.means, THREE.stds * scale)
    found = log_density(exact_denoiser(data, WIDE, shift=shift, scale=scale), x)
    expected = log_density(exact_denoiser(THREE, WIDE), x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_a_mixtures_density_integrates_to_one() -> None:
    points, area = grid(3.0, 64)
    log_p = log_density(exact_denoiser(THREE, WIDE), points, step=0.2)
    assert np.exp(log_p).sum() * area == pytest.approx(1.0, abs=1e-3)


# What is random in t changes from entry to entry of a table, of which ten lie within 0.1 in λ.
@pytest.mark.parametrize(("schedule", "step"), [(SCHEDULES[0], 0.05), (SCHEDULES[1], 0.1)])
def test_a_networks_density_integrates_to_one_and_is_not_the_one_it_starts_from(
    schedule: Schedule, step: float
) -> None:
    points, area = grid(6.0, 40)
    p = np.exp(log_density(random_network(schedule), points, step=step))
    assert p.sum() * area == pytest.approx(1.0, abs=2e-3)
    gaussian = norm.pdf(points).prod(axis=1)
    assert np.abs(p - gaussian).sum() * area > 0.2


def test_a_networks_density_is_that_of_where_its_flow_takes_the_prior() -> None:
    """Probability of a half-plane, from the density and from points that Heun's method takes along the same flow."""
    denoiser = random_network(SCHEDULES[1])
    points, area = grid(6.0, 40)
    p = np.exp(log_density(denoiser, points))
    noise = torch.randn(8_000, 2, generator=torch.Generator().manual_seed(0))
    drawn = SAMPLERS["heun"](steps=20, grid="log-snr")(denoiser, noise).numpy()
    for axis in range(2):
        for cut in (-0.9, 0.0, 0.9):
            share = float(np.mean(drawn[:, axis] > cut))
            assert p[points[:, axis] > cut].sum() * area == pytest.approx(share, abs=0.02)


def test_the_error_falls_with_the_fourth_power_of_the_step() -> None:
    denoiser = exact_denoiser(THREE, WIDE)
    x = THREE.sample(100, np.random.default_rng(0))
    fine = log_density(denoiser, x, step=0.02)
    errors = [np.sqrt(np.mean((log_density(denoiser, x, step=step) - fine) ** 2)) for step in (0.2, 0.1, 0.05)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (orders > 3.5).all(), (errors, orders)


def test_points_do_not_depend_on_how_they_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = random_network(SCHEDULES[1])
    x = THREE.sample(10, np.random.default_rng(0))
    whole = log_density(denoiser, x, step=0.4)
    monkeypatch.setattr(likelihood, "_ROWS", 3)
    np.testing.assert_allclose(log_density(denoiser, x, step=0.4), whole, rtol=0, atol=1e-5)
    assert whole.dtype == np.float64


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_paths_of_two_gaussians_differ_by_their_closed_form(schedule: Schedule) -> None:
    """½‖Δ‖²/v·[1/(1 + r v)] between the ends of r = α²/σ²; over all of r that is the Gaussians' own divergence."""
    v, shift = 0.5, torch.tensor([0.3, -0.4], dtype=torch.float64)
    std = torch.full((2,), math.sqrt(v), dtype=torch.float64)
    true, moved = (gaussian_denoiser(mean, std, schedule) for mean in (torch.zeros(2).double(), shift))
    draws = torch.Generator().manual_seed(0)
    x = std * torch.randn(4_000, 2, generator=draws, dtype=torch.float64)
    terms = path_divergence(moved, true, x, seed=0)
    r_start, r_end = torch.exp(2 * torch.stack([schedule.lam_start, schedule.lam_end]))
    expected = 0.5 * float(shift @ shift) / v * float(1 / (1 + r_start * v) - 1 / (1 + r_end * v))
    assert terms.shape == (4_000,)
    assert float(terms.mean()) == pytest.approx(expected, rel=0.02 if schedule.discrete else 1e-3)


def test_paths_of_one_denoiser_do_not_differ() -> None:
    denoiser = random_network(SCHEDULES[1])
    assert not path_divergence(denoiser, denoiser, torch.randn(10, 2).double(), seed=0).any()
