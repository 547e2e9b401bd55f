"""Drawing any number of points: from a seed, in bounded memory.

Randomness is made for blocks of points from (seed, block) alone, so that a point depends neither on how many others are
drawn with it, nor on the device, nor on how the work is cut into chunks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..denoisers import Denoiser
from .base import Sampler

__all__ = ["BLOCK", "draw_noise", "generate", "points_per_call"]

BLOCK = 2048
"""Points that share a noise generator, and a call of the denoiser on the CPU (their activations fit its cache)."""


def draw_noise(seed: int, block: int, *, dim: int, draws: int) -> Tensor:
    """Draw the standard normals of one block of points, (draws, BLOCK, dim), float32, on the CPU.

    NumPy's counter-based Philox generator, keyed by (seed, block), makes them the same on every device and in any
    program that has NumPy.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, block]))
    return torch.from_numpy(generator.standard_normal((draws, BLOCK, dim), dtype=np.float32))


def points_per_call(device: torch.device) -> int:
    """Give how many points a sampler is called with at once: one block on the CPU, more on a GPU, which wants them."""
    return BLOCK if device.type == "cpu" else 32 * BLOCK


def generate(
    sampler: Sampler, denoiser: Denoiser, n: int, *, dim: int, seed: int, device: torch.device, chunk: int = 32 * BLOCK
) -> Iterator[np.ndarray]:
    """Draw n points in chunks of at most about ``chunk``, each (c, dim) float64, in memory that n does not change.

    The points depend on the seed alone, and on the device by rounding.
    """
    blocks_per_chunk = max(1, chunk // BLOCK)
    blocks_per_call = points_per_call(device) // BLOCK
    blocks = -(-n // BLOCK)
    for first in range(0, blocks, blocks_per_chunk):
        last = min(first + blocks_per_chunk, blocks)
        parts = []
        for start in range(first, last, blocks_per_call):
            stop = min(start + blocks_per_call, last)
            noise = torch.cat([draw_noise(seed, b, dim=dim, draws=sampler.draws) for b in range(start, stop)], dim=1)
            noise = noise[:, : n - start * BLOCK].to(device)
            parts.append(sampler(denoiser, noise[0], noise[1:] if sampler.stochastic else None))
        yield torch.cat(parts).cpu().numpy()
