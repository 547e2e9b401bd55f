"""Exact denoisers, against importance sampling with the densities' own log-densities and against brute quadrature."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.special import roots_legendre
from scipy.stats import truncnorm

from dualdiff_cli.data import DENSITIES, Boxes, Density, Discs, FloatArray
from dualdiff_cli.diffusion import exact as oracles
from dualdiff_cli.diffusion.exact import BoxesDenoiser, exact_denoiser
from dualdiff_cli.diffusion.schedules.continuous import LogSNRUniform, StraightLine

VP = LogSNRUniform(sigma_min=1e-4, sigma_max=100.0)
ELLIPSES = Discs(np.array([0.7, 0.3]), np.array([[0.0, 0.0], [0.3, 0.1]]), 0.1, name="ellipses")


class Scaler(NamedTuple):
    """z = (x − shift)/scale and back."""

    shift: FloatArray
    scale: FloatArray

    def transform(self, x: FloatArray) -> FloatArray:
        return (x - self.shift) / self.scale

    def inverse(self, z: FloatArray) -> FloatArray:
        return z * self.scale + self.shift


OBLONG = Scaler(np.array([0.1, -0.2]), np.array([1.0, 1.7]))


class Estimate(NamedTuple):
    mean: FloatArray
    error: FloatArray


def scaler_of(density: Density) -> Scaler:
    x = density.sample(20_000, np.random.default_rng(0))
    return Scaler(x.mean(axis=0), x.std(axis=0))


def denoise(density: Density, scaler: Scaler, y: FloatArray, s: float) -> FloatArray:
    """E[x | x + sε = y], rows of y in the scaler's units."""
    t = VP.time(torch.tensor(-2 * np.log(s), dtype=torch.float64))
    points: FloatArray = exact_denoiser(density, VP, **scaler._asdict())(VP(t)[0] * torch.from_numpy(y), t).numpy()
    return points


def weighted(x: FloatArray, log_weight: FloatArray) -> Estimate:
    """Self-normalised importance sampling with its standard error."""
    w = np.exp(log_weight - log_weight.max())[:, None]
    mean = (w * x).sum(0) / w.sum()
    return Estimate(mean, np.sqrt((w**2 * (x - mean) ** 2).sum(0)) / w.sum())


def awkward_points(density: Density, scaler: Scaler, s: float, n: int = 4) -> FloatArray:
    """Noisy points; of boxes, those from a corner, since inside there is nothing to denoise."""
    rng = np.random.default_rng(1)
    x = density.sample(n, rng)
    if isinstance(density, Boxes):
        x = density.centres[np.arange(n) % len(density.centres)] + density.half_widths
    y: FloatArray = scaler.transform(x) + s * rng.standard_normal(x.shape)
    return y


@pytest.mark.parametrize("s", [0.002, 0.02, 0.1])
@pytest.mark.parametrize("name", DENSITIES)
def test_at_low_noise_the_posterior_mean_is_that_of_points_about_y_weighted_by_the_density(name: str, s: float) -> None:
    density = DENSITIES[name]
    scaler, rng = scaler_of(density), np.random.default_rng(2)
    points = awkward_points(density, scaler, s)
    for y, found in zip(points, denoise(density, scaler, points, s), strict=True):
        x = y + s * rng.standard_normal((6_000, density.dim))
        expected = weighted(x, density.log_prob(scaler.inverse(x)))
        assert (expected.error < 0.2 * s).all(), "too coarse to tell anything"
        assert (np.abs(found - expected.mean) < 5 * expected.error).all()


@pytest.mark.parametrize("s", [0.5, 5.0])
@pytest.mark.parametrize("name", DENSITIES)
def test_at_high_noise_it_is_that_of_the_densitys_points_weighted_by_the_noise(name: str, s: float) -> None:
    density = DENSITIES[name]
    scaler = scaler_of(density)
    x = scaler.transform(density.sample(50_000, np.random.default_rng(2)))
    points = awkward_points(density, scaler, s)
    for y, found in zip(points, denoise(density, scaler, points, s), strict=True):
        expected = weighted(x, -0.5 * ((y - x) ** 2).sum(1) / s**2)
        assert (expected.error < 0.05).all()
        assert (np.abs(found - expected.mean) < 5 * expected.error).all()


@pytest.mark.parametrize("s", [0.002, 0.01, 0.1, 1.0])
def test_scaled_discs_are_ellipses_to_nine_digits(s: float) -> None:
    """Every point of the ellipse, on a polar grid, weighted by the noise; R = 0.1 is fifty times the lowest level."""
    node, weight = roots_legendre(200)
    theta = np.arange(2_000) * 2 * np.pi / 2_000
    rays = np.stack([np.cos(theta), np.sin(theta)], axis=1)
    disc = (ELLIPSES.radius * (node[:, None, None] + 1) / 2 * rays).reshape(-1, 2)
    x = OBLONG.transform(np.concatenate([centre + disc for centre in ELLIPSES.centres]))
    log_p = np.log(np.outer(ELLIPSES.weights, np.repeat(weight, len(theta)))).ravel()

    rng = np.random.default_rng(0)
    on_purpose = np.array([ELLIPSES.centres[0], ELLIPSES.centres[1], [0.1, 0.0], [0.15, 0.05], [0.0, -0.3]])
    points = OBLONG.transform(np.concatenate([on_purpose, ELLIPSES.sample(3, rng)]))
    points[5:] += s * rng.standard_normal((3, 2))
    for y, found in zip(points, denoise(ELLIPSES, OBLONG, points, s), strict=True):
        expected = weighted(x, log_p - 0.5 * ((y - x) ** 2).sum(1) / s**2).mean
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("width", [1e-3, 0.5, 3.0, 50.0])
@pytest.mark.parametrize("outside", [-30.0, -2.0, 0.0, 3.0, 30.0])
def test_an_interval_keeps_its_digits_far_outside_and_at_any_width(width: float, outside: float) -> None:
    """In units of the noise; against SciPy's truncated normal, whose own digits end at about the tolerance."""
    half = np.array([width / 2])
    t = VP.time(torch.tensor(0.0, dtype=torch.float64))  # α = σ
    y = outside - half if outside < 0 else outside + half
    found = BoxesDenoiser(np.zeros((1, 1)), half, VP)(VP(t)[0] * torch.from_numpy(y)[None], t).item()
    expected = y[0] + truncnorm.mean(-half[0] - y[0], half[0] - y[0])
    assert -half[0] <= found <= half[0]
    assert found == pytest.approx(expected, abs=1e-8 * max(1.0, width))


@pytest.mark.parametrize("name", DENSITIES)
def test_pure_noise_says_no_more_than_the_mean(name: str) -> None:
    density = DENSITIES[name]
    x_t = torch.tensor([[0.3, -1.2], [3.0, 0.1]])
    found = exact_denoiser(density, StraightLine())(x_t, torch.tensor(1.0)).numpy()
    sample = density.sample(40_000, np.random.default_rng(0))
    error = sample.std(axis=0) / 200
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert (np.abs(found[0] - sample.mean(axis=0)) < 5 * error).all()
    assert found.dtype == np.float32


@pytest.mark.parametrize("name", DENSITIES)
def test_a_point_does_not_depend_on_the_others_nor_on_how_they_are_cut(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    density = DENSITIES[name]
    x_t = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.linspace(0.3, 1.0, 50, dtype=torch.float64)
    together = exact_denoiser(density, VP)(x_t, t)
    monkeypatch.setattr(oracles, "LARGEST_TEMPORARY", 3_000)
    denoiser = exact_denoiser(density, VP)
    torch.testing.assert_close(denoiser(x_t, t), together, rtol=1e-10, atol=1e-10)
    alone = torch.cat([denoiser(x_t[i : i + 1], t[i]) for i in range(0, 50, 10)])
    torch.testing.assert_close(alone, together[::10], rtol=1e-10, atol=1e-10)
