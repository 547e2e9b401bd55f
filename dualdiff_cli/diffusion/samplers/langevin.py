"""Langevin dynamics: random walks along the gradient of log p at a fixed noise level.

In terms of y = x/α and the noise s = σ/α, the score of the noised data is (x̂ − y)/s² (Efron 2011, "Tweedie's formula
and selection bias"). With the step size δ = (rs)² every level has the same signal-to-noise ratio (Song & Ermon 2019,
"Generative Modeling by Estimating Gradients of the Data Distribution", Alg. 1):

    y ← y + δ·(x̂ − y)/s² + √(2δ)·z = y + r²(x̂ − y) + √2·r·s·z.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..denoisers import Denoiser
from ..schedules import Schedule
from .base import History, Level, ask
from .flow import Euler

__all__ = ["AnnealedLangevin", "Langevin"]


class AnnealedLangevin(Euler):
    """A few Langevin steps at each level but the last, where x̂ is the sample (Song & Ermon 2019, Alg. 1).

    The method is exact only in the limit of many levels and many steps at each. The variance around a mode is too large
    by the factor 1/(1 − r²/2).
    """

    name = "annealed-langevin"
    draws_per_step = 5
    R = 0.5

    def step(self, denoiser: Denoiser, x: Tensor, now: Level, after: Level, z: Tensor, history: History) -> Tensor:
        """Take the Langevin steps at this level, and keep y at the next level; see `Sampler.step`."""
        if after.t is None:
            return ask(denoiser, x, now)
        if now.alpha == 0:
            return super().step(denoiser, x, now, after, z, history)
        for noise in z:
            step = self.R**2 * (ask(denoiser, x, now) - x / now.alpha)
            x = x + now.alpha * step + 2**0.5 * self.R * now.sigma * noise
        return x * after.alpha / now.alpha


class Langevin(AnnealedLangevin):
    """All steps at the least noisy level, which shows why annealing is needed.

    Between separated modes log p has almost no slope. A walk therefore hardly ever moves from one mode to another, and
    each mode keeps the share of samples that started near it (Song & Ermon 2019, §3.2).
    """

    name = "langevin"
    draws_per_step = 1

    def levels(self, schedule: Schedule) -> list[Level]:
        """Give the least noisy level N times, whatever the grid, and the clean end; see `Sampler.levels`."""
        t = schedule.ends[1]
        least = Level(t, *schedule(t))
        return [least] * self.steps + [Level(None, torch.ones_like(least.alpha), torch.zeros_like(least.sigma))]
