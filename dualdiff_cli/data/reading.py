"""Tables, read from files of any known format and checked before anything is fitted to them.

What no model can be fitted to (lists, infinity, whole numbers of more than 64 bits) is refused with the name of the
column. What is read in another way than a user may expect, or left out, is said in a note.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from ..errors import InputError, did_you_mean
from .cells import tidy
from .formats import READABLE, read_raw
from .names import readable_names
from .raw import RawTable
from .tidied import UnusableColumn

__all__ = ["MIN_ROWS", "READABLE", "Missing", "SourceTable", "check_table", "read_cells", "read_table"]

MIN_ROWS = 20
"""Fewer rows cannot be split into a part to learn from and a part to score against."""

Missing: TypeAlias = Literal["keep", "drop", "error"]
"""What is done about missing cells: they stay, their rows are left out, or the file is refused."""

MOST_TYPED = 8
"""The largest number of columns that an advice names."""

_INDEX_NAMES = ("", "Unnamed: 0")
"""How other programs name a first column in which they write the numbers of the rows."""
_PANDAS_INDEX = re.compile(r"__index_level_[0-9]+__")
"""How pandas names the columns of a Parquet file that hold an index without a name; they stand last."""


@dataclass(frozen=True, eq=False)
class SourceTable:
    """The rows of a file.

    Attributes:
        rows: n rows. The columns are Int64, UInt64 where a value needs it, Float64 (finite), Boolean, String, Date, or
            Datetime in microseconds without a time zone; a missing cell is null. A column without any value keeps
            its type; one of texts, or of no type, is String.
        numbers: (n,) the number of each row in the file, from 0; the header is not counted.
        rows_in_file: how many rows the file has, with those that were left out.
        notes: complete sentences for the user: what was left out, renamed, or recognised.

    """

    rows: pl.DataFrame
    numbers: npt.NDArray[np.int64]
    rows_in_file: int
    notes: tuple[str, ...] = ()


def read_table(
    path: str | Path,
    *,
    columns: Sequence[str] | None = None,
    missing: Missing = "keep",
    min_rows: int = MIN_ROWS,
    whole: bool = False,
    learnt: Mapping[str, pl.DataType] = MappingProxyType({}),
) -> SourceTable:
    """Read a file of one of the formats in `READABLE`.

    The separator, the encoding, the decimal comma and the header of a text file are recognised. Numbers, ISO dates and
    times, and true and false in columns of texts become values of these types. A file without names of columns has
    the columns x, y or x1 … xd.

    Args:
        path: the file; an .npy file holds an (n,) or (n, d) array.
        columns: which columns, in which order; all of them by default.
        missing: what is done about missing cells (null, NaN, or a text such as NA).
        min_rows: how many rows there have to be.
        whole: whether rows without any value stay, and a column that only numbers the rows: whoever gives the table
            back wants both.
        learnt: the types of columns that a model has learnt, by name; see `parse_text`.

    Raises:
        InputError: the file does not exist, cannot be read, is empty or has fewer than ``min_rows`` rows, a column is
            unknown or of a type that no value of the table can have, or a cell is infinite or, if asked for, missing.

    """
    path = Path(path)
    raw = _named(path, read_raw(path), columns, whole=whole)
    table = check_table(
        raw.frame,
        name=path,
        missing=missing,
        min_rows=min_rows,
        whole=whole,
        decimal_comma=raw.decimal_comma,
        learnt=learnt,
    )
    return replace(table, notes=(*raw.notes, *table.notes))


def read_cells(path: str | Path) -> RawTable:
    """Read all cells of a file of one of the formats in `READABLE` as they are; only the columns get new names.

    Raises:
        InputError: the file does not exist, cannot be read or is empty.

    """
    return _named(Path(path), read_raw(Path(path)), None, whole=True)


def check_table(
    frame: pl.DataFrame,
    *,
    name: str | Path,
    columns: Sequence[str] | None = None,
    missing: Missing = "keep",
    min_rows: int = MIN_ROWS,
    whole: bool = False,
    decimal_comma: bool = False,
    learnt: Mapping[str, pl.DataType] = MappingProxyType({}),
) -> SourceTable:
    """Check the rows of a table and give its columns the types of `SourceTable`; see `read_table`.

    Args:
        frame: the table.
        name: what the table is called in messages: the path of a file, or words.
        columns, missing, min_rows, whole, learnt: see `read_table`.
        decimal_comma: whether numbers in texts have a decimal comma.

    Raises:
        InputError: see `read_table`.

    """
    frame = _choose(name, frame, columns)
    frame, notes = _converted(name, frame, decimal_comma=decimal_comma, learnt=learnt)
    filled = pl.repeat(True, frame.height, eager=True) if whole else _filled(frame)
    if not filled.all():
        notes.append(_left_out(frame.height - int(filled.sum()), frame.height, "is empty", "are empty"))
    gaps = {column.name: int(column.filter(filled).null_count()) for column in frame}
    if missing == "error":
        _refuse(
            name,
            {
                column: f"has {_count(k, 'missing value')} in {_count(frame.height, 'row')}"
                for column, k in gaps.items()
                if k
            },
            "Fill these cells or remove their rows; `train --missing drop` leaves these rows out.",
        )
    kept = filled
    if missing == "drop":
        void = {column: "has no value in any row" for column, k in gaps.items() if k == filled.sum()}
        others = _option([column for column in frame.columns if column not in void])
        _refuse(name, void, f"Choose others with {others}." if others else "Give a file in which a column has values.")
        kept = filled & ~frame.select(pl.any_horizontal(pl.all().is_null())).to_series()
        left_out = int(filled.sum()) - int(kept.sum())
        if left_out:
            notes.append(_left_out(left_out, frame.height, "has a missing value", "have a missing value"))
    rows = frame.filter(kept)
    if rows.height < min_rows:
        complete = f", {rows.height:,} of them {'complete' if missing == 'drop' else 'not empty'}"
        raise InputError(
            f"{name} has {_count(frame.height, 'row')}{complete if rows.height < frame.height else ''}.",
            f"At least {_count(min_rows, 'row')} are needed.",
        )
    return SourceTable(rows, np.flatnonzero(kept.to_numpy()), frame.height, tuple(notes))


def _named(path: Path, raw: RawTable, columns: Sequence[str] | None, *, whole: bool) -> RawTable:
    """Name the columns and select those that were asked for; a column that numbers the rows only if it was."""
    header = raw.frame.columns if raw.header is None else raw.header
    names, renamed = readable_names(header)
    frame, notes = raw.frame, [*raw.notes]
    frame.columns = names
    if indices := [] if whole else _indices(header, frame, columns or ()):
        renamed = [note for note in renamed if not (names[0] in indices and note.startswith("Column 1 "))]
        named = " and ".join(f"'{name}'" for name in indices)
        numbering = "first column" if indices == names[:1] else f"column{'s' if len(indices) > 1 else ''} {named}"
        verbs = "number the rows and are" if len(indices) > 1 else "numbers the rows and is"
        notes.append(f"The {numbering} of {path} only {verbs} left out.")
        frame = frame.drop(indices)
    notes += renamed[:5] + ([f"{len(renamed) - 5:,} more columns are renamed."] if len(renamed) > 5 else [])
    return replace(raw, frame=_choose(path, frame, columns), notes=tuple(notes), header=None)


def _indices(header: Sequence[str], frame: pl.DataFrame, wanted: Sequence[str]) -> list[str]:
    """Name the columns that only number the rows, of those that nobody asked for."""
    found = [
        name
        for k, (written, name) in enumerate(zip(header, frame.columns, strict=True))
        if ((k == 0 and written.strip() in _INDEX_NAMES) or _PANDAS_INDEX.fullmatch(written))
        and name not in wanted
        and _numbers_rows(frame[name])
    ]
    return found if len(found) < frame.width else []


def _numbers_rows(column: pl.Series) -> bool:
    """Say whether the values are whole numbers that are all different."""
    if column.dtype == pl.String:
        column = column.cast(pl.Int64, strict=False)
    return column.dtype.is_integer() and column.null_count() == 0 and column.n_unique() == len(column)


def _choose(path: str | Path, frame: pl.DataFrame, columns: Sequence[str] | None) -> pl.DataFrame:
    """Select the columns that were asked for, in that order."""
    if columns is None:
        return frame
    unknown = [name for name in columns if name not in frame.columns]
    if unknown:
        hint = did_you_mean(unknown[0], frame.columns)
        raise InputError(f"{path} has no column '{unknown[0]}'.", f"{hint}It has {_some(frame.columns, limit=20)}.")
    if not columns or len(set(columns)) < len(columns):
        raise InputError("The columns asked for are none, or not all different.", "Name each column once.")
    return frame.select(columns)


def _filled(frame: pl.DataFrame) -> pl.Series:
    """Say for each row whether it has any value, (n,); a row of a table with one column always counts."""
    if frame.width == 1:
        return pl.repeat(True, frame.height, eager=True)
    return ~frame.select(pl.all_horizontal(pl.all().is_null())).to_series()


def _converted(
    path: str | Path, frame: pl.DataFrame, *, decimal_comma: bool, learnt: Mapping[str, pl.DataType]
) -> tuple[pl.DataFrame, list[str]]:
    """Give the columns the types of `SourceTable`, and notes on columns that changed more than their type."""
    values: list[pl.Series] = []
    notes: list[str] = []
    complaints: dict[str, str] = {}
    for column in frame:
        try:
            found = tidy(column, decimal_comma=decimal_comma, learnt=learnt.get(column.name))
        except UnusableColumn as error:
            complaints[column.name] = str(error)
        else:
            values.append(found.values)
            notes += [found.note] if found.note else []
    usable = _option([column.name for column in values])
    others = f", or choose other columns with {usable}" if usable else ""
    _refuse(path, complaints, f"Remove or replace these values{others}.")
    return pl.DataFrame(values), notes


def _refuse(path: str | Path, complaints: Mapping[str, str], remedy: str) -> None:
    """Raise an InputError that says what is wrong with each column, or with the first few of many."""
    if complaints:
        problems = [f"column '{name}' {complaint}" for name, complaint in complaints.items()]
        raise InputError(f"In {path} {_some(problems)}.", remedy)


def _left_out(rows: int, of: int, verb: str, verbs: str) -> str:
    """Say how many rows are left out, and why."""
    return f"{rows:,} of {of:,} rows {verb if rows == 1 else verbs} and {'is' if rows == 1 else 'are'} left out."


def _some(items: Sequence[str], limit: int = 3) -> str:
    """Join the first items, and say how many more there are."""
    rest = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {rest:,} more" if rest > 0 else "")


def _option(names: Sequence[str]) -> str:
    """Spell the option that chooses these columns, or two of many as an example; nothing if there is none to type."""
    typed = [name for name in names if "," not in name]
    chosen = typed if len(typed) <= MOST_TYPED else typed[:2]
    return f"--columns {shlex.quote(','.join(chosen))}" if chosen else ""


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
