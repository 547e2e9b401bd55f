"""Tables of points, read from files, checked, and given in float64.

A table has n rows and d numeric columns. What a model cannot be fitted to (text, missing values, infinity, a constant)
is refused with the column and the number of rows it concerns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from ..errors import InputError
from .densities.families import FloatArray, column_names

__all__ = ["MIN_ROWS", "READABLE", "Column", "Points", "Table", "read_table"]

MIN_ROWS = 20  # fewer cannot be split into a part to learn from and a part to score against
Kind = Literal["float", "integer"]
Points = npt.NDArray[np.floating[Any]]  # (n, d), of any precision
_NULLS = ["", "NA", "N/A", "null", "NULL", "None"]  # what a CSV writes where a number is missing; NaN parses by itself


@dataclass(frozen=True)
class Column:
    """A column's name and what its values are; Booleans count as integers."""

    name: str
    kind: Kind = "float"


@dataclass(frozen=True, eq=False)
class Table:
    """The points of a file.

    Attributes:
        columns: the d columns.
        values: (n, d), finite.
        rows: (n,) numbers of the rows in the file, from 0, not counting the header.
        rows_in_file: how many there are with those that were dropped.

    """

    columns: tuple[Column, ...]
    values: FloatArray
    rows: npt.NDArray[np.int64]
    rows_in_file: int


def read_table(
    path: str | Path,
    *,
    columns: Sequence[str] | None = None,
    missing: Literal["error", "drop"] = "error",
    constant: Literal["error", "keep"] = "error",
) -> Table:
    """Read the numeric columns of a .csv, .tsv, .parquet, .ndjson, .jsonl or .npy file.

    Args:
        path: the file; an .npy file holds an (n,) or (n, d) array, its columns are named x, y or x1 … xd.
        columns: which columns, in which order; all of them by default.
        missing: "drop" leaves out the rows with a missing value (null or NaN).
        constant: "keep" lets a column have one value throughout, as points that are only scored may.

    Raises:
        InputError: the file is not there, not readable, empty or shorter than `MIN_ROWS`, or a column is unknown, not
            numeric, constant, or has missing or infinite values.

    """
    path = Path(path)
    frame, kinds = _as_numbers(path, _choose(path, _read(path), columns))
    values = frame.to_numpy()
    _refuse(path, _tally(frame, np.isinf(values), "infinite value"), "Remove those rows or replace the values.")
    gaps = np.isnan(values)
    if missing == "error":
        _refuse(
            path,
            _tally(frame, gaps, "missing value"),
            "Leave those rows out with --missing drop, or choose other columns with --columns a,b.",
        )
    rows = np.flatnonzero(~gaps.any(axis=1))
    values = values[rows]
    if len(rows) < MIN_ROWS:
        kept = f", {len(rows):,} of them complete" if len(rows) < frame.height else ""
        raise InputError(
            f"{path} has {_count(frame.height, 'row')}{kept}.",
            f"At least {MIN_ROWS} are needed, some to learn from and some to score against.",
        )
    table = Table(tuple(map(Column, frame.columns, kinds)), values, rows, frame.height)
    if constant == "keep":
        return table
    same_throughout = {
        name: f"has the same value {value:g} in all {len(rows):,} rows"
        for name, value, same in zip(frame.columns, values[0], (values == values[0]).all(axis=0), strict=True)
        if same
    }
    varied = [c for c in frame.columns if c not in same_throughout]
    _refuse(path, same_throughout, f"Choose others with {_option(varied)}.")
    return table


def _tally(frame: pl.DataFrame, mask: npt.NDArray[np.bool_], noun: str) -> dict[str, str]:
    """Say for each column that has any how many values the mask (n, d) picks out."""
    counts = zip(frame.columns, mask.sum(axis=0).tolist(), strict=True)
    return {name: f"has {_count(k, noun)} in {_count(frame.height, 'row')}" for name, k in counts if k}


def _read(path: Path) -> pl.DataFrame:
    """Read the whole file as it stands, with at least one row and one column."""
    reader = _READERS.get(path.suffix.lower())
    if not path.exists():
        raise InputError(f"There is no file {path}.", "Check the path.")
    if reader is None or path.is_dir():
        raise InputError(f"{path} is not a kind of file that can be read.", f"Give one of {', '.join(READABLE)}.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty.", "Give a file with a header and rows of numbers.")
    try:
        frame = reader(path)
    except pl.exceptions.NoDataError:
        frame = pl.DataFrame()
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(
            f"{path} cannot be read: {reason}.", f"Check that it is a valid {path.suffix} file."
        ) from error
    if frame.height == 0 or frame.width == 0:
        raise InputError(f"{path} has no rows.", "Give a file with a header and rows of numbers.")
    return frame


def _read_delimited(separator: str) -> Callable[[Path], pl.DataFrame]:
    def read(path: Path) -> pl.DataFrame:
        frame = pl.read_csv(path, separator=separator, infer_schema_length=None, null_values=_NULLS)
        names = [name.strip() for name in frame.columns]
        if all(_is_number(name.split("_duplicated_")[0]) for name in names):
            raise InputError(f"The first line of {path} holds numbers only.", "Put a line of column names above it.")
        if any("\N{REPLACEMENT CHARACTER}" in name for name in names):  # polars reads what is no UTF-8 as this
            raise InputError(f"The column names of {path} are not UTF-8.", "Save the file in that encoding.")
        return frame.rename(dict(zip(frame.columns, names, strict=True)))

    return read


def _read_npy(path: Path) -> pl.DataFrame:
    try:
        array = np.load(path, allow_pickle=False)
    except (EOFError, ValueError) as error:  # NumPy's own words suggest to load it unsafely
        raise InputError(f"{path} is not an .npy file of numbers.", "Write one with numpy.save.") from error
    if not isinstance(array, np.ndarray) or array.ndim not in (1, 2) or array.dtype.kind not in "biuf":
        raise InputError(f"{path} does not hold real numbers in one or two axes.", "Save an array (n,) or (n, d).")
    array = array.reshape(len(array), -1) if array.size else np.empty((0, 1))
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    return pl.DataFrame({name: array[:, i] for i, name in enumerate(column_names(array.shape[1]))})


_READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": _read_delimited(","),
    ".tsv": _read_delimited("\t"),
    ".parquet": lambda path: pl.read_parquet(path),
    ".ndjson": lambda path: pl.read_ndjson(path, infer_schema_length=None),
    ".jsonl": lambda path: pl.read_ndjson(path, infer_schema_length=None),
    ".npy": _read_npy,
}
READABLE = tuple(_READERS)  # the suffixes


def _choose(path: Path, frame: pl.DataFrame, columns: Sequence[str] | None) -> pl.DataFrame:
    """Select the columns asked for, in that order."""
    if columns is None:
        return frame
    unknown = [name for name in columns if name not in frame.columns]
    if unknown:
        close = get_close_matches(unknown[0], frame.columns, n=1)
        hint = f"Did you mean '{close[0]}'? " if close else ""
        raise InputError(f"{path} has no column '{unknown[0]}'.", f"{hint}It has {_some(frame.columns, limit=20)}.")
    if not columns or len(set(columns)) < len(columns):
        raise InputError("The columns asked for are none, or not all different.", "Name each column once.")
    return frame.select(columns)


def _as_numbers(path: Path, frame: pl.DataFrame) -> tuple[pl.DataFrame, list[Kind]]:
    """Convert the columns to float64, with null or NaN for what is missing; give their kinds too."""
    numbers: list[pl.Series] = []
    kinds: list[Kind] = []
    complaints: dict[str, str] = {}
    for column in frame:
        series, texts = _parse(column) if column.dtype == pl.String else (column, 0)
        if texts:
            complaints[column.name] = f"is text in {_count(texts, 'row')}"
        elif series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null):
            kinds.append("integer" if series.dtype.is_integer() or series.dtype == pl.Boolean else "float")
            numbers.append(series.cast(pl.Float64))
        else:
            complaints[column.name] = f"is of type {series.dtype}, not a number"
    _refuse(path, complaints, f"Choose numeric columns with {_option([series.name for series in numbers])}.")
    return pl.DataFrame(numbers), kinds


def _parse(column: pl.Series) -> tuple[pl.Series, int]:
    """Give a text column as the numbers it may hold, and how many of its values are none."""
    text = column.str.strip_chars()
    text = text.set(text.is_in(_NULLS), None)
    numbers = text.cast(pl.Int64, strict=False)
    if numbers.null_count() > text.null_count():
        numbers = text.cast(pl.Float64, strict=False)
    return numbers, numbers.null_count() - text.null_count()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _refuse(path: Path, complaints: dict[str, str], remedy: str) -> None:
    """Raise an InputError that says of each column, the first few at least, what is wrong with it."""
    if complaints:
        problems = [f"column '{name}' {complaint}" for name, complaint in complaints.items()]
        raise InputError(f"In {path} {_some(problems)}.", remedy)


def _some(items: Sequence[str], limit: int = 3) -> str:
    """Join the first items, and say how many more there are."""
    rest = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {rest:,} more" if rest > 0 else "")


def _option(names: Sequence[str]) -> str:
    """Spell the option that chooses these columns, or an example of it where there are none or too many to type."""
    return f"--columns {','.join(names) if 0 < len(names) <= 8 else 'a,b'}"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
