"""Columns with one value, or with none at all: nothing is learnt, and every row gets the same cell."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal, Self, cast

import numpy as np
import polars as pl

from ..arrays import FloatArray
from .base import ColumnEncoding, shortened

__all__ = ["ConstantColumn"]

TYPES: dict[str, Any] = {
    **{str(dtype): dtype for dtype in (pl.Boolean, pl.Int64, pl.UInt64, pl.Float64, pl.String, pl.Date)},
    "Datetime": pl.Datetime("us"),
}
"""The types of columns, by their names."""


class ConstantColumn(ColumnEncoding):
    """A column without features.

    Attributes:
        value: the only value; a date, or a date with a time, as its ISO text; None for a column that is empty.
        dtype: the name of the column's type in polars.

    """

    kind: Literal["constant"] = "constant"
    value: bool | int | float | str | None
    dtype: str

    @property
    def width(self) -> int:
        """No feature at all."""
        return 0

    @classmethod
    def suits(cls, column: pl.Series) -> bool:
        """Say whether all cells are equal, which includes a column of missing cells only."""
        return column.n_unique() == 1

    @classmethod
    def fit(cls, column: pl.Series, *, standardise: bool) -> Self:
        """Take the value of the first row; see `ColumnEncoding.fit`."""
        value = column[0]
        if isinstance(value, date):  # a datetime is a date
            value = value.isoformat()
        return cls(name=column.name, value=value, dtype=_type_name(column.dtype))

    def encode(self, column: pl.Series, rng: np.random.Generator | None) -> FloatArray:
        """Give n rows without features."""
        return np.empty((len(column), 0))

    @property
    def whole(self) -> bool:
        """Whether the value is a whole number of 64 bits, or a date, which counts microseconds since 1970."""
        return self._number is not None

    @property
    def offset(self) -> int:
        """All of a whole number or a date, so that no digit is lost."""
        return self._number or 0

    def values(self, features: Any) -> Any:
        """Give the value, if the value is a number that is not whole, and otherwise 0; see `offset`."""
        number = 0.0 if self.whole or self.value is None or isinstance(self.value, str) else self.value * 1.0
        return features.sum(-1) * 0 + number  # whatever the features are; see `TableEncoding.values`

    def series(self, values: FloatArray) -> pl.Series:
        """Repeat the value."""
        return self._only.new_from_index(0, len(values))

    def differs_from(self, cells: pl.Series) -> bool:
        """Say whether some of n cells, which may have another type, are not the value."""
        only = self._only
        if cells.dtype.is_numeric() and only.dtype.is_numeric():
            return bool(cells.ne_missing(only[0]).any())
        try:
            return bool(cells.cast(only.dtype, strict=False).ne_missing(only[0]).any())
        except pl.exceptions.PolarsError:  # such as texts in the place of truth values
            return True

    @property
    def _only(self) -> pl.Series:
        """The value in its type, (1,)."""
        dtype = TYPES[self.dtype]
        if isinstance(self.value, str) and dtype != pl.String:
            return pl.Series(self.name, [datetime.fromisoformat(self.value)], dtype=pl.Datetime("us")).cast(dtype)
        return pl.Series(self.name, [self.value], dtype=dtype)

    @property
    def _number(self) -> int | None:
        """The whole number, or the microseconds of the date; None for another value."""
        if TYPES[self.dtype].is_temporal():
            return cast(int | None, self._only.cast(pl.Datetime("us")).cast(pl.Int64)[0])
        if TYPES[self.dtype].is_integer():
            return cast(int | None, self._only.cast(pl.Int64, strict=False)[0])
        return None

    def log_slope(self, features: FloatArray) -> FloatArray:
        """Give 0: the density is that of the other columns."""
        return np.zeros(len(features))

    @property
    def summary(self) -> str:
        """Say which value every row gets."""
        return (
            "empty: every cell stays missing"
            if self.value is None
            else f"constant: every row gets {shortened(self.value)}"
        )


def _type_name(dtype: pl.DataType) -> str:
    """Name the type that a column of this type comes back with: the one of `TYPES` that holds all its values."""
    if isinstance(dtype, pl.Datetime):
        return "Datetime"
    if dtype.is_integer() and dtype != pl.UInt64:
        return "Int64"
    if dtype.is_float():
        return "Float64"
    return str(dtype) if str(dtype) in TYPES else "String"
