"""Langevin dynamics: random walks up the slope of log p, which need no schedule between levels, only a score at each.

In y = x/α, with noise s = σ/α, the score of the noised data is (x̂ − y)/s² (Efron 2011, "Tweedie's formula and selection
bias"). A step of size δ = (rs)² keeps the ratio of signal to noise the same at every level (Song & Ermon 2019,
"Generative Modeling by Estimating Gradients of the Data Distribution", Alg. 1):

    y ← y + δ·(x̂ − y)/s² + √(2δ)·z = y + r²(x̂ − y) + √2·r·s·z.
"""

from __future__ import annotations

from torch import Tensor

from ..denoisers import Denoiser
from ..schedules import Schedule
from .base import Grid, History, Level, ask
from .flow import Euler

__all__ = ["AnnealedLangevin", "Langevin"]


class AnnealedLangevin(Euler):
    """A few Langevin steps at each level, from the noisiest to the least noisy, then x̂ (Song & Ermon 2019, Alg. 1).

    The walk only samples from a level's distribution as far as the levels are close and the steps many, and its
    variance around a mode is too large by a factor of 1/(1 − r²/2).
    """

    name = "annealed-langevin"
    draws_per_step = 5
    R = 0.5

    def step(self, denoiser: Denoiser, x: Tensor, now: Level, after: Level, z: Tensor, history: History) -> Tensor:
        """Walk at this level, and carry y on to the next."""
        if after.t is None:
            return ask(denoiser, x, now)
        if now.alpha == 0:
            return super().step(denoiser, x, now, after, z, history)
        for noise in z:
            step = self.R**2 * (ask(denoiser, x, now) - x / now.alpha)
            x = x + now.alpha * step + 2**0.5 * self.R * now.sigma * noise
        return x * after.alpha / now.alpha


class Langevin(AnnealedLangevin):
    """All steps at the least noisy level: the example of what annealing is for.

    Between separated modes log p has no slope to speak of, so that a walk hardly ever crosses, and each mode keeps the
    share of points that began near it (Song & Ermon 2019, §3.2).
    """

    name = "langevin"
    draws_per_step = 1

    def __init__(self, *, steps: int, grid: Grid = "uniform") -> None:
        super().__init__(steps=steps, grid=grid)

    def levels(self, schedule: Schedule) -> list[Level]:
        """Give the least noisy level N times, and the clean end."""
        *_, least, clean = super().levels(schedule)
        return [least] * self.steps + [clean]
