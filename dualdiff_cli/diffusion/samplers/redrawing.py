"""Rows that no model should give: they are not finite, or absurdly far from the training rows, and are drawn again.

Sampling multiplies the errors of a network. Where a network was trained badly, or a sampler takes too few steps, a few
rows of many can run away. Such a row is drawn again from a stream of its own, which depends on the seed, the number of
the row and the attempt alone. So a row still depends on the seed and its number, and not on how many rows are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ... import seeding
from ...data import FloatArray, Given
from ...errors import InputError

__all__ = ["Reach", "Redrawing"]

ATTEMPTS = 8
"""A row is drawn again at most so many times."""
RANGES = 10.0
"""A row may lie so many ranges of a feature beyond its least and its largest value in the training rows.

Only what is absurd is drawn again: a model that was hardly trained has to be looked at and scored, too.
"""
LEAST_RANGE = 1.0
"""A feature that varies less than this, in feature units, reaches as far as one that varies as much as this."""


@dataclass(frozen=True)
class Reach:
    """How far a row may lie from the training rows: by `RANGES` ranges of each feature beyond its ends.

    Attributes:
        low, high: the least and the largest value of each feature in the training rows.

    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def of(cls, features: FloatArray) -> Self:
        """Take the range of the training rows (n, width)."""
        return cls(tuple(features.min(axis=0).tolist()), tuple(features.max(axis=0).tolist()))

    @classmethod
    def read(cls, written: Mapping[str, Sequence[float]] | None, *, width: int) -> Self | None:
        """Read the plain values of a reach of so many features; None stays None.

        Raises:
            KeyError, TypeError: they are other values.
            ValueError: they are of another number of features.

        """
        if written is None:
            return None
        reach = cls(tuple(written["low"]), tuple(written["high"]))
        if {len(reach.low), len(reach.high)} != {width}:
            raise ValueError("the range of the training rows has another number of features")
        return reach

    def including(self, features: FloatArray, given: npt.NDArray[np.bool_]) -> Self:
        """Extend the range of given features, (width,) bool, to their values, (width,): they are not the model's."""
        low, high = (np.array(end) for end in (self.low, self.high))
        low, high = (np.where(given, of(end, features), end) for of, end in ((np.minimum, low), (np.maximum, high)))
        return type(self)(tuple(low.tolist()), tuple(high.tolist()))

    def holds(self, features: FloatArray) -> npt.NDArray[np.bool_]:
        """Say which rows (n, width) are finite and within reach, (n,)."""
        low, high = np.array(self.low), np.array(self.high)
        far = RANGES * np.maximum(high - low, LEAST_RANGE)
        inside: npt.NDArray[np.bool_] = ((features >= low - far) & (features <= high + far)).all(axis=1)
        return inside  # NaN is neither


@dataclass
class Redrawing:
    """Draws the rows of one request again that are out of reach.

    Attributes:
        reach: None where the range of the training rows is not known, and rows only have to be finite.
        given: the given cells in words, which may be why no row is within reach; empty where there are none.
        count: how many rows have been drawn again.
        is_busy: whether rows are being drawn again.

    """

    reach: Reach | None
    given: str = ""
    count: int = field(default=0, init=False)
    is_busy: bool = field(default=False, init=False)

    @classmethod
    def of(cls, reach: Reach | None, given: Given | None) -> Self:
        """Make what draws rows again around given cells, whose values are within reach wherever they lie."""
        if given is None:
            return cls(reach)
        return cls(None if reach is None else reach.including(given.values, given.given), given.words)

    def mend(
        self,
        rows: FloatArray,
        walk: Callable[[Tensor, Tensor | None], Tensor],
        *,
        first: int,
        seed: int,
        dim: int,
        draws: int,
        per_call: int,
    ) -> FloatArray:
        """Draw rows again until all are within reach.

        Args:
            rows: drawn rows, (n, d).
            walk: see `generation.generate_by`.
            first: the number of the first of the rows.
            seed, dim, draws, per_call: see `generation.generate_by`.

        Returns:
            The rows with new ones in place of those that were out of reach, (n, d).

        Raises:
            InputError: a row was out of reach at every attempt.

        """
        bad = np.flatnonzero(~self.holds(rows))
        if not bad.size:
            return rows
        self.count += bad.size
        rows = rows.copy()
        self.is_busy = True
        try:
            for attempt in range(ATTEMPTS):
                # A compiled walk takes no more rows than it was compiled for, and noise of all would fill the memory.
                for part in np.split(bad, range(per_call, bad.size, per_call)):
                    noise = _noise(seed, (first + part).tolist(), attempt, shape=(draws, dim))
                    rows[part] = walk(noise[0], noise[1:] if draws > 1 else None).numpy()
                bad = bad[~self.holds(rows[bad])]
                if not bad.size:
                    return rows
        finally:
            self.is_busy = False
        remedy = "take more --sample-steps or another --sampler, or train the model for longer."
        if self.given:  # around cells that are far from the training rows no sampler helps
            remedy = f"Give values nearer to the training rows than {self.given}. If these are near, {remedy}"
        raise InputError(
            f"{bad.size:,} of {len(rows):,} rows were not finite or far outside the range of the training rows, each "
            f"of the {ATTEMPTS + 1} times that they were drawn.",
            remedy[0].upper() + remedy[1:],
        )

    def holds(self, rows: FloatArray) -> npt.NDArray[np.bool_]:
        """Say which rows (n, d) are finite and within reach, (n,)."""
        held: npt.NDArray[np.bool_] = np.asarray(np.isfinite(rows).all(axis=1))
        if self.reach is not None:
            held &= self.reach.holds(rows)
        return held


def _noise(seed: int, numbers: Sequence[int], attempt: int, *, shape: tuple[int, int]) -> Tensor:
    """Draw the noise of rows, (draws, rows, dim), float32."""
    streams = (seeding.stream(seed, f"row {k}, drawn again {attempt}") for k in numbers)
    rows = [stream.standard_normal(shape, dtype=np.float32) for stream in streams]
    return torch.from_numpy(np.stack(rows, axis=1))
