"""How noise becomes rows: the face of a model for a caller who chooses the noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from ..data import FloatArray
from ..diffusion.samplers import BLOCK, Redrawing, draw_noise, generate_by
from ..diffusion.samplers.splitting import NoiseWalk

__all__ = ["FromNoise"]


@dataclass(frozen=True)
class FromNoise:
    """The function from standard normal noise to rows.

    Attributes:
        walk: from noise to features.
        draws: the standard normal vectors that a row takes.
        width: the number of features.
        decode: from features (n, width) to rows.
        redrawing: knows which features no model should give; None where all are taken as they are.

    """

    walk: NoiseWalk
    draws: int
    width: int
    decode: Callable[[FloatArray], pl.DataFrame]
    redrawing: Redrawing | None

    def chunks(self, n: int, *, seed: int, per_call: int = BLOCK, frame: int | None = None) -> Iterator[pl.DataFrame]:
        """Draw n rows.

        Args:
            n, seed: see `Model.draw`.
            per_call: rows in one call of ``walk``, a multiple of BLOCK.
            frame: see `DrawingOptions`.

        Raises:
            InputError: a row is out of reach at every attempt.

        """
        request = {"dim": self.width, "draws": self.draws, "seed": seed, "per_call": per_call}
        if frame is not None:
            request["chunk"] = frame
        return map(self.decode, generate_by(self.walk, n, **request, redrawing=self.redrawing))

    def of_rows(self, numbers: npt.NDArray[np.int64], *, seed: int) -> Tensor:
        """Give the noise that rows of these numbers, ascending, are drawn from with a seed: (draws, n, width)."""
        parts = []
        for block in np.unique(numbers // BLOCK).tolist():
            own = torch.from_numpy(numbers[numbers // BLOCK == block] % BLOCK)
            parts.append(draw_noise(seed, block, dim=self.width, draws=self.draws)[:, own])
        return torch.cat(parts, dim=1)

    def rows(self, noise: Tensor) -> tuple[pl.DataFrame, npt.NDArray[np.bool_]]:
        """Turn noise (draws, n, width) into n rows, and say which of them a model should give, (n,)."""
        features = self.walk(noise[0], noise[1:] if self.draws > 1 else None).double().numpy()
        good = np.isfinite(features).all(axis=1) if self.redrawing is None else self.redrawing.holds(features)
        return self.decode(np.where(good[:, None], features, 0.0)), good
