"""Multistep exponential integrators in λ: one evaluation of the denoiser per step, higher order from earlier answers.

The flow in x with h = λ_s − λ_t is (Lu et al. 2022, "DPM-Solver++", eq. 8)

    x_s = σ_s/σ_t·x_t + σ_s ∫_{λ_t}^{λ_s} e^λ x̂(λ) dλ,

so the linear part is exact, and only x̂ is approximated, by a polynomial in λ through the latest answers. The first step
and the step to the clean end are of first order: DDIM or, with fresh noise, the ancestral sampler.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..denoisers import Denoiser
from .base import History, Level, Sampler, ask

__all__ = ["DPMSolverPP2M", "DPMSolverPP2MSDE", "DPMSolverPP3M"]


class _MultistepInputs(NamedTuple):
    """The inputs of one step: x and x̂ (n, d) at the level ``now``, pairs (r_j, D^j), h = λ_s − λ_t, and fresh noise."""

    x: Tensor
    denoised: Tensor
    slopes: list[tuple[Tensor, Tensor]]
    now: Level
    after: Level
    h: Tensor
    z: Tensor


def _slopes(history: History, denoised: Tensor, now: Level, h: Tensor, order: int) -> list[tuple[Tensor, Tensor]]:
    """The pairs (r_j, D^j) of the last order − 1 intervals, the latest first.

    r_j is the length of the interval in units of h, and D^j is the divided difference of x̂ over it, times h.
    """
    slopes = []
    level, value = now, denoised
    for before, earlier in reversed(history[-(order - 1) :]):
        r = (level.lam - before.lam) / h
        slopes.append((r, (value - earlier) / r))
        level, value = before, earlier
    return slopes


class DPMSolverPP2M(Sampler):
    """DPM-Solver++(2M) (Lu et al. 2022, "DPM-Solver++", Alg. 2), second order.

    x_s = σ_s/σ_t·x − α_s(e^{−h} − 1)·(x̂ + D/2),  D = (x̂ − x̂_before)/r,  r = h_before/h.
    """

    name = "dpmpp-2m"
    ORDER = 2

    def step(self, denoiser: Denoiser, x: Tensor, now: Level, after: Level, z: Tensor, history: History) -> Tensor:
        """Extrapolate x̂ and integrate; see `Sampler.step`."""
        denoised = ask(denoiser, x, now)
        if after.t is None:
            return denoised
        h = after.lam - now.lam
        slopes = _slopes(history, denoised, now, h, self.ORDER)
        history.append((now, denoised))
        return self._integrate(_MultistepInputs(x, denoised, slopes, now, after, h, z))

    def _integrate(self, step: _MultistepInputs) -> Tensor:
        x, denoised, slopes, now, after, h, _ = step
        estimate = denoised + sum(slope for _, slope in slopes) / 2
        x_s: Tensor = after.sigma / now.sigma * x - after.alpha * torch.expm1(-h) * estimate
        return x_s


class DPMSolverPP2MSDE(DPMSolverPP2M):
    """SDE-DPM-Solver++(2M) (Lu et al. 2022, "DPM-Solver++", §5): solves the reverse diffusion instead of the flow.

    x_s = σ_s/σ_t·e^{−h}·x + α_s(1 − e^{−2h})·(x̂ + D/2) + σ_s√(1 − e^{−2h})·z.
    """

    name = "dpmpp-2m-sde"
    draws_per_step = 1

    def _integrate(self, step: _MultistepInputs) -> Tensor:
        x, denoised, slopes, now, after, h, z = step
        estimate = denoised + sum(slope for _, slope in slopes) / 2
        fresh = -torch.expm1(-2 * h)
        x_s: Tensor = after.sigma / now.sigma * torch.exp(-h) * x + after.alpha * fresh * estimate
        return x_s + after.sigma * torch.sqrt(fresh) * z[0]


class DPMSolverPP3M(DPMSolverPP2M):
    """The third-order multistep form of DPM-Solver++ (Lu et al. 2022, "DPM-Solver++", §4.2).

    Let D⁰ and D¹ be the divided differences of x̂ over the last two intervals, and r₀ and r₁ the lengths of these
    intervals in units of h. The derivatives of x̂ in λ are h·x̂′ = D₁ and h²·x̂″ = D₂,

        D₁ = D⁰ + r₀/(r₀ + r₁)·(D⁰ − D¹),    D₂ = 2(D⁰ − D¹)/(r₀ + r₁),
        x_s = σ_s/σ_t·x − α_s(e^{−h} − 1)·x̂ + α_s((e^{−h} − 1)/h + 1)·D₁ − α_s((e^{−h} − 1 + h)/h² − 1/2)·D₂.

    The code that was published with the paper, and code derived from it, leaves out the factor 2 in D₂ and therefore
    does not reach third order.
    """

    name = "dpmpp-3m"
    ORDER = 3

    def _integrate(self, step: _MultistepInputs) -> Tensor:
        x, denoised, slopes, now, after, h, _ = step
        if len(slopes) < 2:
            return super()._integrate(step)
        (r_0, d_0), (r_1, d_1) = slopes
        D_2 = 2 * (d_0 - d_1) / (r_0 + r_1)
        D_1 = d_0 + r_0 / 2 * D_2
        decay = torch.expm1(-h)
        x_s: Tensor = after.sigma / now.sigma * x - after.alpha * decay * denoised
        return x_s + after.alpha * ((decay / h + 1) * D_1 - ((decay + h) / h**2 - 0.5) * D_2)
