"""Samplers: from noise to data with a denoiser, in one loop that all methods share.

A sampler visits times t_0 > t_1 > … > t_{N−1} and then the clean end, where α = 1 and σ = 0. At each it asks the
denoiser once for x̂ = E[x | x_t] and moves x to the next level; a method is no more than that one ``step``. The state is
kept in float64, the network runs in its own dtype.

Randomness comes in from outside, so that a sampler is a function: the same numbers give the same points. `draw_noise`
makes them for blocks of points from (seed, block) alone, and so a point depends neither on how many others are drawn
with it, nor on the device, nor on how the work is cut into chunks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from .denoisers import Denoiser

__all__ = ["BLOCK", "SAMPLERS", "Ancestral", "Level", "Sampler", "draw_noise", "generate"]

BLOCK = 2048
"""Points that share a noise generator, and a call of the denoiser on the CPU (their activations fit its cache)."""


@dataclass(frozen=True)
class Level:
    """A point on the way: the time (None at the clean end) with its α and σ, scalars of shape ()."""

    t: Tensor | None
    alpha: Tensor
    sigma: Tensor


class Sampler(ABC):
    """The loop; a method adds ``step``.

    Args:
        steps: number of times N that the denoiser is asked at.

    Attributes:
        stochastic: whether ``step`` uses fresh noise.

    """

    stochastic: bool

    def __init__(self, *, steps: int) -> None:
        self.steps = steps

    @property
    def network_evaluations(self) -> int:
        """Calls of the denoiser for one batch of points."""
        return self.steps

    @abstractmethod
    def step(self, denoiser: Denoiser, x: Tensor, now: Level, after: Level, z: Tensor | None) -> Tensor:
        """One move from x (n, d) at the level ``now`` to the level ``after``, with fresh noise z (n, d)."""

    def levels(self, denoiser: Denoiser) -> list[Level]:
        """Give the N times of the walk and the clean end."""
        times = denoiser.schedule.times(self.steps)
        alpha, sigma = denoiser.schedule(times)
        clean = Level(None, torch.ones_like(alpha[0]), torch.zeros_like(sigma[0]))
        return [*(Level(*level) for level in zip(times, alpha, sigma, strict=True)), clean]

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, noise: Tensor, step_noise: Tensor | None = None) -> Tensor:
        """Turn noise into points.

        Args:
            denoiser: E[x | x_t] with its schedule.
            noise: (n, d) standard normal, the start.
            step_noise: (N − 1, n, d) standard normal, for stochastic methods; the last step adds none.

        Returns:
            Points, (n, d), float64, in the denoiser's units.

        """
        x = denoiser.schedule.prior_std * noise.double()
        levels = self.levels(denoiser)
        for i, (now, after) in enumerate(pairwise(levels)):
            z = step_noise[i].double() if step_noise is not None and i < self.steps - 1 else None
            x = self.step(denoiser, x, now, after, z)
        return x


class Ancestral(Sampler):
    """The reverse chain of Ho et al. (2020), eq. 6 and 7, between any two levels t > s.

    q(x_s | x_t, x) is Gaussian; with α_{t|s} = α_t / α_s and σ²_{t|s} = σ_t² − α²_{t|s} σ_s² (Kingma et al. 2021, A.4)

        mean = α_{t|s} σ_s² / σ_t² · x_t + α_s σ²_{t|s} / σ_t² · x̂,    variance = σ²_{t|s} σ_s² / σ_t²,

    which is β̃_t for neighbouring entries of a β table. At the clean end σ_s = 0: the mean is x̂ and no noise is added.
    """

    stochastic = True

    def step(self, denoiser: Denoiser, x: Tensor, now: Level, after: Level, z: Tensor | None) -> Tensor:
        """Draw x_s from q(x_s | x_t, x̂)."""
        assert now.t is not None
        denoised = denoiser(x, now.t)
        alpha_ts = now.alpha / after.alpha
        variance_ts = now.sigma**2 - alpha_ts**2 * after.sigma**2
        ratio = after.sigma**2 / now.sigma**2
        mean: Tensor = alpha_ts * ratio * x + after.alpha * variance_ts / now.sigma**2 * denoised
        return mean if z is None else mean + torch.sqrt(variance_ts * ratio) * z


SAMPLERS: dict[str, type[Sampler]] = {"ancestral": Ancestral}


def draw_noise(seed: int, block: int, *, dim: int, draws: int) -> Tensor:
    """Draw the standard normals of one block of points, (draws, BLOCK, dim), float32, on the CPU.

    NumPy's counter-based Philox generator, keyed by (seed, block), makes them the same on every device and in any
    program that has NumPy.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, block]))
    return torch.from_numpy(generator.standard_normal((draws, BLOCK, dim), dtype=np.float32))


def generate(
    sampler: Sampler, denoiser: Denoiser, n: int, *, dim: int, seed: int, device: torch.device, chunk: int = 32 * BLOCK
) -> Iterator[np.ndarray]:
    """Draw n points in chunks of at most about ``chunk``, each (c, dim) float64, in memory that n does not change.

    The points depend on the seed alone. On the CPU the denoiser is called block by block; on a GPU, which wants large
    batches, chunk by chunk.
    """
    draws = 1 + (sampler.steps - 1 if sampler.stochastic else 0)
    blocks_per_chunk = max(1, chunk // BLOCK)
    blocks_per_call = 1 if device.type == "cpu" else blocks_per_chunk
    blocks = -(-n // BLOCK)
    for first in range(0, blocks, blocks_per_chunk):
        last = min(first + blocks_per_chunk, blocks)
        parts = []
        for start in range(first, last, blocks_per_call):
            stop = min(start + blocks_per_call, last)
            noise = torch.cat([draw_noise(seed, b, dim=dim, draws=draws) for b in range(start, stop)], dim=1)
            noise = noise[:, : n - start * BLOCK].to(device)
            parts.append(sampler(denoiser, noise[0], noise[1:] if sampler.stochastic else None))
        yield torch.cat(parts).cpu().numpy()
