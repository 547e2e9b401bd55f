"""The loop that all samplers share, and the levels that it visits.

A sampler visits levels t_0 > t_1 > … > t_{N−1} and then the clean end, where α = 1 and σ = 0. A method is one ``step``
from a level to the next. Steps are written with what the denoiser says at the level they start from,

    x̂ = E[x | x_t]    and    ε̂ = (x_t − α_t x̂) / σ_t,

and with half the log signal-to-noise ratio, λ = log(α/σ), the natural time of diffusion solvers (Lu et al. 2022,
"DPM-Solver", §3). The state is kept in float64, the network runs in its own dtype.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from ..denoisers import Denoiser
from ..schedules import Schedule

__all__ = ["Grid", "History", "Level", "Sampler", "ask", "level_at", "noise_of", "step_times"]

Grid = Literal["uniform", "log-snr", "karras"]
"""How a sampler's levels are spaced: evenly in t, evenly in λ, or by Karras's rule."""

KARRAS_RHO = 7.0


@dataclass(frozen=True)
class Level:
    """A level of noise: the time (None at the clean end) with its α and σ; scalars of shape (), float64."""

    t: Tensor | None
    alpha: Tensor
    sigma: Tensor

    @property
    def lam(self) -> Tensor:
        """λ = log(α/σ), infinite at the clean end."""
        return torch.log(self.alpha / self.sigma)


History = list[tuple[Level, Tensor]]
"""(level, x̂) of the levels visited, the latest last."""


class Sampler(ABC):
    """The loop; a method adds ``step``.

    Args:
        steps: number of levels N that are visited before the clean end.
        grid: how they are spaced.

    Attributes:
        name: what ``--sampler`` calls it.
        draws_per_step: how many times ``step`` uses fresh noise; 0 for a deterministic method.

    """

    name: str
    draws_per_step: int = 0

    def __init__(self, *, steps: int, grid: Grid = "uniform") -> None:
        self.steps = steps
        self.grid: Grid = grid

    @property
    def stochastic(self) -> bool:
        """Whether the same start can end in different points."""
        return self.draws_per_step > 0

    @property
    def draws(self) -> int:
        """Standard normal vectors that one point takes: its start, and those of all steps but the last."""
        return 1 + self.draws_per_step * (self.steps - 1)

    @abstractmethod
    def step(self, denoiser: Denoiser, x: Tensor, now: Level, after: Level, z: Tensor, history: History) -> Tensor:
        """One move from x (n, d) at the level ``now`` to the level ``after``.

        Args:
            denoiser: to `ask` for x̂ at any level.
            x: (n, d), float64.
            now, after: two levels; ``after`` may be the clean end.
            z: fresh noise, (draws_per_step, n, d); zero in the last step, whose end is clean.
            history: of the levels before; a method that uses it appends to it.

        """

    def levels(self, schedule: Schedule) -> list[Level]:
        """Give the N levels of the walk and the clean end."""
        times = step_times(schedule, self.steps, self.grid)
        alpha, sigma = schedule(times)
        clean = Level(None, torch.ones_like(alpha[0]), torch.zeros_like(sigma[0]))
        return [*(Level(*level) for level in zip(times, alpha, sigma, strict=True)), clean]

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, noise: Tensor, step_noise: Tensor | None = None) -> Tensor:
        """Turn noise into points.

        Args:
            denoiser: E[x | x_t] with its schedule.
            noise: (n, d) standard normal, the start.
            step_noise: (draws − 1, n, d) standard normal, for stochastic methods.

        Returns:
            Points, (n, d), float64, in the denoiser's units.

        """
        x = denoiser.schedule.prior_std * noise.double()
        history: History = []
        k = self.draws_per_step
        nothing = x.new_zeros(k, *x.shape)
        for i, (now, after) in enumerate(pairwise(self.levels(denoiser.schedule))):
            z = nothing
            if step_noise is not None and after.t is not None:
                z = step_noise[i * k : (i + 1) * k].double()
            x = self.step(denoiser, x, now, after, z, history)
        return x


def ask(denoiser: Denoiser, x: Tensor, level: Level) -> Tensor:
    """x̂ = E[x | x_t], (n, d), at a level that has noise."""
    assert level.t is not None, "nothing is left to denoise at the clean end"
    denoised: Tensor = denoiser(x, level.t)
    return denoised


def noise_of(x: Tensor, denoised: Tensor, level: Level) -> Tensor:
    """ε̂ = (x_t − α_t x̂) / σ_t, (n, d)."""
    return (x - level.alpha * denoised) / level.sigma


def level_at(schedule: Schedule, lam: Tensor) -> Level:
    """Find the level with a given λ = log(α/σ)."""
    t = schedule.time(2 * lam)
    return Level(t, *schedule(t))


def step_times(schedule: Schedule, steps: int, grid: Grid) -> Tensor:
    """N decreasing times from t_max to t_min, (N,), float64.

    ``uniform`` spaces them evenly in t, ``log-snr`` evenly in λ, and ``karras`` by (Karras et al. 2022, eq. 5)

        (σ/α)_i = (s_max^{1/ρ} + i/(N−1)·(s_min^{1/ρ} − s_max^{1/ρ}))^ρ,  ρ = 7.

    A schedule whose α is zero at t_max has no finite λ there: the rules then start from its first level with one.

    Raises:
        InputError: a discrete schedule has fewer times than steps.

    """
    if grid == "uniform" or steps == 1:
        return schedule.times(steps)
    lam_start, lam_end = schedule.lam_start, schedule.lam_end
    fraction = torch.linspace(0, 1, steps, dtype=torch.float64, device=schedule.device)
    if grid == "log-snr":
        lam = torch.lerp(lam_start, lam_end, fraction)
    else:
        start, end = torch.exp(-lam_start / KARRAS_RHO), torch.exp(-lam_end / KARRAS_RHO)
        lam = -KARRAS_RHO * torch.lerp(start, end, fraction).log()
    times = schedule.time(2 * lam)
    times[0], times[-1] = schedule.ends  # exact, whatever the inverse rounded to
    return times
