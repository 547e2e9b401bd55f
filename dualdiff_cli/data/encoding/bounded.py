"""Numbers inside bounds: fractions, durations, ages.

A smooth model of such a column reaches over its bounds. Decoding reflects what is over a bound back inside, which is
the usual correction of a density at a bound (Silverman 1986, "Density estimation", section 2.10).
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import polars as pl

from ..arrays import FloatArray
from .base import ColumnEncoding, namespace
from .choosing import fit_column
from .skewed import SkewedColumn
from .wrapped import WrappedColumn

__all__ = ["BoundedColumn", "bounds_of", "reflect", "span_in_words"]

EDGE = 0.05
"""The share of the range next to the least value whose number of rows says whether the distribution ends abruptly."""
ABRUPT = 0.6
"""An end is abrupt if the values next to it are at least this many times as dense as on average over the range."""
LEAST_AT_EDGE = 10
"""The number of values next to an end without which nothing is concluded."""
FAR = 6.0
"""A bound that lies more standard deviations away from the mean than this does not matter."""


class BoundedColumn(WrappedColumn):
    """Another encoding, whose values are reflected into [low, high].

    Attributes:
        inner: the encoding of the values.
        low, high: the bounds in the column's unit; None where there is none.

    """

    kind: Literal["bounded"] = "bounded"
    low: float | None
    high: float | None

    @classmethod
    def suits(cls, column: pl.Series) -> bool:
        """Say whether the values of a column end abruptly, or are never negative."""
        return column.dtype.is_numeric() and not column.null_count() and bounds_of(column) != (None, None)

    @classmethod
    def proposed(cls, column: pl.Series, *, standardise: bool) -> ColumnEncoding | None:
        """Put bounds around the inner encoding; numbers above zero that are learnt in logarithms need none."""
        if not cls.suits(column):
            return None
        bounded = cls.fit(column, standardise=standardise)
        # A power of two is above zero by itself. No translation keeps another bound.
        needless = _is_positive(bounded.inner) and (bounded.low, bounded.high) == (0, None)
        return bounded.inner if needless else bounded

    @classmethod
    def fit(cls, column: pl.Series, *, standardise: bool) -> Self:
        """Find the bounds, and fit the inner encoding; see `ColumnEncoding.fit`."""
        inner = fit_column(column, standardise=standardise, after="bounded")
        low, high = bounds_of(column)
        return cls(name=column.name, inner=inner, low=low, high=high)

    def encode(self, column: pl.Series, rng: np.random.Generator | None) -> FloatArray:
        """Encode the values as they are; see `ColumnEncoding.encode`."""
        return self.inner.encode(column, rng)

    def values(self, features: Any) -> Any:
        """Reflect each value at a bound that it lies beyond; see `reflect`."""
        return reflect(self.inner.values(features), self.low, self.high)

    @property
    def reflects(self) -> bool:
        """A bounded column does."""
        return True

    @property
    def affine(self) -> tuple[float, float] | None:
        """That of the inner encoding: the density inside the bounds without what is reflected, a lower bound."""
        return self.inner.affine

    def log_slope(self, features: FloatArray) -> FloatArray | None:
        """Give the slope of the inner encoding: what is reflected is missing from the density inside the bounds."""
        return self.inner.log_slope(features)

    @property
    def summary(self) -> str:
        """Say what the bounds are."""
        low, high = ("" if end is None else f"{end:g}" for end in (self.low, self.high))
        return f"{self.inner.summary}, {span_in_words(low, high)}"


def _is_positive(inner: ColumnEncoding) -> bool:
    """Say whether an encoding decodes to powers of two."""
    return isinstance(inner, SkewedColumn) and inner.form == "positive"


def span_in_words(low: str, high: str) -> str:
    """Say between which numbers values lie; a number that is empty text is no bound."""
    return f"from {low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}"


def reflect(x: Any, low: float | None, high: float | None) -> Any:
    """Reflect values (n,) at a bound that they lie beyond; what is further out than the range itself is clipped."""
    # A value inside stays as it is: a small number has digits that the differences from the bounds do not have.
    where = namespace(x).where
    if low is not None:
        x = where(x > low, x, low + abs(x - low))
    if high is not None:
        x = where(x < high, x, high - abs(x - high))
    return x if low is None else x.clip(min=low)


def bounds_of(column: pl.Series) -> tuple[float | None, float | None]:
    """Find the bounds of values (n,): an abrupt end, or zero where no value is negative.

    A density that reaches a bound with half of its mean height or more ends there; one that has faded away does not.
    """
    x = np.sort(column.to_numpy().astype(np.float64))
    low, high = _abrupt_end(x), _abrupt_end(-x[::-1])
    least, most = float(x[0]), float(x[-1])
    if low is not None and 0 <= least <= EDGE * (most - least) / 5:
        low = 0.0  # the least of a sample lies a little above the bound
    if low is None and least >= 0 and x.mean() < FAR * x.std():
        low = 0.0
    return low, None if high is None else -high


def _abrupt_end(x: FloatArray) -> float | None:
    """Give the least of the ascending values (n,) if their density ends there abruptly."""
    # The range is that of the bulk, so that outliers do not stretch it.
    reach = x[0] + EDGE * (np.quantile(x, 0.95) - x[0])
    near = int(np.searchsorted(x, reach, side="right"))
    return float(x[0]) if near >= max(LEAST_AT_EDGE, ABRUPT * EDGE * len(x)) else None
