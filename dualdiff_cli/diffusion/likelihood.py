"""Log-densities of a model by the probability flow, and the divergence between a model and the exact denoiser.

A denoiser defines the flow dy/dλ = x̂ − y of y = x_t/α along λ = log(α/σ). Together with the Gaussian that sampling
starts from, the flow defines a density at every noise level (Song et al. 2021, "Score-Based Generative Modeling through
SDEs", eq. 39; Chen et al. 2018, "Neural Ordinary Differential Equations", eq. 8). The coordinate u = c·y with
c = 1/√(1 + (σ/α)²) keeps standardised data at unit variance, so only the difference from a standard Gaussian has to be
integrated:

    du/dλ = c(x̂ − c·u),    d log p(u)/dλ = −c(tr ∂x̂/∂u − c·d).

The flow ends at the lowest noise level that the network was trained at. The result is therefore the density of the
model's samples plus Gaussian noise of standard deviation σ/α at t_min, in the units of the model. Deterministic
samplers draw from this density. Stochastic samplers draw from another density, often a better one; the two agree only
if the network is an exact posterior mean.

Where the exact posterior mean x̂* is known, the error of the network is measured without samples. The distributions of
whole paths of the reverse diffusion, from noise to data, differ by

    D(path ‖ path_θ) = ½ ∫ E‖ε̂ − ε̂*‖² dγ,    γ = log(α²/σ²),    ε̂ = (x_t − α x̂)/σ,

which is an upper bound of the divergence of the samples (Song et al. 2021, "Maximum Likelihood Training of Score-Based
Diffusion Models", theorem 1, without the divergence at t_max, which no network can change).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .. import seeding
from ..data import FloatArray
from .denoisers import Denoiser
from .schedules import Schedule

__all__ = ["LARGEST_STEP", "log_density", "path_divergence"]

LARGEST_STEP = 0.1
"""The largest step in λ of the integration of the flow."""
_ROWS = 1024
"""The number of points whose activations are in memory at the same time."""


class _Node(NamedTuple):
    """t, c = α/r and r = x_t/u = √(α² + σ²) at one node of the grid; scalars of shape (), float64."""

    t: Tensor
    c: Tensor
    r: Tensor


def log_density(denoiser: Denoiser, points: FloatArray, *, step: float = LARGEST_STEP) -> FloatArray:
    """Compute the log-density of the model at points in the units of the denoiser.

    The classical Runge–Kutta method follows the flow from t_min to t_max, and Simpson's rule integrates the divergence
    over the nodes; both are of fourth order in the step. The divergence takes d vector–Jacobian products. The state is
    float64; the network computes in its own dtype. Where α is zero at t_max, the flow ends at `Schedule.lam_start`, and
    the Gaussian that sampling starts from, around `Denoiser.start_mean`, is assumed there.

    Args:
        denoiser: E[x | x_t], differentiable in x_t.
        points: (n, d).
        step: the largest step in λ.

    Returns:
        Nats, (n,).

    """
    schedule = denoiser.schedule
    levels, h = _grid(schedule, step)
    x_0 = torch.from_numpy(points).to(schedule.device)
    parts = [_follow(denoiser, x, levels, h) for x in torch.split(x_0, _ROWS)]
    values: FloatArray = torch.cat(parts).cpu().numpy()
    return values


@torch.no_grad()
def path_divergence(denoiser: Denoiser, exact: Denoiser, x: Tensor, *, seed: int) -> Tensor:
    """Estimate D(path ‖ path_θ), the divergence between the exact and the model's paths from noise to data.

    Each point is noised once, at a γ drawn from the point's own slice of the axis of γ. The mean of the terms is an
    unbiased estimate.

    Args:
        denoiser: the model, x̂.
        exact: the exact posterior mean x̂* under the same schedule.
        x: clean points in the units of the denoisers, (n, d), on the device of the denoisers.
        seed: of the noise levels and the noise.

    Returns:
        One term per point, (n,), nats, float64.

    """
    schedule, n = denoiser.schedule, len(x)
    draws = seeding.torch_stream(seed, "path divergence", x.device)
    u = (torch.arange(n, device=x.device) + torch.rand(n, generator=draws, device=x.device, dtype=torch.float64)) / n
    start, end = 2 * schedule.lam_start, 2 * schedule.lam_end
    t = schedule.time(torch.lerp(start, end, u))
    t = t.round() if schedule.discrete else t
    x_t = schedule.add_noise(x, torch.randn(x.shape, generator=draws, device=x.device), t)
    rows = zip(torch.split(x_t, _ROWS), torch.split(t, _ROWS), strict=True)
    error = torch.cat([denoiser(*row) - exact(*row) for row in rows])
    alpha, sigma = schedule.alpha_sigma(t, x)
    return 0.5 * (end - start) * (alpha / sigma * error).square().sum(1)


def _grid(schedule: Schedule, step: float) -> tuple[list[_Node], Tensor]:
    """The nodes and midpoints of an even number of steps, from data to noise, and the step h < 0 in λ."""
    start, end = schedule.lam_end, schedule.lam_start
    steps = 2 * max(1, math.ceil(float(start - end) / (2 * step)))
    fraction = torch.linspace(0, 1, 2 * steps + 1, dtype=torch.float64, device=schedule.device)
    t = schedule.time(2 * torch.lerp(start, end, fraction))
    alpha, sigma = schedule(t)
    r = torch.sqrt(alpha**2 + sigma**2)
    return [_Node(*level) for level in zip(t, alpha / r, r, strict=True)], (end - start) / steps


def _follow(denoiser: Denoiser, x: Tensor, levels: list[_Node], h: Tensor) -> Tensor:
    """Compute the log-density at x (n, d), both in the units of the denoiser: (n,)."""
    n, d = x.shape
    u = levels[0].c * x
    change = torch.zeros(n, dtype=torch.float64, device=x.device)
    for i in range(0, len(levels), 2):
        simpson = 1 if i in (0, len(levels) - 1) else 4 if i % 4 else 2
        k_1, divergence = _velocity_and_divergence(denoiser, u, levels[i])
        change += simpson * h / 3 * divergence
        if i < len(levels) - 1:
            _, middle, after = levels[i : i + 3]
            k_2 = _velocity(denoiser, u + h / 2 * k_1, middle)
            k_3 = _velocity(denoiser, u + h / 2 * k_2, middle)
            k_4 = _velocity(denoiser, u + h * k_3, after)
            u = u + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)
    last = levels[-1]
    prior, x_end = denoiser.schedule.prior_std, last.r * u
    with torch.no_grad():
        mean = denoiser.start_mean(x_end, last.t, last.c * last.r)
    z = (x_end if mean is None else x_end - mean) / prior
    log_p_end = -0.5 * (z**2).sum(1) + d * (last.r.log() - math.log(prior) - 0.5 * math.log(2 * math.pi))
    return log_p_end + change + d * levels[0].c.log()


@torch.no_grad()
def _velocity(denoiser: Denoiser, u: Tensor, level: _Node) -> Tensor:
    """du/dλ = c(x̂ − c·u) at u (n, d): (n, d)."""
    velocity: Tensor = level.c * (denoiser(level.r * u, level.t) - level.c * u)
    return velocity


def _velocity_and_divergence(denoiser: Denoiser, u: Tensor, level: _Node) -> tuple[Tensor, Tensor]:
    """du/dλ at u (n, d), (n, d), and the divergence of du/dλ, (n,)."""
    d = u.shape[1]
    with torch.enable_grad():
        u = u.detach().requires_grad_()
        denoised = denoiser(level.r * u, level.t)
        rows = [torch.autograd.grad(denoised[:, i].sum(), u, retain_graph=i < d - 1)[0][:, i] for i in range(d)]
    velocity = level.c * (denoised.detach() - level.c * u.detach())
    return velocity, level.c * (torch.stack(rows).sum(0) - level.c * d)
