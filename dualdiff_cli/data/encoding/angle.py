"""Angles and other periodic numbers: a point on the circle, whose two coordinates are the features.

Only a schema makes a column an angle: numbers from 0 to 360 may just as well be an amount.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field

from ..densities.families import FloatArray
from .base import ColumnEncoding, namespace

__all__ = ["AngleColumn"]


class AngleColumn(ColumnEncoding):
    """φ = 2π(x − low)/period, with the features √2 cos φ and √2 sin φ.

    Attributes:
        low: the least value.
        period: the difference of two values that mean the same.
        whole_numbers: whether the column holds whole numbers.

    """

    kind: Literal["angle"] = "angle"
    low: float
    period: float = Field(gt=0)
    whole_numbers: bool = False

    on_request = True

    @property
    def width(self) -> int:
        """Two coordinates."""
        return 2

    @property
    def whole(self) -> bool:
        """Whether the column holds whole numbers."""
        return self.whole_numbers

    @classmethod
    def suits(cls, column: pl.Series) -> bool:
        """Say whether the column holds numbers."""
        return column.dtype.is_numeric() and not column.null_count()

    @classmethod
    def fit(cls, column: pl.Series, *, standardise: bool) -> Self:
        """Take the common period that the range suggests: 24, 360 or 2π, from 0 or symmetric about 0."""
        least, most = float(column.min()), float(column.max())  # type: ignore[arg-type]
        periods = (2 * math.pi, 24.0, 360.0)
        period = next((p for p in periods if most - least <= p * 1.000001), most - least)
        symmetric = least < 0
        low = -period / 2 if symmetric and least >= -period / 2 * 1.000001 else min(least, 0.0)
        return cls(name=column.name, low=low, period=period, whole_numbers=column.dtype.is_integer())

    def encode(self, column: pl.Series, rng: np.random.Generator | None) -> FloatArray:
        """Compute √2 cos φ and √2 sin φ; see `ColumnEncoding.encode`."""
        x = column.to_numpy().astype(np.float64)
        if self.whole_numbers and rng is not None:
            x = x + rng.uniform(-0.5, 0.5, len(x))
        phi = 2 * math.pi * (x - self.low) / self.period
        return math.sqrt(2) * np.stack([np.cos(phi), np.sin(phi)], axis=1)

    def values(self, features: Any) -> Any:
        """Compute x in [low, low + period)."""
        turn = namespace(features).arctan2(features[:, 1], features[:, 0]) / (2 * math.pi)
        x = self.low + self.period * (turn - namespace(features).floor(turn))
        if self.whole_numbers:
            x = x.round()
            x = namespace(features).where(x >= self.low + self.period, x - self.period, x)
        return x

    def series(self, values: FloatArray) -> pl.Series:
        """Give the values as numbers or whole numbers."""
        x = pl.Series(self.name, values)
        return x.cast(pl.Int64) if self.whole_numbers else x

    @property
    def summary(self) -> str:
        """Say what the period is."""
        return f"angle from {self.low:g} to {self.low + self.period:g}"
