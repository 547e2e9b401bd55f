"""Whole numbers, and numbers with a fixed number of decimals: dequantised.

A density that is fitted to values on a grid can grow without bound on them. With uniform noise over the distance of
neighbouring values, the likelihood of a continuous model is a lower bound of the likelihood of a discrete one (Theis,
van den Oord & Bethge 2016, "A note on the evaluation of generative models", section 3.1). Rounding undoes the noise.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from ... import seeding
from ...errors import InputError
from ..arrays import FloatArray
from ..tidied import LARGEST_EXACT
from .base import ColumnEncoding
from .bounded import BoundedColumn, span_in_words
from .choosing import fit_column
from .whole import plus, range_of, with_origin
from .wrapped import WrappedColumn

__all__ = ["DecimalColumn", "IntegerColumn", "dequantise", "step_of"]

STEPS = (1.0, 0.5, 0.25, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001, 1e-4)
"""The distances of neighbouring values that are tried for numbers that are not whole."""
MOST_STEPS = 1e9
"""The values of a column with a fixed number of decimals are at most so many steps away from zero."""
LARGEST_NOISY = 2.0**33
"""Beyond this number float64 may round y + u to a neighbour of y; such rows are encoded without u."""


class IntegerColumn(WrappedColumn):
    """x = origin + round(y), where the inner encoding is that of y + u with u ~ U(−½, ½).

    Attributes:
        inner: the encoding of the dequantised numbers.
        origin: a whole number that is subtracted first, so that ids of 19 digits stay exact; 0 for smaller numbers.
        unsigned: whether the type of the column is that of unsigned numbers of 64 bits.
        least: 0 where no training row is negative; smaller values of y become this one.

    """

    kind: Literal["integer"] = "integer"
    origin: int = 0
    unsigned: bool = False
    least: float | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuse an origin that is no value of the column."""
        least, largest = range_of(self.unsigned)
        if not least <= self.origin <= largest:
            raise ValueError("the origin has more than 64 bits")
        return self

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
        """Fit the inner encoding to the dequantised numbers; see `ColumnEncoding.fit`.

        Raises:
            InputError: the numbers span more than float64 can tell apart.

        """
        least, most = int(column.min()), int(column.max())  # type: ignore[arg-type]
        if most - least > LARGEST_EXACT:
            raise InputError(
                f"The whole numbers of the column '{column.name}' span more than 2^53, and are no amounts.",
                f"Give --schema a file that says '{column.name} = \"identifier\"' to leave the column out, or "
                '"category".',
            )
        origin = least if max(abs(least), abs(most)) > LARGEST_EXACT else 0
        y = dequantise(_less(column, origin), seeding.stream(0, f"fit {column.name}"), 1.0)
        inner = fit_column(pl.Series(column.name, y), standardise=standardise, after="decimal")
        inner = _with_whole_steps(inner, least - origin, most - origin, 1.0)
        unsigned, low = column.dtype == pl.UInt64, 0.0 if origin or least >= 0 else None
        return cls(name=column.name, inner=inner, origin=origin, unsigned=unsigned, least=low)

    def encode(self, column: pl.Series, rng: np.random.Generator | None) -> FloatArray:
        """Encode y + u; see `ColumnEncoding.encode`."""
        y = _less(column, self.origin)
        features = self.inner.encode(pl.Series(self.name, dequantise(y, rng, 1.0)), rng)
        affine = (0.0, 0.0) if self.inner.affine is None else self.inner.affine
        if max(np.abs(y).max(initial=0.0), *map(abs, affine)) > LARGEST_NOISY:
            astray = self.values(features) != y
            features[astray] = self.inner.encode(pl.Series(self.name, y[astray]), rng)
        return features

    def values(self, features: Any) -> Any:
        """Compute round(y); the origin is the `offset`."""
        y = self.inner.values(features).round()
        return y if self.least is None else y.clip(min=self.least)

    @property
    def offset(self) -> int:
        """The origin."""
        return self.origin

    def series(self, values: FloatArray) -> pl.Series:
        """Give the values as whole numbers of 64 bits; one beyond them becomes the least or the largest."""
        return with_origin(self.name, values, self.origin, unsigned=self.unsigned)

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
        if isinstance(self.inner, BoundedColumn):
            low, high = self.inner.low, self.inner.high
            low = self.least if low is None and not self.origin else low
            least = "" if low is None else str(math.ceil(low) + self.origin)
            span = span_in_words(least, "" if high is None else str(math.floor(high) + self.origin))
            return f"{self.inner.inner.summary.replace('number', 'integer', 1)}, {span}"
        bounded = ", at least 0" if self.least is not None and not self.origin else ""
        return self.inner.summary.replace("number", "integer", 1) + bounded


class DecimalColumn(WrappedColumn):
    """x = step·round(y/step), where the inner encoding is that of y + step·u with u ~ U(−½, ½).

    Attributes:
        inner: the encoding of the dequantised numbers.
        step: the distance of neighbouring values, in the column's unit.
        least: 0 where no training row is negative; smaller values become this one.

    """

    kind: Literal["decimal"] = "decimal"
    step: float = Field(gt=0)
    least: float | None = None

    DECIMALS: ClassVar[int] = 6

    @classmethod
    def suits(cls, column: pl.Series) -> bool:
        """Say whether all values are multiples of one step that is not too fine to matter."""
        return column.dtype.is_float() and not column.null_count() and step_of(column) is not None

    @classmethod
    def fit(cls, column: pl.Series, *, standardise: bool) -> Self:
        """Find the step, and fit the inner encoding to the dequantised numbers; see `ColumnEncoding.fit`."""
        step = step_of(column)
        assert step is not None
        y = dequantise(column.to_numpy(), seeding.stream(0, f"fit {column.name}"), step)
        inner = fit_column(pl.Series(column.name, y), standardise=standardise, after="decimal")
        least, most = float(column.min()), float(column.max())  # type: ignore[arg-type]
        inner = _with_whole_steps(inner, least, most, step)
        return cls(name=column.name, inner=inner, step=step, least=0.0 if least >= 0 else None)

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
        inner = self.inner
        if not isinstance(inner, BoundedColumn):
            return f"{inner.summary}, in steps of {self.step:g}"
        half = self.step / 2
        low, high = inner.low, inner.high
        least = f"{low + half:g}" if low is not None else "" if self.least is None else f"{self.least:g}"
        span = span_in_words(least, "" if high is None else f"{high - half:g}")
        return f"{inner.inner.summary}, {span}, in steps of {self.step:g}"


def dequantise(x: FloatArray, rng: np.random.Generator | None, step: float) -> FloatArray:
    """Compute x + step·u, (n,), float64; without a generator u = 0."""
    return x.astype(np.float64) + (0.0 if rng is None else step * rng.uniform(-0.5, 0.5, len(x)))


def _with_whole_steps(inner: ColumnEncoding, least: float, most: float, step: float) -> ColumnEncoding:
    """Move the bounds that were found for dequantised numbers to the ends of the steps of the least and the largest.

    Args:
        inner: the encoding of the dequantised numbers.
        least, most: the least and the largest number before noise was added.
        step: the distance of neighbouring values.

    """
    if not isinstance(inner, BoundedColumn):
        return inner
    low = None if inner.low is None else (least if inner.low > 0 or least <= step else 0.0) - step / 2
    high = None if inner.high is None else most + step / 2
    return inner.model_copy(update={"low": low, "high": high})


def _less(column: pl.Series, origin: int) -> FloatArray:
    """Give x − origin as float64, computed exactly; numbers of another type than the training rows keep fractions."""
    if column.dtype.is_float():
        return column.cast(pl.Float64).to_numpy() - float(origin)
    return plus(column, -origin).cast(pl.Float64).to_numpy()


def _inner_resolution(inner: ColumnEncoding, step: float) -> float:
    return 0.0 if inner.affine is None else step / inner.affine[1]


def step_of(column: pl.Series) -> float | None:
    """Find the largest step of `STEPS` of which all values (n,) are multiples."""
    x = column.to_numpy().astype(np.float64)
    largest = np.abs(x).max()
    for step in STEPS:
        if largest > step * MOST_STEPS:
            return None
        # Tiny values are no multiples of anything here: each value must come back from its multiple.
        back = ((x / step).round() * step).round(DecimalColumn.DECIMALS)
        if np.all(np.abs(back - x) <= 1e-12 * np.abs(x)):
            return step
    return None
