"""Numbers: one feature each, z = (x − μ)/s with the mean μ and the standard deviation s of the training rows."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field

from ..arrays import FloatArray
from .base import ColumnEncoding

__all__ = ["NumberColumn", "fit_affine"]


class NumberColumn(ColumnEncoding):
    """x = shift + scale·z.

    Attributes:
        shift: μ, in the column's unit.
        scale: s, in the column's unit; 1 for a column that is constant in the training rows.

    """

    kind: Literal["number"] = "number"
    shift: float
    scale: float = Field(gt=0)

    @classmethod
    def suits(cls, column: pl.Series) -> bool:
        """Say whether the column holds numbers."""
        return column.dtype.is_numeric()

    @classmethod
    def fit(cls, column: pl.Series, *, standardise: bool) -> Self:
        """Take mean and standard deviation; see `ColumnEncoding.fit`."""
        shift, scale = fit_affine(column.to_numpy(), standardise=standardise)
        return cls(name=column.name, shift=shift, scale=scale)

    def encode(self, column: pl.Series, rng: np.random.Generator | None) -> FloatArray:
        """Compute z = (x − μ)/s."""
        x = column.to_numpy().astype(np.float64)
        return ((x - self.shift) / self.scale)[:, None]

    def values(self, features: Any) -> Any:
        """Compute x = μ + s·z."""
        return features[:, 0] * self.scale + self.shift

    @property
    def affine(self) -> tuple[float, float]:
        """(μ, s)."""
        return self.shift, self.scale


def fit_affine(x: FloatArray, *, standardise: bool) -> tuple[float, float]:
    """Give (μ, s) of values (n,), with s = 1 where all values are equal; (0, 1) without ``standardise``."""
    if not standardise:
        return 0.0, 1.0
    x = x.astype(np.float64)
    # Values that differ by a rounding error can have a standard deviation of zero.
    return float(x.mean()), (float(x.std()) or float(np.ptp(x))) if (x != x[0]).any() else 1.0
