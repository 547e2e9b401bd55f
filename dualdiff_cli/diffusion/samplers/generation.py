"""Drawing any number of samples from a seed, in bounded memory.

Samples are drawn in blocks, and the random numbers of a block depend on the seed and the number of the block alone. A
sample therefore depends neither on how many samples are drawn, nor on how the work is cut into chunks, nor, but for
rounding, on the device.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ... import seeding
from ...compute.compiling import Compiled
from ...compute.execution import PLAIN, Execution
from ..denoisers import Denoiser
from ..networks.layers import round_products
from .base import Sampler
from .redrawing import Redrawing
from .splitting import NoiseWalk, SplitWalk

__all__ = ["BLOCK", "draw_noise", "generate", "generate_by", "noise_walk", "points_per_call", "prepare"]

BLOCK = 2048
"""The number of samples in a block, which share a noise generator."""
MOST_BLOCKS = 8
"""The largest number of blocks in one call of a denoiser on the CPU."""


def draw_noise(seed: int, block: int, *, dim: int, draws: int) -> Tensor:
    """Draw the standard normal noise of one block of samples.

    `seeding.block_stream` makes the noise, which is the same on every device and in any program that has NumPy.

    Args:
        seed, block: which noise.
        dim: d, the number of columns.
        draws: standard normal vectors per sample; see `Sampler.draws`.

    Returns:
        (draws, BLOCK, dim), float32, on the CPU.

    """
    generator = seeding.block_stream(seed, block)
    return torch.from_numpy(generator.standard_normal((draws, BLOCK, dim), dtype=np.float32))


def points_per_call(device: torch.device, n: int, execution: Execution = PLAIN) -> int:
    """The number of samples in one call of a sampler that is fastest when n samples are drawn.

    A GPU is fastest with many samples per call. On the CPU one block per call is best in float32, because the
    activations of one block fit the cache. A compiled denoiser, or one in bfloat16, takes so little time per block that
    the fixed cost of a call matters, and larger calls are faster.
    """
    if device.type != "cpu":
        return 32 * BLOCK
    if execution.precision != "bfloat16" and not execution.compiled:
        return BLOCK
    return min(-(-n // BLOCK), MOST_BLOCKS) * BLOCK


class _CompiledDenoiser(Denoiser):
    """A denoiser that is compiled for the shape of its first call; calls of other shapes are not compiled."""

    def __init__(self, denoiser: Denoiser, *, required: bool) -> None:
        super().__init__()
        self.schedule = denoiser.schedule
        self.plain = denoiser
        self._call = Compiled(lambda x_t, t: denoiser(x_t, t), required=required)
        self._shapes: tuple[torch.Size, torch.Size] | None = None

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser.forward`."""
        shapes = (x_t.shape, t.shape)
        self._shapes = self._shapes or shapes
        denoised: Tensor = self._call(x_t, t) if shapes == self._shapes else self.plain(x_t, t)
        return denoised


def prepare(denoiser: Denoiser, execution: Execution) -> Denoiser:
    """Prepare a denoiser for an execution: round the weights of its products to bfloat16, compile it, or both.

    The denoiser itself stays as it is.
    """
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
    redrawing: Redrawing | None = None,
) -> Iterator[np.ndarray]:
    """Draw n samples in chunks; the memory does not depend on n.

    Args:
        sampler: the method.
        denoiser: x̂ = E[x | x_t], prepared for the execution by `prepare`, on the device.
        n: the number of samples.
        dim: d, the number of columns.
        seed: decides the samples; device and execution change only their rounding.
        device: where the denoiser is.
        chunk: samples per chunk, rounded down to whole blocks (at least one).
        execution: how the arithmetic is carried out.
        redrawing: draws the samples again that no model should give; None keeps all samples.

    Yields:
        Chunks of samples in the units of the denoiser, (c, dim), float64.

    Raises:
        InputError: the schedule is a table with fewer entries than the levels of a uniform grid, or a sample is out of
            reach at every attempt.

    """
    per_call = points_per_call(device, n, execution)
    walk = noise_walk(sampler, denoiser, n, device=device, execution=execution)
    return generate_by(
        walk, n, dim=dim, draws=sampler.draws, seed=seed, per_call=per_call, chunk=chunk, redrawing=redrawing
    )


def noise_walk(
    sampler: Sampler, denoiser: Denoiser, n: int, *, device: torch.device, execution: Execution = PLAIN
) -> NoiseWalk:
    """Give the function that turns noise into samples, at most `points_per_call` in a call; see `generate`."""
    per_call = points_per_call(device, n, execution)

    @torch.no_grad()
    def walk(noise: Tensor, step_noise: Tensor | None) -> Tensor:
        rows = len(noise)
        # A compiled denoiser is compiled for exactly this number; after a split there is no memory for so many.
        missing = min(n, per_call) - rows if execution.compiled and split.most is None else 0
        start = _padded(noise, missing).to(device)
        fresh = None if step_noise is None else _padded(step_noise, missing).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=execution.precision == "bfloat16"):
            return sampler(denoiser, start, fresh)[:rows].cpu()

    split = SplitWalk(walk, least=BLOCK)
    return split


def _padded(noise: Tensor, rows: int) -> Tensor:
    """Append rows of zeros to noise of shape (…, n, d); without rows to append, the noise is not copied."""
    return functional.pad(noise, (0, 0, 0, rows)) if rows else noise


def generate_by(
    walk: NoiseWalk,
    n: int,
    *,
    dim: int,
    draws: int,
    seed: int,
    per_call: int = BLOCK,
    chunk: int = 32 * BLOCK,
    redrawing: Redrawing | None = None,
) -> Iterator[np.ndarray]:
    """Draw n samples as `generate` does, with any function that turns noise into samples.

    Args:
        walk: from noise to samples; see `NoiseWalk`.
        n, dim, seed, chunk, redrawing: see `generate`.
        draws: standard normal vectors per sample; see `Sampler.draws`.
        per_call: samples in one call of ``walk``, a multiple of BLOCK.

    Yields:
        Chunks of samples, (c, dim), float64.

    """
    blocks_per_chunk, blocks_per_call = max(1, chunk // BLOCK), per_call // BLOCK
    blocks = -(-n // BLOCK)
    draw = partial(draw_noise, seed, dim=dim, draws=draws)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # NumPy releases the GIL while it draws
        for first in range(0, blocks, blocks_per_chunk):
            last = min(first + blocks_per_chunk, blocks)
            parts = []
            for start in range(first, last, blocks_per_call):
                stop = min(start + blocks_per_call, last)
                noise = torch.cat(list(pool.map(draw, range(start, stop))), dim=1)[:, : n - start * BLOCK]
                parts.append(walk(noise[0], noise[1:] if draws > 1 else None))
            rows = torch.cat(parts).numpy()
            if redrawing is not None:
                rows = redrawing.mend(
                    rows, walk, first=first * BLOCK, seed=seed, dim=dim, draws=draws, per_call=per_call
                )
            yield rows
