"""Drawing on a device whose memory does not suffice for as many samples at once as are fastest."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ...compute.device import give_back_memory

__all__ = ["NoiseWalk", "SplitWalk"]

NoiseWalk: TypeAlias = Callable[[Tensor, Tensor | None], Tensor]
"""Maps noise (c, dim) and step noise (draws − 1, c, dim), or None, to samples (c, dim), all on the CPU."""


class SplitWalk:
    """A walk from noise to samples that halves its calls where the memory of a device does not suffice.

    How a call is split changes the samples by rounding at most.

    Args:
        walk: see `NoiseWalk`.
        least: the number of samples below which a call is not split.

    Attributes:
        most: the largest number of samples in a call from now on; None until a call is split.

    """

    def __init__(self, walk: NoiseWalk, *, least: int) -> None:
        self._walk, self._least = walk, least
        self.most: int | None = None

    def __call__(self, noise: Tensor, step_noise: Tensor | None) -> Tensor:
        """Walk with all samples, or with one part after the other.

        Raises:
            torch.OutOfMemoryError: there is no memory for the least number of samples.

        """
        rows = len(noise)
        if self.most is None or rows <= self.most:
            try:
                return self._walk(noise, step_noise)
            except torch.OutOfMemoryError:
                if rows <= self._least:
                    raise
            # Not in the handler, where the exception keeps the tensors of the call alive.
            self.most = max(rows // 2, self._least)
            give_back_memory()
            warnings.warn(
                f"The device has too little memory to draw {rows:,} rows at once: it draws {self.most:,} at once.",
                stacklevel=2,
            )
        parts = torch.split(noise, self.most)
        fresh = [None] * len(parts) if step_noise is None else torch.split(step_noise, self.most, dim=1)
        return torch.cat([self(*part) for part in zip(parts, fresh, strict=True)])
