"""Cells that are given: the values that a condition names, as features."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ...errors import InputError, did_you_mean
from ..arrays import FloatArray
from ..tidied import LARGEST
from .base import ColumnEncoding
from .derived import DerivedColumn
from .table import TableEncoding

__all__ = ["Given", "given_cells", "with_known_columns"]

ROUNDING = 2.0**-43
"""Encoding and decoding round a number by at most this share of it."""
FINEST = 999
"""Dates may be learnt in milliseconds, and lose so many microseconds."""
SAME = 1e-9
"""Features that differ by no more than this are those of one value."""
_WHOLE = re.compile(r"(?<=\d)\.0*$")
"""What may follow the digits of a whole number."""
_CLOCK = re.compile(r"(\d+):(\d\d)(?::(\d\d(?:\.\d*)?))?")
"""A time of day, or a duration of less than a day."""


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

    @property
    def words(self) -> str:
        """The cells as a reader would write them: "species = Gentoo"."""
        return ", ".join(f"{name} = {value}" for name, value in self.cells.row(0, named=True).items())

    def put(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Write the given cells into n rows, exactly as they were given."""
        exact = [self.cells[name].new_from_index(0, rows.height) for name in self.cells.columns]
        return rows.with_columns(exact)


def with_known_columns(cells: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Let a text COLUMN=VALUE that was split at its last equals sign begin with the longest name of a column.

    Args:
        cells: the values, or their texts, by the name of the column; the names may have equals signs that belong to
            the text.
        names: of the columns. Where none fits, the text is split at its first equals sign.

    Raises:
        InputError: a column is given twice.

    """
    found: dict[str, Any] = {}
    for name, value in cells.items():
        column = name
        if isinstance(value, str) and name not in names:
            parts = name.split("=")
            k = next((k for k in range(len(parts), 0, -1) if "=".join(parts[:k]).strip() in names), 1)
            column, value = "=".join(parts[:k]).strip(), "=".join([*parts[k:], value])
        if column in found:
            raise InputError(
                f"The column '{column}' is given twice, with {found[column]} and with {value}.", "Give one value."
            )
        found[column] = value
    return found


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
    cells, sources = _with_solved(encoding, with_known_columns(cells, types), types)
    values, given, typed = np.zeros(encoding.width), np.zeros(encoding.width, dtype=bool), []
    for name, value in cells.items():
        if name not in types:
            raise InputError(
                f"The model has no column '{name}'.", f"{did_you_mean(name, types)}It has {', '.join(types)}."
            )
        place = encoding.names.index(name)
        column, span = encoding.columns[place], encoding.spans[place]
        if isinstance(value, str) and not value.strip():
            quoted = '"' + name.replace('"', '""') + '"'
            gaps = f", or draw rows with a gap with --where {shlex.quote(f'{quoted} IS NULL')}"
            raise InputError(
                f"The value that is given for the column '{name}' is empty.",
                f"Write a value behind the equals sign{'' if column.present_feature is None else gaps}.",
            )
        if not column.can_be_given:
            with_itself = "" if getattr(column, "ambiguous", ()) else ", or it and all but one of these"
            raise InputError(
                f"The column '{name}' cannot be given: it is {column.summary}.",
                f"Give the columns that it is computed from{with_itself}, or use --where.",
            )
        try:
            cell, features = _encoded(column, value, types[name])
        except InputError as error:
            if name not in sources:
                raise
            raise _no_solution(sources[name], name, value, types[name], cells) from error
        values[span], given[span] = features[0], ~column.unused(features)[0]
        typed.append(cell)
    return Given(pl.DataFrame(typed), values, given)


def _encoded(column: ColumnEncoding, value: Any, dtype: pl.DataType) -> tuple[pl.Series, FloatArray]:
    """Give a value the type of its column, and its features, (1, width).

    Raises:
        InputError: the column cannot have the value.

    """
    cell = _typed(column.name, value, dtype)
    features = column.encode(cell, None)
    if not (np.abs(features) <= LARGEST).all():  # what is computed from its square would be no number
        raise InputError(
            f"The column '{column.name}' cannot be {value}: that is too far from all training rows to compute with.",
            "Give a value that is nearer to them.",
        )
    back = column.series(column.values(features))
    if not (_equal(cell, back) or _is_rounding(column, cell, back, features)):
        raise InputError(
            f"The column '{column.name}' cannot be {value}: it is learnt as {column.summary}.",
            "Give a value that the column can have.",
        )
    return cell, features


def _with_solved(
    encoding: TableEncoding, cells: Mapping[str, Any], types: Mapping[str, pl.DataType]
) -> tuple[dict[str, Any], dict[str, tuple[DerivedColumn, Any]]]:
    """Put the cells that follow from given values of formulas in the place of these values.

    Returns:
        The cells, and for the names of those that follow the column with the formula and its given value.

    Raises:
        InputError: a value is no number, or does not agree with the cells that it is computed from.

    """
    known, sources = dict(cells), dict[str, tuple[DerivedColumn, Any]]()
    for column in encoding.columns:
        if not isinstance(column, DerivedColumn) or column.name not in known or not column.can_be_solved(known):
            continue
        named = [name for name in (column.name, *column.formula.columns) if name in known]
        typed = {name: _typed(name, known[name], types[name]) for name in named}
        numbers: dict[str, Any] = {name: np.float64(cell.cast(pl.Float64)[0]) for name, cell in typed.items()}
        for other in column.unknown(known):
            sources[other] = column, known[column.name]
            known[other] = numbers[other] = column.formula.solved_for(other, numbers[column.name], numbers)
        value = known.pop(column.name)
        computed = column.series(np.array([column.computed(numbers)], dtype=np.float64))
        if not _equal(typed[column.name], computed):
            raise InputError(
                f"The column '{column.name}' cannot be {value}: it is {column.summary}, which gives {computed[0]}.",
                "Give cells that agree, or leave one of them out.",
            )
    return known, sources


def _no_solution(
    source: tuple[DerivedColumn, Any], name: str, value: Any, dtype: pl.DataType, cells: Mapping[str, Any]
) -> InputError:
    """Say that a given value of a formula cannot be, because a column of the formula cannot have what follows from it.

    Args:
        source: the column with the formula, and its given value.
        name, value, dtype: the column of the formula, what follows for it, and its type.
        cells: all cells, from which the values near the given one are computed.

    """
    column, asked = source
    example = ""
    if dtype.is_integer() and np.isfinite(value) and value != round(value):
        numbers = {other: np.float64(cells[other]) for other in column.formula.columns}
        near = column.series(np.array([column.computed({**numbers, name: np.float64(round(value))})]))
        example = f", such as {near[0]}"
    return InputError(
        f"The column '{column.name}' cannot be {asked}: it is {column.summary}, so that '{name}' would be {value:g}, "
        "which that column cannot have.",
        f"Give a value of '{column.name}' that follows from values that '{name}' can have{example}.",
    )


def _typed(name: str, value: Any, dtype: pl.DataType) -> pl.Series:
    """Give a value, or its text, the type of its column."""
    try:
        if isinstance(value, str) and dtype == pl.Boolean:
            return pl.Series(name, [{"true": True, "false": False}[value.strip().lower()]])
        if isinstance(value, str) and dtype.is_integer():
            return pl.Series(name, [_WHOLE.sub("", value.strip())]).cast(dtype)
        cell = pl.Series(name, [value])
        if isinstance(value, str) and dtype.is_temporal():
            cell = cell.str.strip_chars().str.to_datetime(time_unit="us")
        if cell.dtype.is_temporal() and not dtype.is_temporal():  # polars would count its nanoseconds
            raise TypeError(f"{value!r} is no number")
        typed = cell.cast(dtype)
        exact = cell.dtype.is_numeric() or dtype == pl.Date  # the time of a moment would be lost
        if cell.is_null().any() or (exact and not typed.cast(cell.dtype).equals(cell)):
            raise ValueError(f"{value!r} would change")
        if typed.dtype.is_float() and not typed.is_finite().all():
            raise ValueError(f"{value!r} is no finite number")
        return typed
    except (KeyError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise InputError(
            f"'{value}' is no value of the column '{name}', whose type is {dtype}.", _remedy(name, value, dtype)
        ) from error


def _remedy(name: str, value: Any, dtype: pl.DataType) -> str:
    """Say what to give in place of a value that has not the type of its column."""
    if not dtype.is_float():
        return "Give a value of this type."
    if clock := _CLOCK.fullmatch(str(value).strip()):
        hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        number = f"{3600 * hours + 60 * minutes + seconds:.12g}"
        return (
            "Times of day are learnt as seconds after midnight, and durations as seconds: give --given "
            f"{shlex.quote(f'{name}={number}')}."
        )
    try:
        float(value)
    except (TypeError, ValueError):
        return "Give a finite number; durations are learnt as seconds, and times of day as seconds after midnight."
    return "Give a finite number."


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
