"""Samplers that follow the Gaussian posterior q(x_s | x_t, x) of the forward process, s < t.

With α_{t|s} = α_t / α_s and σ²_{t|s} = σ_t² − α²_{t|s} σ_s² (Kingma et al. 2021, "Variational Diffusion Models", A.1),

    q(x_s | x_t, x) = N(α_{t|s} σ_s²/σ_t² · x_t + α_s σ²_{t|s}/σ_t² · x,  β̃ I),    β̃ = σ²_{t|s} σ_s²/σ_t².
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from ...config.sections import Grid, SamplingConfig
from ..denoisers import Denoiser
from .base import History, Level, Sampler, ask, noise_of

__all__ = ["DDIM", "Ancestral", "PredictorCorrector", "posterior_variance"]


def posterior_variance(now: Level, after: Level) -> Tensor:
    """β̃, the variance of q(x_s | x_t, x), from the level t = ``now`` to s = ``after``; shape ()."""
    variance_ts = now.sigma**2 - (now.alpha / after.alpha) ** 2 * after.sigma**2
    return variance_ts * after.sigma**2 / now.sigma**2


class DDIM(Sampler):
    """x_s = α_s x̂ + √(σ_s² − η²β̃) ε̂ + η√β̃ z (Song et al. 2021, "Denoising Diffusion Implicit Models", eq. 12).

    η = 0 is deterministic and is Euler's method for the probability flow in σ/α. η = 1 is the ancestral sampler.

    Args:
        steps, grid: see `Sampler`.
        eta: η, in [0, 1].

    """

    name = "ddim"

    def __init__(self, *, steps: int, grid: Grid = "uniform", eta: float = 0.0) -> None:
        super().__init__(steps=steps, grid=grid)
        self.eta = eta
        self.draws_per_step = 1 if eta > 0 else 0

    @classmethod
    def from_config(cls, config: SamplingConfig) -> Self:
        """Take eta from the configuration too."""
        return cls(steps=config.steps, grid=config.grid, eta=config.eta)

    def step(self, denoiser: Denoiser, x: Tensor, now: Level, after: Level, z: Tensor, history: History) -> Tensor:
        """Replace the share η² of the posterior variance by fresh noise; see `Sampler.step`."""
        denoised = ask(denoiser, x, now)
        fresh = self.eta**2 * posterior_variance(now, after)
        kept = torch.sqrt(after.sigma**2 - fresh) * noise_of(x, denoised, now)
        return after.alpha * denoised + kept + torch.sqrt(fresh) * z.sum(0)


class Ancestral(Sampler):
    """x_s ~ q(x_s | x_t, x̂), the reverse chain of Ho et al. (2020), eq. 6 and 7, between any two levels.

    For neighbouring entries of a β table, β̃ is the posterior variance of Ho et al. At the clean end the mean is x̂ and
    β̃ = 0.
    """

    name = "ancestral"
    draws_per_step = 1

    def step(self, denoiser: Denoiser, x: Tensor, now: Level, after: Level, z: Tensor, history: History) -> Tensor:
        """Draw from the posterior; see `Sampler.step`."""
        alpha_ts = now.alpha / after.alpha
        ratio = after.sigma**2 / now.sigma**2
        mean = alpha_ts * ratio * x + after.alpha * (1 - alpha_ts**2 * ratio) * ask(denoiser, x, now)
        return mean + torch.sqrt(posterior_variance(now, after)) * z[0]


class PredictorCorrector(Ancestral):
    """An ancestral step, then one Langevin step at the new level, with two evaluations of the denoiser per step.

    Song et al. 2021, "Score-Based Generative Modeling through Stochastic Differential Equations", Alg. 1 and 5. The
    step size of the corrector is δ = 2(rσ)². The published rule, 2(1 − β)(r‖z‖/‖score‖)², takes norms over the batch,
    so that a sample would depend on the samples drawn with it. Where the score is −ε/σ for the noise that was added, σ
    is the ratio of the norms; where a denoiser cannot know that noise, the ratio is larger. The factor 1 − β, which
    variance-exploding schedules do not have (Alg. 4), is left out: in a table of 1,000 levels it is nearly one, and in
    few large steps it would switch the corrector off. The clean end has no corrector.
    """

    name = "predictor-corrector"
    draws_per_step = 2
    signal_to_noise = 0.16

    def step(self, denoiser: Denoiser, x: Tensor, now: Level, after: Level, z: Tensor, history: History) -> Tensor:
        """Predict, then correct by x + δ·score + √(2δ)·z, where the score is −ε̂/σ; see `Sampler.step`."""
        x = super().step(denoiser, x, now, after, z[:1], history)
        if after.t is None:
            return x
        delta = 2 * (self.signal_to_noise * after.sigma) ** 2
        score = -noise_of(x, ask(denoiser, x, after), after) / after.sigma
        return x + delta * score + torch.sqrt(2 * delta) * z[1]
