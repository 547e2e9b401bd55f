"""Solvers of the probability-flow ODE, from one level to the next.

In terms of y = x/α and the noise s = σ/α every Gaussian diffusion has the same flow, whose natural time is λ = −log s
(Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", eq. 4 and 81):

    dy/ds = (y − x̂)/s = ε̂,    dy/dλ = x̂ − y.

Where α = 0, x_t holds no signal, y is infinite and x̂ is the mean of the data. From there every method takes a step of
Euler's method.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from ..denoisers import Denoiser
from ..schedules import Schedule
from .base import History, Level, Sampler, ask, level_at, noise_of

__all__ = ["AdaptiveFlow", "DPMSolver2", "Euler", "Heun", "StochasticHeun"]


def _along(epsilon: Tensor, x: Tensor, now: Level, after: Level) -> Tensor:
    """y_s = y_t + (s_s − s_t)·ε̂ in terms of x = αy, from the level t = ``now`` to s = ``after``: (n, d)."""
    return after.alpha / now.alpha * (x - now.sigma * epsilon) + after.sigma * epsilon


class Euler(Sampler):
    """x_s = α_s x̂ + σ_s ε̂: first order, one evaluation of the denoiser per step; the same as DDIM with η = 0."""

    name = "euler"

    def step(self, denoiser: Denoiser, x: Tensor, now: Level, after: Level, z: Tensor, history: History) -> Tensor:
        """Follow the tangent; see `Sampler.step`."""
        denoised = ask(denoiser, x, now)
        return after.alpha * denoised + after.sigma * noise_of(x, denoised, now)


class Heun(Euler):
    """Second order, two evaluations of the denoiser per step and one in the last step (Karras et al. 2022, Alg. 1)."""

    name = "heun"

    def step(self, denoiser: Denoiser, x: Tensor, now: Level, after: Level, z: Tensor, history: History) -> Tensor:
        """Follow the mean of the tangents at both levels; see `Sampler.step`."""
        if after.t is None or now.alpha == 0:
            return super().step(denoiser, x, now, after, z, history)
        here = noise_of(x, ask(denoiser, x, now), now)
        ahead = _along(here, x, now, after)
        there = noise_of(ahead, ask(denoiser, ahead, after), after)
        return _along((here + there) / 2, x, now, after)


class StochasticHeun(Heun):
    """Heun's method with churn: each step first adds noise up to ŝ = (1 + γ)s (Karras et al. 2022, Alg. 2).

    γ = min(churn/N, √2 − 1), and the added noise is scaled by S_noise. ŝ never exceeds the noisiest level of the
    schedule.
    """

    name = "heun-stochastic"
    draws_per_step = 1
    CHURN = 40.0
    S_NOISE = 1.003

    def step(self, denoiser: Denoiser, x: Tensor, now: Level, after: Level, z: Tensor, history: History) -> Tensor:
        """Add noise, then take a step of Heun's method from ŝ; see `Sampler.step`."""
        if after.t is None or now.alpha == 0:
            return super().step(denoiser, x, now, after, z, history)
        gamma = min(self.CHURN / self.steps, 2**0.5 - 1)
        start = denoiser.schedule.lam_start
        churned = level_at(denoiser.schedule, torch.maximum(now.lam - np.log1p(gamma), start))
        s, s_hat = now.sigma / now.alpha, churned.sigma / churned.alpha
        added = self.S_NOISE * torch.sqrt((s_hat**2 - s**2).clamp(min=0)) * z[0]
        return super().step(denoiser, churned.alpha * (x / now.alpha + added), churned, after, z, history)


class DPMSolver2(Euler):
    """DPM-Solver-2, the midpoint method in λ (Lu et al. 2022, "DPM-Solver", Alg. 1, r = 1/2).

    Second order, two evaluations of the denoiser per step and one in the last step. With h = λ_s − λ_t and the level m
    in the middle, u = α_m/α_t·x − σ_m(e^{h/2} − 1)·ε̂ and x_s = α_s/α_t·x − σ_s(e^h − 1)·ε̂(u, m). Both are steps along a
    constant ε̂.
    """

    name = "dpm-solver-2"

    def step(self, denoiser: Denoiser, x: Tensor, now: Level, after: Level, z: Tensor, history: History) -> Tensor:
        """Follow the tangent at the level in the middle; see `Sampler.step`."""
        if after.t is None or now.alpha == 0:
            return super().step(denoiser, x, now, after, z, history)
        middle = level_at(denoiser.schedule, (now.lam + after.lam) / 2)
        u = _along(noise_of(x, ask(denoiser, x, now), now), x, now, middle)
        return _along(noise_of(u, ask(denoiser, u, middle), middle), x, now, after)


class AdaptiveFlow(Sampler):
    """Solves dy/dλ = x̂ − y by Dormand and Prince's pair of orders 4 and 5 with adaptive steps, and ends with x̂.

    The solver controls the error of all samples of a call together, so a sample depends, within the tolerance, on the
    samples in the same call. The number of steps in the configuration is not used: the whole way is one ``step``. If
    the solver fails, because a denoiser gives no finite numbers, all samples of the call are NaN.
    """

    name = "adaptive"
    fixed_steps = False
    RTOL, ATOL = 1e-4, 1e-5

    def levels(self, schedule: Schedule) -> list[Level]:
        """Give the noisiest level at which y is finite, and the clean end; see `Sampler.levels`."""
        start = level_at(schedule, schedule.lam_start)
        return [start, Level(None, torch.ones_like(start.alpha), torch.zeros_like(start.sigma))]

    def step(self, denoiser: Denoiser, x: Tensor, now: Level, after: Level, z: Tensor, history: History) -> Tensor:
        """Solve from ``now`` to the least noisy level, and give x̂ there; see `Sampler.step`."""
        schedule = denoiser.schedule
        ends = torch.stack([now.lam, schedule.lam_end])
        end = level_at(schedule, ends[1])

        def slope(lam: float, y: np.ndarray) -> np.ndarray:
            level = level_at(schedule, ends.new_tensor(lam))
            x_t = torch.from_numpy(y).to(x.device).reshape(x.shape) * level.alpha
            velocity: np.ndarray = (ask(denoiser, x_t, level) - x_t / level.alpha).cpu().numpy().ravel()
            if lam == ends[0] and not np.isfinite(velocity).all():
                raise FloatingPointError("The solver would look for its first step forever.")
            return velocity

        y = (x / now.alpha).cpu().numpy().ravel()
        try:
            solution = solve_ivp(slope, ends.tolist(), y, rtol=self.RTOL, atol=self.ATOL, t_eval=ends[1:].tolist())
        except FloatingPointError:
            return torch.full_like(x, torch.nan)
        if not solution.success:
            return torch.full_like(x, torch.nan)
        y_end = torch.from_numpy(solution.y[:, -1]).to(x.device).reshape(x.shape)
        return ask(denoiser, end.alpha * y_end, end)
