"""Integers: one feature each, dequantised and standardised.

A density that is fitted to integers can grow without bound on them. With uniform noise on the unit interval about each
integer, the likelihood of a continuous model is a lower bound of the likelihood of a discrete one (Theis, van den Oord
& Bethge 2016, "A note on the evaluation of generative models", section 3.1). Rounding undoes the noise.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field

from ... import seeding
from ..densities.families import FloatArray
from .base import ColumnEncoding
from .number import fit_affine

__all__ = ["IntegerColumn"]


class IntegerColumn(ColumnEncoding):
    """x = round(shift + scale·z), where z encodes x + u with u ~ U(−½, ½).

    Attributes:
        shift, scale: mean and standard deviation of x + u over the training rows.

    """

    kind: Literal["integer"] = "integer"
    shift: float
    scale: float = Field(gt=0)
    whole = True

    @classmethod
    def suits(cls, column: pl.Series) -> bool:
        """Say whether the type of the column is one of whole numbers."""
        return column.dtype.is_integer()

    @classmethod
    def fit(cls, column: pl.Series, *, standardise: bool) -> Self:
        """Take mean and standard deviation of the dequantised values; see `ColumnEncoding.fit`."""
        x = _dequantise(column.to_numpy(), seeding.stream(0, f"fit {column.name}"))
        shift, scale = fit_affine(x, standardise=standardise)
        return cls(name=column.name, shift=shift, scale=scale)

    def encode(self, column: pl.Series, rng: np.random.Generator | None) -> FloatArray:
        """Compute z = (x + u − μ)/s; see `ColumnEncoding.encode`."""
        return ((_dequantise(column.to_numpy(), rng) - self.shift) / self.scale)[:, None]

    def values(self, features: Any) -> Any:
        """Compute x = round(μ + s·z)."""
        return (features[:, 0] * self.scale + self.shift).round()

    def series(self, values: FloatArray) -> pl.Series:
        """Give the values as 64-bit integers."""
        return pl.Series(self.name, values).cast(pl.Int64)

    @property
    def resolution(self) -> float:
        """1/s."""
        return 1 / self.scale

    @property
    def affine(self) -> tuple[float, float]:
        """(μ, s) of x + u."""
        return self.shift, self.scale


def _dequantise(x: FloatArray, rng: np.random.Generator | None) -> FloatArray:
    """Compute x + u, (n,), float64; without a generator u = 0."""
    return x.astype(np.float64) + (0.0 if rng is None else rng.uniform(-0.5, 0.5, len(x)))
