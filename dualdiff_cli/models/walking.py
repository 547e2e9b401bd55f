"""Rows of a diffusion model on their way, with a count of what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..compute.execution import Execution
from ..data import FloatArray
from ..diffusion.denoisers import Denoiser
from ..diffusion.samplers import Redrawing, Sampler, generate, points_per_call

__all__ = ["walk_counted"]


def walk_counted(
    denoiser: Denoiser,
    sampler: Sampler,
    n: int,
    *,
    dim: int,
    seed: int,
    device: torch.device,
    execution: Execution,
    redrawing: Redrawing | None,
    frame: int | None,
    facts: dict[str, Any] | None,
) -> Iterator[FloatArray]:
    """Draw n samples as `generate` does, and count.

    Args:
        denoiser, sampler, n, dim, seed, device, execution, redrawing: see `generate`.
        frame: the largest number of samples of a chunk; None leaves it to `generate`.
        facts: told the number of evaluations of the denoiser that a sample takes, and how many samples were drawn
            again.

    Yields:
        Chunks of samples as features, (c, dim).

    Raises:
        InputError: see `generate`.

    """
    per_call, chunk = points_per_call(device, n, execution), {}
    if frame is not None:
        per_call, chunk = min(per_call, frame), {"chunk": frame}
    calls, done = 0, 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += redrawing is None or not redrawing.is_busy

    counting = denoiser.register_forward_hook(count)
    try:
        for features in generate(
            sampler,
            denoiser,
            n,
            dim=dim,
            seed=seed,
            device=device,
            execution=execution,
            redrawing=redrawing,
            **chunk,
        ):
            done += len(features)
            if facts is not None:
                facts["network_evaluations"] = round(calls / -(-done // per_call))
            if facts is not None and redrawing is not None:
                facts["redrawn"] = redrawing.count
            yield features
    finally:
        counting.remove()
