"""Categories: text, Booleans, and numbers with two values.

A category of L values is one-hot: L features μ_k + s·b_k, of which one has b_k = 1; a category of two values is one
feature. The features of a column have the total variance one, as the one feature of a number has. A denoiser answers
with the mean under the posterior probabilities of the values, for which the network gives the logits (score
interpolation: Dieleman et al. 2022, "Continuous diffusion for categorical data", section 3).

More than `MOST_ONE_HOT` values would need as many features. Such a category gives each value a number, the most
frequent value first, and learns the binary digits of that number, one feature each (Chen, Zhang & Hinton 2023, "Analog
bits: generating discrete data using diffusion models with self-conditioning").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from ..arrays import FloatArray
from .base import ColumnEncoding, shortened
from .layout import DiscreteSpan

__all__ = ["CategoryColumn", "binary_scale"]

MOST_ONE_HOT = 32
"""The largest number of values that are learnt one-hot."""
LARGEST_SCALE = 3.0
"""The largest s: a rare value would otherwise lie as far out as it is rare."""

Dtype = Literal["text", "boolean", "integer", "number"]
TYPES: dict[Dtype, Any] = {"text": pl.String, "boolean": pl.Boolean, "integer": pl.Int64, "number": pl.Float64}


def binary_scale(share: float) -> float:
    """Give s for a feature that is 1 in a share p of the rows and otherwise 0: 1/√(p(1 − p)), up to 2·`LARGEST_SCALE`.

    A feature with two values needs twice the scale of a pair of one-hot features for the same distance in bits.
    """
    return min(1 / math.sqrt(share * (1 - share)), 2 * LARGEST_SCALE)


class CategoryColumn(ColumnEncoding):
    """One of L values.

    Attributes:
        levels: the L values, the most frequent first.
        shares: the share of each value in the training rows.
        dtype: the type of the values.

    """

    kind: Literal["category"] = "category"
    levels: tuple[bool | int | float | str, ...] = Field(min_length=2)
    shares: tuple[float, ...]
    dtype: Dtype

    @property
    def width(self) -> int:
        """One feature for two values, L features up to `MOST_ONE_HOT` values, and otherwise ⌈log₂ L⌉ features."""
        number = len(self.levels)
        return 1 if number == 2 else number if number <= MOST_ONE_HOT else math.ceil(math.log2(number))

    @property
    def whole(self) -> bool:
        """The decoded numbers are places in the list of values."""
        return True

    @classmethod
    def suits(cls, column: pl.Series) -> bool:
        """Say whether the column holds text or Booleans, or two values of any kind of number."""
        if column.null_count():
            return False
        if column.dtype.is_numeric():
            return column.dtype != pl.UInt64 and column.n_unique() == 2
        return column.dtype in (pl.String, pl.Boolean)

    @classmethod
    def takes(cls, column: pl.Series) -> bool:
        """Say whether the column holds two or more values of text, Booleans or numbers of at most 63 bits."""
        learnable = column.dtype in (pl.String, pl.Boolean) or column.dtype.is_numeric()
        return learnable and column.dtype != pl.UInt64 and not column.null_count() and column.n_unique() > 1

    @classmethod
    def fit(cls, column: pl.Series, *, standardise: bool) -> Self:
        """Count the values; see `ColumnEncoding.fit`."""
        dtype: Dtype = "number" if column.dtype.is_numeric() else "text"
        dtype = "boolean" if column.dtype == pl.Boolean else "integer" if column.dtype.is_integer() else dtype
        counts = column.rename("value").value_counts().sort(["count", "value"], descending=[True, False])
        shares = (counts["count"] / len(column)).to_list()
        return cls.model_construct(
            name=column.name, levels=tuple(counts["value"].to_list()), shares=tuple(shares), dtype=dtype
        )

    def encode(self, column: pl.Series, rng: np.random.Generator | None) -> FloatArray:
        """Look the values up; a value that the training rows do not have is encoded as the mean, with zeros."""
        levels = pl.Series(self.levels, dtype=TYPES[self.dtype])
        places = self._as_levels(column).replace_strict(
            levels, pl.Series(range(len(levels))), default=-1, return_dtype=pl.Int64
        )
        place = places.to_numpy()
        features = np.zeros((len(column), self.width))
        known = place >= 0
        for span, digit in zip(self.discrete, self._digits(place[known]).T, strict=True):
            features[known, span.features] = span.at(digit)
        return features

    def unknown(self, column: pl.Series) -> pl.Series:
        """Give the observed values of a column, each as often as it occurs, that the training rows do not have."""
        observed = column.drop_nulls()
        known = self._as_levels(observed).is_in(list(self.levels)).fill_null(False)
        return observed.filter(~known)

    def _as_levels(self, column: pl.Series) -> pl.Series:
        """Give the values the type of the learnt ones; a number that the type would change, such as 0.37, is null."""
        values = column.cast(TYPES[self.dtype], strict=False)
        if not column.dtype.is_numeric():
            return values
        return values.set(values.cast(column.dtype, strict=False) != column, None)

    def _digits(self, place: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Give the place in each span, (n, spans), of places (n,) in the list of values: the same, or binary digits."""
        return place[:, None] if self._is_one_hot else place[:, None] >> np.arange(self.width) & 1

    def values(self, features: Any) -> Any:
        """Find the place of the most probable value in the list of values."""
        if self._is_one_hot:
            (span,) = self.discrete
            columns = [features[:, k] - shift for k, shift in enumerate(span.shift)]
            best, place = columns[0], columns[0] * 0
            for k, column in enumerate(columns[1:], start=1):
                larger = (column > best) * 1.0
                best, place = best + larger * (column - best), place + larger * (k - place)
            return place
        place = features[:, 0] * 0
        for k, span in enumerate(self.discrete):
            place = place + 2.0**k * (features[:, k] > span.shift[0] + span.scale / 2)
        return place.clip(min=0, max=len(self.levels) - 1)

    def series(self, values: FloatArray) -> pl.Series:
        """Give the values at these places of the list."""
        levels = pl.Series(self.name, self.levels, dtype=TYPES[self.dtype])
        return levels.gather(values.astype(np.int64))

    @property
    def _is_one_hot(self) -> bool:
        return 2 < len(self.levels) <= MOST_ONE_HOT

    def with_numbers(self, convert: Callable[[float], Any]) -> Self:
        """Give the encoding itself: `values` compares features, and rounding changes no place."""
        return self

    @property
    def discrete(self) -> tuple[DiscreteSpan, ...]:
        """All features: one span if they are one-hot, and otherwise a span for each."""
        if self._is_one_hot:
            p = np.array(self.shares)
            scale = min(1 / math.sqrt(max(1 - float(p @ p), 1e-9)), LARGEST_SCALE)
            return (DiscreteSpan(0, self.width, tuple((-scale * p).tolist()), scale),)
        ones = np.array(self.shares) @ self._digits(np.arange(len(self.levels)))
        scales = [binary_scale(float(np.clip(p, 1e-6, 1 - 1e-6))) for p in ones]
        return tuple(DiscreteSpan(k, 1, (-s * float(p),), s) for k, (p, s) in enumerate(zip(ones, scales, strict=True)))

    @property
    def summary(self) -> str:
        """Say how many values there are, and how they are learnt."""
        number = len(self.levels)
        if number <= MOST_ONE_HOT:
            shown = ", ".join(map(shortened, self.levels[:4])) + (", …" if number > 4 else "")
            return f"category of {number} values: {shown}"
        return f"category of {number:,} values, learnt as {self.width} binary digits"
