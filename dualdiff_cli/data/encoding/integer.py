"""Whole numbers, and numbers with a fixed number of decimals: dequantised.

A density that is fitted to values on a grid can grow without bound on them. With uniform noise over the distance of
neighbouring values, the likelihood of a continuous model is a lower bound of the likelihood of a discrete one (Theis,
van den Oord & Bethge 2016, "A note on the evaluation of generative models", section 3.1). Rounding undoes the noise.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, SerializeAsAny, field_validator

from ... import seeding
from ..densities.families import FloatArray
from .base import ColumnEncoding, fit_column, read_column
from .bounded import BoundedColumn

__all__ = ["DecimalColumn", "IntegerColumn"]

LARGEST_EXACT = 2**53
"""Float64 holds all whole numbers up to here."""
STEPS = (1.0, 0.5, 0.25, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001, 1e-4)
"""The distances of neighbouring values that are tried for numbers that are not whole."""
LEAST_DIGITS = 3
"""Decimals are kept only if fewer than 10 to this power grid points lie within a standard deviation: …"""


class IntegerColumn(ColumnEncoding):
    """x = origin + round(y), where the inner encoding is that of y + u with u ~ U(−½, ½).

    Attributes:
        inner: the encoding of the dequantised numbers.
        origin: a whole number that is subtracted first, so that ids of 19 digits stay exact; 0 for smaller numbers.
        unsigned: whether the type of the column is that of unsigned numbers of 64 bits.
        least: 0 where no training row is negative; smaller values of y become this one.

    """

    kind: Literal["integer"] = "integer"
    inner: SerializeAsAny[ColumnEncoding]
    origin: int = 0
    unsigned: bool = False
    least: float | None = None

    _read = field_validator("inner", mode="before")(read_column)

    @property
    def width(self) -> int:
        """The features of the inner encoding."""
        return self.inner.width

    @property
    def whole(self) -> bool:
        """The values are whole numbers."""
        return True

    @classmethod
    def suits(cls, column: pl.Series) -> bool:
        """Say whether the type of the column is one of whole numbers."""
        return column.dtype.is_integer() and not column.null_count()

    @classmethod
    def fit(cls, column: pl.Series, *, standardise: bool) -> Self:
        """Fit the inner encoding to the dequantised numbers; see `ColumnEncoding.fit`."""
        least, most = int(column.min()), int(column.max())  # type: ignore[arg-type]
        origin = least if max(abs(least), abs(most)) > LARGEST_EXACT else 0
        y = dequantise(_less(column, origin), seeding.stream(0, f"fit {column.name}"), 1.0)
        inner = fit_column(pl.Series(column.name, y), standardise=standardise, after="decimal")
        unsigned, low = column.dtype == pl.UInt64, 0.0 if origin or least >= 0 else None
        return cls(name=column.name, inner=inner, origin=origin, unsigned=unsigned, least=low)

    def encode(self, column: pl.Series, rng: np.random.Generator | None) -> FloatArray:
        """Encode y + u; see `ColumnEncoding.encode`."""
        y = dequantise(_less(column, self.origin), rng, 1.0)
        return self.inner.encode(pl.Series(self.name, y), rng)

    def values(self, features: Any) -> Any:
        """Compute round(y); the origin is the `offset`."""
        y = self.inner.values(features).round()
        return y if self.least is None else y.clip(min=self.least)

    @property
    def offset(self) -> int:
        """The origin."""
        return self.origin

    def series(self, values: FloatArray) -> pl.Series:
        """Give the values as whole numbers of 64 bits."""
        y = pl.Series(self.name, values).cast(pl.Int64)
        return _plus(y, self.origin).cast(pl.UInt64 if self.unsigned else pl.Int64)

    @property
    def resolution(self) -> float:
        """The resolution of a step of one."""
        return _inner_resolution(self.inner, 1.0)

    @property
    def affine(self) -> tuple[float, float] | None:
        """That of the dequantised numbers."""
        return self.inner.affine if not self.origin else None

    def log_slope(self, features: FloatArray) -> FloatArray | None:
        """Give the slope of the dequantised numbers; see `ColumnEncoding.log_slope`."""
        return self.inner.log_slope(features) if not self.origin else None

    @property
    def summary(self) -> str:
        """Say how the dequantised numbers are learnt."""
        bounded = ", at least 0" if self.least is not None and not isinstance(self.inner, BoundedColumn) else ""
        return self.inner.summary.replace("number", "integer", 1) + bounded


class DecimalColumn(ColumnEncoding):
    """x = step·round(y/step), where the inner encoding is that of y + step·u with u ~ U(−½, ½).

    Attributes:
        inner: the encoding of the dequantised numbers.
        step: the distance of neighbouring values, in the column's unit.
        least: 0 where no training row is negative; smaller values become this one.

    """

    kind: Literal["decimal"] = "decimal"
    inner: SerializeAsAny[ColumnEncoding]
    step: float = Field(gt=0)
    least: float | None = None

    _read = field_validator("inner", mode="before")(read_column)

    DECIMALS: ClassVar[int] = 6

    @property
    def width(self) -> int:
        """The features of the inner encoding."""
        return self.inner.width

    @classmethod
    def suits(cls, column: pl.Series) -> bool:
        """Say whether all values are multiples of one step that is not too fine to matter."""
        return column.dtype.is_float() and not column.null_count() and _step(column) is not None

    @classmethod
    def fit(cls, column: pl.Series, *, standardise: bool) -> Self:
        """Find the step, and fit the inner encoding to the dequantised numbers; see `ColumnEncoding.fit`."""
        step = _step(column)
        assert step is not None
        y = dequantise(column.to_numpy(), seeding.stream(0, f"fit {column.name}"), step)
        inner = fit_column(pl.Series(column.name, y), standardise=standardise, after="decimal")
        least = 0.0 if float(column.min()) >= 0 else None  # type: ignore[arg-type]
        return cls(name=column.name, inner=inner, step=step, least=least)

    def encode(self, column: pl.Series, rng: np.random.Generator | None) -> FloatArray:
        """Encode y + step·u; see `ColumnEncoding.encode`."""
        return self.inner.encode(pl.Series(self.name, dequantise(column.to_numpy(), rng, self.step)), rng)

    def values(self, features: Any) -> Any:
        """Compute step·round(y/step)."""
        x = (self.inner.values(features) / self.step).round() * self.step
        return x if self.least is None else x.clip(min=self.least)

    def series(self, values: FloatArray) -> pl.Series:
        """Give the values without the digits that the product with the step may have added."""
        return pl.Series(self.name, values.round(self.DECIMALS) + 0.0)

    @property
    def resolution(self) -> float:
        """The resolution of a step."""
        return _inner_resolution(self.inner, self.step)

    @property
    def affine(self) -> tuple[float, float] | None:
        """That of the dequantised numbers."""
        return self.inner.affine

    def log_slope(self, features: FloatArray) -> FloatArray | None:
        """Give the slope of the dequantised numbers; see `ColumnEncoding.log_slope`."""
        return self.inner.log_slope(features)

    @property
    def summary(self) -> str:
        """Say what the step is."""
        return f"{self.inner.summary}, in steps of {self.step:g}"


def dequantise(x: FloatArray, rng: np.random.Generator | None, step: float) -> FloatArray:
    """Compute x + step·u, (n,), float64; without a generator u = 0."""
    return x.astype(np.float64) + (0.0 if rng is None else step * rng.uniform(-0.5, 0.5, len(x)))


def _less(column: pl.Series, origin: int) -> FloatArray:
    """Give x − origin as float64, computed exactly."""
    return _plus(column, -origin).cast(pl.Float64).to_numpy()


def _plus(column: pl.Series, number: int) -> pl.Series:
    """Give x + number as whole numbers of 128 bits."""
    return pl.select(column.cast(pl.Int128) + pl.lit(number, pl.Int128)).to_series().alias(column.name)


def _inner_resolution(inner: ColumnEncoding, step: float) -> float:
    return 0.0 if inner.affine is None else step / inner.affine[1]


def _step(column: pl.Series) -> float | None:
    """Find the largest step of `STEPS` of which all values (n,) are multiples, if the step is coarse enough."""
    x = column.to_numpy().astype(np.float64)
    spread = float(x.std())
    for step in STEPS:
        if spread > step * 10**LEAST_DIGITS * 10 or np.abs(x).max() > step * 1e9:
            return None
        multiple = x / step
        if np.all(np.abs(multiple - multiple.round()) < 1e-6):
            return step
    return None
