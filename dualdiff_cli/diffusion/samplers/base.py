"""The loop that all samplers share, and the noise levels that the loop visits.

A sampler visits the levels t_0 > t_1 > … > t_{N−1} and then the clean end, where α = 1 and σ = 0. The ``step``
from one level to the next defines the method. Steps are written in terms of the denoiser's answer at a level,

    x̂ = E[x | x_t]    and    ε̂ = (x_t − α_t x̂) / σ_t,

and of λ = log(α/σ), half the log signal-to-noise ratio, which is the natural time of diffusion solvers (Lu et al. 2022,
"DPM-Solver", §3). The state x is float64; the network computes in its own dtype.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor

from ...config.sections import Grid, SamplingConfig
from ..denoisers import Denoiser
from ..schedules import Schedule

__all__ = ["History", "Level", "Sampler", "ask", "level_at", "noise_of", "step_times"]

KARRAS_RHO = 7.0


@dataclass(frozen=True)
class Level:
    """A noise level: the time t (None at the clean end), α and σ; scalars of shape (), float64."""

    t: Tensor | None
    alpha: Tensor
    sigma: Tensor

    @property
    def lam(self) -> Tensor:
        """λ = log(α/σ), infinite at the clean end."""
        return torch.log(self.alpha / self.sigma)


History = list[tuple[Level, Tensor]]
"""Pairs (level, x̂) of the levels visited so far, the latest last."""


class Sampler(ABC):
    """The loop over the levels; a subclass defines ``step``.

    Args:
        steps: N, the number of levels that are visited before the clean end.
        grid: how the levels are spaced; see `step_times`.

    Attributes:
        name: the name of the method in ``config/registry.py``.
        draws_per_step: how many vectors of fresh noise one ``step`` uses; 0 for a deterministic method.
        fixed_steps: whether N alone decides the steps; False for a method that adapts its steps to the samples.

    """

    name: str
    draws_per_step: int = 0
    fixed_steps: bool = True

    def __init__(self, *, steps: int, grid: Grid = "uniform") -> None:
        self.steps = steps
        self.grid: Grid = grid

    @classmethod
    def from_config(cls, config: SamplingConfig) -> Self:
        """Make the sampler from the settings that it uses."""
        return cls(steps=config.steps, grid=config.grid)

    @property
    def stochastic(self) -> bool:
        """Whether the method uses fresh noise, so that the same start can end in different samples."""
        return self.draws_per_step > 0

    @property
    def draws(self) -> int:
        """How many standard normal vectors one sample takes: one for the start, and those of all steps but the last."""
        return 1 + self.draws_per_step * (self.steps - 1)

    @abstractmethod
    def step(self, denoiser: Denoiser, x: Tensor, now: Level, after: Level, z: Tensor, history: History) -> Tensor:
        """Go from x at the level ``now`` to the level ``after``.

        Args:
            denoiser: gives x̂ at any level that has noise; see `ask`.
            x: (n, d), float64.
            now, after: two levels, of which ``after`` may be the clean end.
            z: fresh standard normal noise, (draws_per_step, n, d); zero in the last step, which ends without noise.
            history: the levels before this one; a method that needs the history appends to it.

        Returns:
            x at the level ``after``, (n, d), float64.

        """

    def levels(self, schedule: Schedule) -> list[Level]:
        """Give the N levels and the clean end, N + 1 entries.

        Raises:
            InputError: the grid is uniform, and the schedule is a table with fewer entries than steps.

        """
        times = step_times(schedule, self.steps, self.grid)
        alpha, sigma = schedule(times)
        clean = Level(None, torch.ones_like(alpha[0]), torch.zeros_like(sigma[0]))
        return [*(Level(*level) for level in zip(times, alpha, sigma, strict=True)), clean]

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, noise: Tensor, step_noise: Tensor | None = None) -> Tensor:
        """Turn noise into samples.

        Args:
            denoiser: x̂ = E[x | x_t], with the schedule to follow.
            noise: the standard normal vectors to start from, (n, d).
            step_noise: the standard normal vectors of the steps, (draws − 1, n, d), for stochastic methods.

        Returns:
            Samples, (n, d), float64, in the units of the denoiser.

        Raises:
            InputError: the grid is uniform, and the schedule is a table with fewer entries than steps.

        """
        samples = noise
        for _, x in self.states(denoiser, noise, step_noise):
            samples = x
        return samples

    @torch.no_grad()
    def states(
        self, denoiser: Denoiser, noise: Tensor, step_noise: Tensor | None = None
    ) -> Iterator[tuple[Level, Tensor]]:
        """Give the samples on their way, at every level from the start to the clean end.

        The samples start from a Gaussian around `Denoiser.start_mean`.

        Args:
            denoiser, noise, step_noise: see `__call__`.

        Yields:
            A pair of each of the `levels` and x at this level, (n, d), float64.

        Raises:
            InputError: see `__call__`.

        """
        x = denoiser.schedule.prior_std * noise.double()
        history: History = []
        k = self.draws_per_step
        nothing = x.new_zeros(k, *x.shape)
        levels = self.levels(denoiser.schedule)
        first = levels[0]
        assert first.t is not None, "a walk starts where there is noise"
        mean = denoiser.start_mean(x, first.t, first.alpha)
        x = x if mean is None else x + mean
        yield first, x
        for i, (now, after) in enumerate(pairwise(levels)):
            z = nothing
            if step_noise is not None and after.t is not None:
                z = step_noise[i * k : (i + 1) * k].double()
            x = self.step(denoiser, x, now, after, z, history)
            yield after, x


def ask(denoiser: Denoiser, x: Tensor, level: Level) -> Tensor:
    """Evaluate x̂ = E[x | x_t] for x (n, d) at a level that has noise: (n, d)."""
    assert level.t is not None, "there is no noise to remove at the clean end"
    denoised: Tensor = denoiser(x, level.t)
    return denoised


def noise_of(x: Tensor, denoised: Tensor, level: Level) -> Tensor:
    """ε̂ = (x_t − α_t x̂) / σ_t for x_t and x̂ (n, d): (n, d)."""
    return (x - level.alpha * denoised) / level.sigma


def level_at(schedule: Schedule, lam: Tensor) -> Level:
    """The level with a given λ = log(α/σ), shape (); beyond an end of the schedule, the level of that end."""
    t = schedule.time(2 * lam)
    return Level(t, *schedule(t))


def step_times(schedule: Schedule, steps: int, grid: Grid) -> Tensor:
    """The times of N levels.

    ``uniform`` spaces the times evenly in t, ``log-snr`` evenly in λ, and ``karras`` so that (Karras et al. 2022,
    "Elucidating the Design Space of Diffusion-Based Generative Models", eq. 5)

        (σ/α)_i = (s_max^{1/ρ} + i/(N−1)·(s_min^{1/ρ} − s_max^{1/ρ}))^ρ,  ρ = 7.

    Where α is zero at t_max, λ is infinite there, and the last two rules space the times from `Schedule.lam_start`.

    Returns:
        Decreasing times from t_max to t_min, (N,), float64.

    Raises:
        InputError: the grid is uniform, and the schedule is a table with fewer entries than steps.

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
    times[0], times[-1] = schedule.ends  # the inverse rounds
    return times
