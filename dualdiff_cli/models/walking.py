"""The reverse process: a sampler walks from noise to rows, and asks a denoiser on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl
import torch
from torch import Tensor

from ..compute.execution import Execution
from ..data import Given, TableEncoding
from ..diffusion.denoisers import Denoiser
from ..diffusion.samplers import BLOCK, Reach, Redrawing, Sampler, noise_walk, points_per_call
from .base import Drawing
from .conditioning import decoding
from .noise import FromNoise

__all__ = ["ReverseProcess"]


@dataclass(frozen=True)
class ReverseProcess:
    """The way from noise to the rows of a denoiser.

    Attributes:
        sampler: the method.
        denoiser: E[x | x_t], with given cells E[x | x_t, x_G]; prepared for the execution by `prepare`, on the device.
        encoding: between columns and the denoiser's features.
        device: where the denoiser is.
        execution: how the arithmetic is carried out; it is applied to each call of the sampler.
        given: the cells that every row is to have exactly; None where there are none.
        reach: how far a row may lie from the training rows; None where it is not known.
        redraws: whether absurd rows are drawn again.

    """

    sampler: Sampler
    denoiser: Denoiser = field(repr=False)
    encoding: TableEncoding
    device: torch.device
    execution: Execution
    given: Given | None = None
    reach: Reach | None = None
    redraws: bool = True

    def draw(self, n: int, *, seed: int, frame: int | None = None) -> Drawing:
        """Draw n rows.

        Args:
            n, seed: see `Model.draw`.
            frame: see `DrawingOptions`.

        Raises:
            InputError: see `generate`.

        """
        redrawing = Redrawing.of(self.reach, self.given) if self.redraws else None
        # Padding fills a call up to this number, and a frame may be all that its caller ever takes.
        together = n if frame is None else min(n, max(frame, BLOCK))
        per_call = points_per_call(self.device, together, self.execution)
        from_noise = self._from_noise(together, self.execution, redrawing)
        chunks = from_noise.chunks(n, seed=seed, per_call=per_call, frame=frame)
        facts = {
            "sampler": self.sampler.name,
            "sample_steps": self.sampler.steps,
            "precision": self.execution.precision,
            "compiled": self.execution.compiled,
        }
        counted = self._counted(chunks, min(per_call, frame or per_call), redrawing, facts)
        # A compiled denoiser is compiled for calls of one size, and whoever chooses the noise may choose any number.
        return Drawing(counted, facts, self._from_noise(BLOCK, replace(self.execution, compiled=False), redrawing))

    def _from_noise(self, n: int, execution: Execution, redrawing: Redrawing | None) -> FromNoise:
        """Give the function from noise to rows, which are drawn n at a time, or in smaller parts."""
        walk = noise_walk(self.sampler, self.denoiser, n, device=self.device, execution=execution)

        def applied(noise: Tensor, step_noise: Tensor | None) -> Tensor:
            with execution.applied():
                return walk(noise, step_noise)

        return FromNoise(
            applied,
            self.sampler.draws,
            self.encoding.width,
            decoding(self.encoding, self.given),
            redrawing,
        )

    def _counted(
        self, chunks: Iterator[pl.DataFrame], per_call: int, redrawing: Redrawing | None, facts: dict[str, Any]
    ) -> Iterator[pl.DataFrame]:
        """Pass the rows on, and note how often the denoiser is asked for a row, and how many rows are drawn again."""
        calls, done = 0, 0

        def count(*_: Any) -> None:
            nonlocal calls
            calls += redrawing is None or not redrawing.is_busy

        counting = self.denoiser.register_forward_hook(count)
        try:
            for rows in chunks:
                done += rows.height
                facts["network_evaluations"] = round(calls / -(-done // per_call))
                if redrawing is not None:
                    facts["redrawn"] = redrawing.count
                yield rows
        finally:
            counting.remove()
