"""Cells that are given: the values that a condition names, as features."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ...errors import InputError, did_you_mean
from ..densities.families import FloatArray
from .base import ColumnEncoding
from .derived import DerivedColumn
from .table import TableEncoding

__all__ = ["Given", "given_cells"]

ROUNDING = 2.0**-43
"""Encoding and decoding round a number by at most this share of it."""
FINEST = 999
"""Dates may be learnt in milliseconds, and lose so many microseconds."""
SAME = 1e-9
"""Features that differ by no more than this are those of one value."""
_WHOLE = re.compile(r"(?<=\d)\.0*$")
"""What may follow the digits of a whole number."""


@dataclass(frozen=True, eq=False)
class Given:
    """Cells that every row is to have.

    Attributes:
        cells: the values, one row with the given columns only, in the columns' own types.
        values: the features of the row, (width,); zero where they are not given.
        given: which features are given, (width,) bool; those that do not count for a cell are not.

    """

    cells: pl.DataFrame
    values: FloatArray
    given: np.ndarray

    def put(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Write the given cells into n rows, exactly as they were given."""
        exact = [self.cells[name].new_from_index(0, rows.height) for name in self.cells.columns]
        return rows.with_columns(exact)


def given_cells(encoding: TableEncoding, cells: Mapping[str, Any]) -> Given:
    """Read given cells.

    Args:
        encoding: of the columns.
        cells: for some columns a value, or its text. A column with a formula can be given if all but one of the
            formula's columns are given, too.

    Raises:
        InputError: there is no such column, or the column cannot have the value.

    """
    types = encoding.types
    cells = _with_solved(encoding, cells, types)
    values, given, typed = np.zeros(encoding.width), np.zeros(encoding.width, dtype=bool), []
    for name, value in cells.items():
        if name not in types:
            raise InputError(
                f"The model has no column '{name}'.", f"{did_you_mean(name, types)}It has {', '.join(types)}."
            )
        place = encoding.names.index(name)
        column, span = encoding.columns[place], encoding.spans[place]
        if not column.can_be_given:
            raise InputError(
                f"The column '{name}' cannot be given: it is {column.summary}.",
                "Give the columns that it is computed from, or it and all but one of these, or use --where.",
            )
        cell = _typed(name, value, types[name])
        features = column.encode(cell, None)
        back = column.series(column.values(features))
        if not (_equal(cell, back) or _is_rounding(column, cell, back, features)):
            raise InputError(
                f"The column '{name}' cannot be {value}: it is learnt as {column.summary}.",
                "Give a value that the column can have.",
            )
        values[span], given[span] = features[0], ~column.unused(features)[0]
        typed.append(cell)
    return Given(pl.DataFrame(typed), values, given)


def _with_solved(encoding: TableEncoding, cells: Mapping[str, Any], types: Mapping[str, pl.DataType]) -> dict[str, Any]:
    """Put the cells that follow from given values of formulas in the place of these values.

    Raises:
        InputError: a value is no number, or does not agree with the cells that it is computed from.

    """
    known = dict(cells)
    for column in encoding.columns:
        if not isinstance(column, DerivedColumn) or column.name not in known or not column.can_be_solved(known):
            continue
        named = [name for name in (column.name, *column.formula.columns) if name in known]
        typed = {name: _typed(name, known[name], types[name]) for name in named}
        numbers: dict[str, Any] = {name: np.float64(cell.cast(pl.Float64)[0]) for name, cell in typed.items()}
        for other in column.unknown(known):
            known[other] = numbers[other] = column.formula.solved_for(other, numbers[column.name], numbers)
        value = known.pop(column.name)
        computed = column.series(np.array([column.computed(numbers)], dtype=np.float64))
        if not _equal(typed[column.name], computed):
            raise InputError(
                f"The column '{column.name}' cannot be {value}: it is {column.summary}, which gives {computed[0]}.",
                "Give cells that agree, or leave one of them out.",
            )
    return known


def _typed(name: str, value: Any, dtype: pl.DataType) -> pl.Series:
    """Give a value, or its text, the type of its column."""
    try:
        if isinstance(value, str) and dtype == pl.Boolean:
            return pl.Series(name, [{"true": True, "false": False}[value.strip().lower()]])
        if isinstance(value, str) and dtype.is_temporal():
            return pl.Series(name, [value.strip()]).str.to_datetime(time_unit="us").cast(dtype)
        if isinstance(value, str) and dtype.is_integer():
            return pl.Series(name, [_WHOLE.sub("", value.strip())]).cast(dtype)
        cell = pl.Series(name, [value])
        typed = cell.cast(dtype)
        if cell.is_null().any() or (cell.dtype.is_numeric() and not typed.cast(cell.dtype).equals(cell)):
            raise ValueError(f"{value!r} would change")
        return typed
    except (KeyError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise InputError(
            f"'{value}' is no value of the column '{name}', whose type is {dtype}.", "Give a value of this type."
        ) from error


def _is_rounding(column: ColumnEncoding, cell: pl.Series, back: pl.Series, features: FloatArray) -> bool:
    """Say whether a value differs from the one that came back by the rounding of float64 or of a date's unit only.

    The column tells the two values apart by no more than this rounding. The given value itself is written into rows.
    """
    if back.null_count() or not (cell.dtype.is_integer() or cell.dtype == pl.Datetime):
        return False
    value, other = (int(each.to_physical()[0]) for each in (cell, back))
    most = ROUNDING * abs(other - column.offset)
    near = abs(value - other) <= (max(most, FINEST) if cell.dtype == pl.Datetime else most)
    return near and bool(np.allclose(column.encode(back, None), features, rtol=0, atol=SAME))


def _equal(cell: pl.Series, back: pl.Series) -> bool:
    """Say whether a value came back from its features; numbers may differ by rounding."""
    if cell.dtype.is_float():
        return bool(np.isclose(cell.to_numpy(), back.to_numpy(), rtol=1e-6)[0])
    return cell.equals(back)
