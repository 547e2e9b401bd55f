"""The columns of a table in numbers: true rows beside generated rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from ..tables import MISSING, number

__all__ = ["STATISTICS", "ColumnSummary", "summarise_columns"]

STATISTICS = ("mean", "std", "min", "max", "missing", "different values")
"""The heads of the statistics of a column."""
LONGEST = 24


@dataclass(frozen=True)
class ColumnSummary:
    """One column of both tables.

    Attributes:
        name, dtype: of the column.
        real, generated: the texts of `STATISTICS`.

    """

    name: str
    dtype: str
    real: tuple[str, ...]
    generated: tuple[str, ...]


def summarise_columns(real: pl.DataFrame, generated: pl.DataFrame) -> list[ColumnSummary]:
    """Summarise every column that both tables have; different values are counted among equally many rows of both."""
    rows = min(real.height, generated.height)
    return [
        ColumnSummary(name, str(real[name].dtype), *(_statistics(table[name], rows) for table in (real, generated)))
        for name in real.columns
        if name in generated.columns
    ]


def _statistics(column: pl.Series, rows: int) -> tuple[str, ...]:
    dtype, present = column.dtype, column.drop_nulls()
    missing = column.null_count() / max(len(column), 1)
    ends: tuple[Any, Any] = (None, None)
    centre: tuple[Any, Any] = (None, None)
    if dtype.is_numeric() or dtype == pl.Boolean:
        numbers = present.cast(pl.Float64)
        centre = (numbers.mean(), numbers.std())
    if dtype.is_numeric() or dtype.is_temporal():
        ends = (present.min(), present.max())
    shown = [_text(value) for value in (*centre, *ends)]
    share = f"{100 * missing:.1f} %" if missing else "0 %"
    return (*shown, share, f"{column.head(rows).drop_nulls().n_unique():,}")


def _text(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value, 4)
    return str(value)[:LONGEST]
