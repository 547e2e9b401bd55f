"""Drawing any number of points: from a seed, in bounded memory.

Randomness is made for blocks of points from (seed, block) alone, so that a point depends neither on how many others are
drawn with it, nor on the device, nor on how the work is cut into chunks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...compute.compiling import Compiled
from ...compute.execution import PLAIN, Execution
from ..denoisers import Denoiser
from ..networks.layers import round_products
from .base import Sampler

__all__ = ["BLOCK", "draw_noise", "generate", "generate_by", "points_per_call", "prepare"]

BLOCK = 2048
"""Points that share a noise generator."""
MOST_BLOCKS = 8
"""Blocks in a call of a denoiser on the CPU, at most, where what surrounds the products counts as much as they do."""


def draw_noise(seed: int, block: int, *, dim: int, draws: int) -> Tensor:
    """Draw the standard normals of one block of points, (draws, BLOCK, dim), float32, on the CPU.

    NumPy's counter-based Philox generator, keyed by (seed, block), makes them the same on every device and in any
    program that has NumPy.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, block]))
    return torch.from_numpy(generator.standard_normal((draws, BLOCK, dim), dtype=np.float32))


def points_per_call(device: torch.device, n: int, execution: Execution = PLAIN) -> int:
    """Give how many of n points a sampler is called with at once: as many as the arithmetic runs best with.

    A GPU wants many. On the CPU the activations of one block fit the cache, which is best for float32; in bfloat16 and
    compiled so little is left of the time of a block that larger calls are faster.
    """
    if device.type != "cpu":
        return 32 * BLOCK
    if execution.precision != "bfloat16" and not execution.compiled:
        return BLOCK
    return min(-(-n // BLOCK), MOST_BLOCKS) * BLOCK


class _CompiledDenoiser(Denoiser):
    """A denoiser that is compiled for the first number of points that it meets, and plain for others."""

    def __init__(self, denoiser: Denoiser, *, required: bool) -> None:
        super().__init__()
        self.schedule = denoiser.schedule
        self.plain = denoiser
        self._call = Compiled(lambda x_t, t: denoiser(x_t, t), required=required)
        self._shapes: tuple[torch.Size, torch.Size] | None = None

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x | x_t]."""
        shapes = (x_t.shape, t.shape)
        self._shapes = self._shapes or shapes
        denoised: Tensor = self._call(x_t, t) if shapes == self._shapes else self.plain(x_t, t)
        return denoised


def prepare(denoiser: Denoiser, execution: Execution) -> Denoiser:
    """Give the denoiser as an execution computes it: its products' weights rounded once, the whole of it compiled."""
    if execution.precision == "bfloat16":
        denoiser = copy.deepcopy(denoiser)
        round_products(denoiser, torch.bfloat16)
    return _CompiledDenoiser(denoiser, required=execution.required) if execution.compiled else denoiser


def generate(
    sampler: Sampler,
    denoiser: Denoiser,
    n: int,
    *,
    dim: int,
    seed: int,
    device: torch.device,
    chunk: int = 32 * BLOCK,
    execution: Execution = PLAIN,
) -> Iterator[np.ndarray]:
    """Draw n points in chunks of at most about ``chunk``, each (c, dim) float64, in memory that n does not change.

    The points depend on the seed alone, and by rounding on the device and the execution, which the denoiser has been
    prepared for.
    """
    per_call = points_per_call(device, n, execution)

    @torch.no_grad()
    def walk(noise: Tensor, step_noise: Tensor | None) -> Tensor:
        rows = len(noise)
        missing = min(n, per_call) - rows if execution.compiled else 0  # compiled for just so many
        start = _padded(noise, missing).to(device)
        fresh = None if step_noise is None else _padded(step_noise, missing).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=execution.precision == "bfloat16"):
            return sampler(denoiser, start, fresh)[:rows].cpu()

    return generate_by(walk, n, dim=dim, draws=sampler.draws, seed=seed, per_call=per_call, chunk=chunk)


def _padded(noise: Tensor, rows: int) -> Tensor:
    """With so many rows of zeros more; padding with none would be a copy."""
    return functional.pad(noise, (0, 0, 0, rows)) if rows else noise


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
    draw = partial(draw_noise, seed, dim=dim, draws=draws)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # NumPy lets go of Python's lock while it draws
        for first in range(0, blocks, blocks_per_chunk):
            last = min(first + blocks_per_chunk, blocks)
            parts = []
            for start in range(first, last, blocks_per_call):
                stop = min(start + blocks_per_call, last)
                noise = torch.cat(list(pool.map(draw, range(start, stop))), dim=1)[:, : n - start * BLOCK]
                parts.append(walk(noise[0], noise[1:] if draws > 1 else None))
            yield torch.cat(parts).numpy()
