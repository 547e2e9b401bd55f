"""Columns with gaps: one feature says whether the cell is there, the others say what the cell holds.

A missing cell needs some value for the other features. That value is drawn from the observed values, so that no gap
makes a peak in the distribution of the features. Training then draws it again, from its distribution given the other
cells of the row (`training.gaps`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from ..arrays import FloatArray
from .base import ColumnEncoding, namespace
from .category import binary_scale
from .choosing import fit_column
from .layout import DiscreteSpan
from .wrapped import WrappedColumn

__all__ = ["MissingColumn"]


class MissingColumn(WrappedColumn):
    """The features of the observed values, and one feature that is 0 (missing) or 1 (present), standardised.

    Attributes:
        inner: the encoding of the observed values.
        present: the share of observed cells in the training rows.

    """

    kind: Literal["missing"] = "missing"
    present: float = Field(gt=0, lt=1)

    @property
    def width(self) -> int:
        """The features of the observed values and one more."""
        return self.inner.width + 1

    @property
    def whole(self) -> bool:
        """Never: a missing value is NaN."""
        return False

    @classmethod
    def suits(cls, column: pl.Series) -> bool:
        """Say whether some cells are missing, and some are not."""
        return 0 < column.null_count() < len(column)

    @classmethod
    def fit(cls, column: pl.Series, *, standardise: bool, kind: str | None = None) -> Self:
        """Fit the encoding of the observed values, whose kind may be asked for; see `ColumnEncoding.fit`."""
        observed = column.drop_nulls()
        inner = fit_column(observed, standardise=standardise, kind=kind)
        return cls(name=column.name, inner=inner, present=len(observed) / len(column))

    def encode(self, column: pl.Series, rng: np.random.Generator | None) -> FloatArray:
        """Encode the observed values, and give the missing cells those of observed ones; see `ColumnEncoding.encode`.

        Without a generator the value features of missing cells are zero.
        """
        there = column.is_not_null().to_numpy()
        features = np.zeros((len(column), self.inner.width))
        observed = self.inner.encode(column.drop_nulls(), rng)
        features[there] = observed
        if rng is not None and len(observed):
            features[~there] = observed[rng.integers(len(observed), size=int((~there).sum()))]
        return np.concatenate([features, self._flag.at(there.astype(np.int64))], axis=1)

    def values(self, features: Any) -> Any:
        """Decode the observed values; NaN where the last feature says that the cell is missing."""
        # The inner encoding of one value has no feature, and gets the flag; see `TableEncoding.values`.
        value = self.inner.values(features[:, : max(self.inner.width, 1)])
        return namespace(features).where(self._there(features), value, value * 0 + float("nan"))

    def unused(self, features: FloatArray) -> npt.NDArray[np.bool_]:
        """The value features of missing cells; see `ColumnEncoding.unused`."""
        inner = self.inner.unused(features[:, :-1]) | ~self._there(features)[:, None]
        return np.pad(inner, ((0, 0), (0, 1)))

    def _there(self, features: Any) -> Any:
        """Say for which rows the last feature says that the cell is there."""
        return features[:, -1] > self._flag.shift[0] + self._flag.scale / 2

    def with_numbers(self, convert: Callable[[float], Any]) -> Self:
        """Convert the numbers of the observed values; the flag is only compared."""
        return self.model_copy(update={"inner": self.inner.with_numbers(convert)})

    def series(self, values: FloatArray) -> pl.Series:
        """Give the values their type, and leave the missing cells empty."""
        there = ~np.isnan(values)
        filled = self.inner.series(np.where(there, values, self._any_value()))
        return pl.select(pl.when(pl.Series(there)).then(filled).otherwise(None).alias(self.name)).to_series()

    def _any_value(self) -> float:
        """Give a number that the inner encoding can turn into a value."""
        return float(self.inner.values(np.zeros((1, self.inner.width)))[0])

    @property
    def _flag(self) -> DiscreteSpan:
        """The last feature, whose values are those of a missing cell and of a present one."""
        scale = binary_scale(self.present)
        return DiscreteSpan(self.inner.width, 1, (-self.present * scale,), scale)

    @property
    def discrete(self) -> tuple[DiscreteSpan, ...]:
        """The discrete features of the observed values, and the flag."""
        return (*self.inner.discrete, self._flag)

    @property
    def units(self) -> tuple[int, ...]:
        """The flag is a unit of its own, so that a cell can be asked to be present without saying what it holds."""
        inner = self.inner.units
        return (*inner, max(inner, default=-1) + 1)

    @property
    def observed(self) -> ColumnEncoding:
        """The encoding of the observed values."""
        return self.inner

    @property
    def present_feature(self) -> tuple[int, float]:
        """The last feature, and its value for a cell that is there."""
        return self._flag.start, self._flag.shift[0] + self._flag.scale

    @property
    def summary(self) -> str:
        """Say how the observed values are learnt, and how many cells are missing."""
        return f"{self.inner.summary}; {100 * (1 - self.present):.2g} % missing"
