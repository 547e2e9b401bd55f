"""The posterior mean of mixtures with any covariances, against other ways to compute it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dualdiff_cli import seeding
from dualdiff_cli.diffusion.mixtures import FullMixtureDenoiser, MixtureDenoiser
from dualdiff_cli.diffusion.schedules import Schedule
from dualdiff_cli.diffusion.schedules.continuous import LogSNRUniform, VarianceExploding

VP = LogSNRUniform(sigma_min=0.01, sigma_max=10.0)
SCHEDULES: list[Schedule] = [VP, VarianceExploding(sigma_min=0.01, sigma_max=10.0)]
TIMES = torch.tensor([0.0, 0.3, 0.6, 1.0], dtype=torch.float64)
WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
MEANS = torch.tensor([[0.0, 1.0], [2.0, -1.0], [-1.0, 0.5]], dtype=torch.float64)
STDS = torch.tensor([[0.3, 0.6], [0.1, 0.1], [1.0, 0.2]], dtype=torch.float64)


def noisy(n: int = 20, d: int = 2) -> Tensor:
    return 2 * torch.randn(n, d, generator=seeding.torch_stream(0, "noisy points"), dtype=torch.float64)


def rotation(angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s], [s, c]], dtype=torch.float64)


def rotated() -> Tensor:
    """The covariances of STDS, each turned by another angle, (3, 2, 2)."""
    turns = torch.stack([rotation(angle) for angle in (0.4, 1.1, -0.7)])
    return turns @ torch.diag_embed(STDS**2) @ turns.mT


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_diagonal_covariances_give_the_answers_of_the_diagonal_mixture(schedule: Schedule) -> None:
    diagonal = MixtureDenoiser(WEIGHTS, MEANS, STDS, schedule)
    full = FullMixtureDenoiser(WEIGHTS, MEANS, torch.diag_embed(STDS**2), schedule)
    for t in TIMES:
        torch.testing.assert_close(full(noisy(), t), diagonal(noisy(), t), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_one_gaussian_with_rotated_axes_has_the_linear_posterior_mean(schedule: Schedule) -> None:
    """μ + α Σ (α² Σ + σ² I)⁻¹ (x_t − α μ), by a linear solve and without eigenvectors.

    There are three columns, because two eigenvectors of two columns may form a matrix that is its own transpose.
    """
    mean, x_t = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64), noisy(d=3)
    root = torch.randn(3, 3, generator=seeding.torch_stream(0, "covariance"), dtype=torch.float64)
    covariance = root @ root.T
    denoiser = FullMixtureDenoiser(torch.ones(1), mean, covariance.unsqueeze(0), schedule)
    for t in TIMES:
        alpha, sigma = schedule(t)
        noised = alpha**2 * covariance + sigma**2 * torch.eye(3, dtype=torch.float64)
        expected = mean + alpha * torch.linalg.solve(noised, (x_t - alpha * mean).T).T @ covariance
        torch.testing.assert_close(denoiser(x_t, t), expected, rtol=1e-9, atol=1e-9)


def test_the_answer_is_the_integral_over_the_posterior() -> None:
    denoiser = FullMixtureDenoiser(WEIGHTS, MEANS, rotated(), VP)
    side = torch.linspace(-6, 6, 601, dtype=torch.float64)
    x = torch.cartesian_prod(side, side)
    density = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(WEIGHTS), torch.distributions.MultivariateNormal(MEANS, rotated())
    ).log_prob(x)
    for t in TIMES[1:]:
        alpha, sigma = VP(t)
        for x_t in noisy(4):
            posterior = torch.softmax(density - ((x_t - alpha * x) ** 2).sum(1) / (2 * sigma**2), dim=0)
            expected = posterior @ x
            torch.testing.assert_close(denoiser(x_t.unsqueeze(0), t)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_the_answer_follows_from_the_gradient_of_the_log_density(schedule: Schedule) -> None:
    """Tweedie's formula: α E[x | x_t] = x_t + σ² ∇ log p(x_t), with the gradient by autograd."""
    denoiser = FullMixtureDenoiser(WEIGHTS, MEANS, rotated(), schedule)
    for t in TIMES[1:]:
        alpha, sigma = schedule(t)
        x_t = noisy().requires_grad_()
        noised = torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(WEIGHTS),
            torch.distributions.MultivariateNormal(
                alpha * MEANS, alpha**2 * rotated() + sigma**2 * torch.eye(2, dtype=torch.float64)
            ),
        )
        (gradient,) = torch.autograd.grad(noised.log_prob(x_t).sum(), x_t)
        torch.testing.assert_close(alpha * denoiser(x_t, t), x_t + sigma**2 * gradient, rtol=1e-8, atol=1e-8)


def test_one_time_for_all_points_is_the_same_time_for_each() -> None:
    denoiser = FullMixtureDenoiser(WEIGHTS, MEANS, rotated(), VP)
    for t in TIMES:
        torch.testing.assert_close(denoiser(noisy(), t), denoiser(noisy(), t.expand(20)), rtol=1e-12, atol=1e-12)


def test_each_point_is_denoised_at_its_own_time() -> None:
    denoiser = FullMixtureDenoiser(WEIGHTS, MEANS, rotated(), VP)
    x_t = noisy(4)
    alone = torch.cat([denoiser(x.unsqueeze(0), t) for x, t in zip(x_t, TIMES, strict=True)])
    torch.testing.assert_close(denoiser(x_t, TIMES), alone, rtol=1e-12, atol=1e-12)


def test_the_answer_has_the_dtype_of_the_point() -> None:
    denoiser = FullMixtureDenoiser(WEIGHTS, MEANS, rotated(), VP)
    exact = denoiser(noisy(), TIMES[1])
    rounded = denoiser(noisy().float(), TIMES[1])
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rounding", [0.0, -1e-3])
def test_a_direction_without_variance_is_answered_by_its_mean(rounding: float) -> None:
    """A covariance of rank one; rounding may make its zero eigenvalue negative, even below −σ² at the least noise."""
    direction = torch.tensor([3.0, 4.0], dtype=torch.float64) / 5
    normal = torch.tensor([-4.0, 3.0], dtype=torch.float64) / 5
    covariance = torch.outer(direction, direction) + rounding * torch.outer(normal, normal)
    denoiser = FullMixtureDenoiser(torch.ones(1), MEANS[1:2], covariance.unsqueeze(0), VP)
    for t in TIMES:
        answer = denoiser(noisy(), t)
        torch.testing.assert_close(answer @ normal, (MEANS[1] @ normal).expand(20), rtol=1e-6, atol=1e-6)
    assert bool((denoiser.eigenvalues >= 0).all())


def test_gaussians_without_any_variance_are_finite_at_every_level() -> None:
    denoiser = FullMixtureDenoiser(WEIGHTS, MEANS, torch.zeros(3, 2, 2), VP)
    for t in TIMES:
        answer = denoiser(noisy(), t)
        assert bool(answer.isfinite().all())
        assert bool((answer >= MEANS.amin(0) - 1e-9).all() & (answer <= MEANS.amax(0) + 1e-9).all())
