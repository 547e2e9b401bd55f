"""Columns with one value, or with none at all: nothing is learnt, and every row gets the same cell."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal, Self

import numpy as np
import polars as pl

from ..densities.families import FloatArray
from .base import ColumnEncoding

__all__ = ["ConstantColumn"]


class ConstantColumn(ColumnEncoding):
    """A column without features.

    Attributes:
        value: the only value; None for a column that is empty.
        dtype: the name of the column's type in polars.

    """

    kind: Literal["constant"] = "constant"
    value: bool | int | float | datetime | date | str | None
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
        return cls.model_construct(name=column.name, value=column[0], dtype=_type_name(column.dtype))

    def encode(self, column: pl.Series, rng: np.random.Generator | None) -> FloatArray:
        """Give n rows without features."""
        return np.empty((len(column), 0))

    def values(self, features: Any) -> Any:
        """Give the value, if the value is a number, and 0 otherwise."""
        number = float(self.value) if isinstance(self.value, bool | int | float) else 0.0
        return features[:, :0].sum(-1) + number

    def series(self, values: FloatArray) -> pl.Series:
        """Repeat the value."""
        return pl.Series(self.name, [self.value], dtype=_types()[self.dtype]).new_from_index(0, len(values))

    @property
    def summary(self) -> str:
        """Say which value every row gets."""
        return "empty: every cell stays missing" if self.value is None else f"constant: every row gets {self.value}"


def _types() -> dict[str, Any]:
    named = (pl.Boolean, pl.Int64, pl.UInt64, pl.Float64, pl.String, pl.Date)
    return {str(dtype): dtype for dtype in named} | {"Datetime": pl.Datetime("us")}


def _type_name(dtype: pl.DataType) -> str:
    return "Datetime" if isinstance(dtype, pl.Datetime) else str(dtype if str(dtype) in _types() else pl.String)
