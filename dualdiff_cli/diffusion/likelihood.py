"""Log-densities of a model by the probability flow, with the exact divergence.

A denoiser defines the flow dy/dλ = x̂ − y of y = x_t/α along λ = log(α/σ), and with the Gaussian that sampling starts
from a density at every level (Song et al. 2021, "Score-Based Generative Modeling through SDEs", eq. 39; Chen et al.
2018, "Neural Ordinary Differential Equations", eq. 8). The coordinate u = c·y with c = 1/√(1 + (σ/α)²) keeps the
variance of standardised data, so that what is left to integrate is the data's departure from a standard Gaussian:

    du/dλ = c(x̂ − c·u),    d log p(u)/dλ = −c(tr ∂x̂/∂u − c·d).

The flow ends at the least noise level: what is computed is the density of the model's points with noise of standard
deviation σ/α at t_min (in the model's units) on them, which is a density as well, and the one that the network was
trained down to. Deterministic samplers draw from this density; stochastic ones from another, often a better one, which
is the same only as far as the network is a true posterior mean.

How far it is from one can be said without samples where the true posterior mean x̂* is known. The laws of whole paths of
the reverse diffusion, from noise to data, differ by

    D(path ‖ path_θ) = ½ ∫ E‖ε̂ − ε̂*‖² dγ,    γ = log(α²/σ²),    ε̂ = (x_t − α x̂)/σ,

an upper bound of the divergence of the points they end in (Song et al. 2021, "Maximum Likelihood Training of
Score-Based Diffusion Models", theorem 1, less the divergence at t_max, which no network can change).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..compute.device import generator
from ..data import FloatArray
from .denoisers import Denoiser
from .schedules import Schedule

__all__ = ["STEP", "log_density", "path_divergence"]

STEP = 0.1
"""Largest step in λ."""
ROWS = 1024
"""Points whose activations are held at once."""


class _Level(NamedTuple):
    """Time, c, and x_t/u = √(α² + σ²) at one node of the grid; scalars of shape (), float64."""

    t: Tensor
    c: Tensor
    r: Tensor


def log_density(denoiser: Denoiser, points: FloatArray, *, step: float = STEP) -> FloatArray:
    """Log-density of the model at points (n, d) in data units: (n,), nats per unit of volume of the data.

    The flow is followed by the classical Runge–Kutta method from t_min to t_max, the divergence is integrated by
    Simpson's rule over its nodes; both are of fourth order in the step. The divergence takes d products with the
    Jacobian. The state is float64, a network runs in its own dtype. Where α is zero at t_max the flow ends at the
    schedule's last finite λ, and the Gaussian is taken to hold there.

    Args:
        denoiser: E[x | x_t], differentiable in x_t.
        scaler: from data units to the denoiser's.
        points: (n, d).
        step: largest step in λ.

    """
    schedule = denoiser.schedule
    levels, h = _grid(schedule, step)
    x_0 = torch.from_numpy(points).to(schedule.device)
    parts = [_follow(denoiser, x, levels, h) for x in torch.split(x_0, ROWS)]
    values: FloatArray = torch.cat(parts).cpu().numpy()
    return values


@torch.no_grad()
def path_divergence(denoiser: Denoiser, exact: Denoiser, x: Tensor, *, seed: int) -> Tensor:
    """Terms of the divergence between the true and the model's paths from noise to data: (n,), nats, float64.

    Their mean is an unbiased estimate: each point is noised once, with γ drawn from its own slice of the axis.

    Args:
        denoiser: the model, x̂.
        exact: the true posterior mean x̂* under the same schedule.
        x: clean points in the denoisers' units, (n, d), on their device.
        seed: of levels and noise.

    """
    schedule, n = denoiser.schedule, len(x)
    draws = generator(seed, x.device)
    u = (torch.arange(n, device=x.device) + torch.rand(n, generator=draws, device=x.device, dtype=torch.float64)) / n
    start, end = 2 * schedule.lam_start, 2 * schedule.lam_end
    t = schedule.time(torch.lerp(start, end, u))
    t = t.round() if schedule.discrete else t
    alpha, sigma = (c.unsqueeze(1) for c in schedule(t))
    x_t = alpha * x + sigma * torch.randn(x.shape, generator=draws, device=x.device)
    rows = zip(torch.split(x_t, ROWS), torch.split(t, ROWS), strict=True)
    error = torch.cat([denoiser(*row) - exact(*row) for row in rows])
    terms: Tensor = 0.5 * (end - start) * (alpha / sigma * error).square().sum(1)
    return terms


def _grid(schedule: Schedule, step: float) -> tuple[list[_Level], Tensor]:
    """The nodes of an even number of steps and their midpoints, from data to noise; and the step, which is negative."""
    start, end = schedule.lam_end, schedule.lam_start
    steps = 2 * max(1, math.ceil(float(start - end) / (2 * step)))
    fraction = torch.linspace(0, 1, 2 * steps + 1, dtype=torch.float64, device=schedule.device)
    t = schedule.time(2 * torch.lerp(start, end, fraction))
    alpha, sigma = schedule(t)
    r = torch.sqrt(alpha**2 + sigma**2)
    return [_Level(*level) for level in zip(t, alpha / r, r, strict=True)], (end - start) / steps


def _follow(denoiser: Denoiser, x: Tensor, levels: list[_Level], h: Tensor) -> Tensor:
    """Log-density at x (n, d) in the denoiser's units, (n,)."""
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
    prior = denoiser.schedule.prior_std
    z = last.r * u / prior
    log_p_end = -0.5 * (z**2).sum(1) + d * (last.r.log() - math.log(prior) - 0.5 * math.log(2 * math.pi))
    return log_p_end + change + d * levels[0].c.log()


@torch.no_grad()
def _velocity(denoiser: Denoiser, u: Tensor, level: _Level) -> Tensor:
    """du/dλ, (n, d)."""
    velocity: Tensor = level.c * (denoiser(level.r * u, level.t) - level.c * u)
    return velocity


def _velocity_and_divergence(denoiser: Denoiser, u: Tensor, level: _Level) -> tuple[Tensor, Tensor]:
    """du/dλ, (n, d), and its divergence, (n,)."""
    d = u.shape[1]
    with torch.enable_grad():
        u = u.detach().requires_grad_()
        denoised = denoiser(level.r * u, level.t)
        rows = [torch.autograd.grad(denoised[:, i].sum(), u, retain_graph=i < d - 1)[0][:, i] for i in range(d)]
    velocity = level.c * (denoised.detach() - level.c * u.detach())
    return velocity, level.c * (torch.stack(rows).sum(0) - level.c * d)
