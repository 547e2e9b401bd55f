"""Drawing any number of points: from a seed, in bounded memory.

Randomness is made for blocks of points from (seed, block) alone, so that a point depends neither on how many others are
drawn with it, nor on the device, nor on how the work is cut into chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ..denoisers import Denoiser
from .base import Sampler

__all__ = ["BLOCK", "draw_noise", "generate", "generate_by", "points_per_call"]

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
    sampler: Sampler,
    denoiser: Denoiser,
    n: int,
    *,
    dim: int,
    seed: int,
    device: torch.device,
    chunk: int = 32 * BLOCK,
    bfloat16: bool = False,
) -> Iterator[np.ndarray]:
    """Draw n points in chunks of at most about ``chunk``, each (c, dim) float64, in memory that n does not change.

    The points depend on the seed alone, and by rounding on the device and on ``bfloat16``, which is of the network's
    matrix products.
    """

    @torch.inference_mode()
    def walk(noise: Tensor, step_noise: Tensor | None) -> Tensor:
        on_device = None if step_noise is None else step_noise.to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
            return sampler(denoiser, noise.to(device), on_device).cpu()

    return generate_by(walk, n, dim=dim, draws=sampler.draws, seed=seed, per_call=points_per_call(device), chunk=chunk)


def generate_by(
    walk: Callable[[Tensor, Tensor | None], Tensor],
    n: int,
    *,
    dim: int,
    draws: int,
    seed: int,
    per_call: int = BLOCK,
    chunk: int = 32 * BLOCK,
) -> Iterator[np.ndarray]:
    """As `generate`, with anything that walks from noise to points.

    Args:
        walk: (noise (c, dim), step noise (draws − 1, c, dim) or None) → (c, dim), all on the CPU.
        n, dim, seed, chunk: as in `generate`.
        draws: standard normal vectors that one point takes.
        per_call: points that ``walk`` is called with at once, a multiple of BLOCK.

    """
    blocks_per_chunk, blocks_per_call = max(1, chunk // BLOCK), per_call // BLOCK
    blocks = -(-n // BLOCK)
    for first in range(0, blocks, blocks_per_chunk):
        last = min(first + blocks_per_chunk, blocks)
        parts = []
        for start in range(first, last, blocks_per_call):
            stop = min(start + blocks_per_call, last)
            noise = torch.cat([draw_noise(seed, b, dim=dim, draws=draws) for b in range(start, stop)], dim=1)
            noise = noise[:, : n - start * BLOCK]
            parts.append(walk(noise[0], noise[1:] if draws > 1 else None))
        yield torch.cat(parts).numpy()
