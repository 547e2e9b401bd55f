"""Tables, read from files and checked before anything is fitted to them.

A table has n rows and d numeric columns. What a model cannot be fitted to (text, missing values, infinity, a constant)
is refused with the name of the column and the number of rows that are concerned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from ..errors import InputError, did_you_mean
from .densities.families import column_names

__all__ = ["MIN_ROWS", "READABLE", "SourceTable", "read_table"]

MIN_ROWS = 20
"""Fewer rows cannot be split into a part to learn from and a part to score against."""
_NULLS = ["", "NA", "N/A", "null", "NULL", "None"]
"""What a CSV file writes where a number is missing; NaN is read as a number."""


@dataclass(frozen=True, eq=False)
class SourceTable:
    """The rows of a file.

    Attributes:
        rows: n rows; whole numbers and Booleans are Int64, all other numbers Float64 and finite.
        numbers: (n,) the number of each row in the file, from 0; the header is not counted.
        rows_in_file: how many rows the file has, with those that were dropped.

    """

    rows: pl.DataFrame
    numbers: npt.NDArray[np.int64]
    rows_in_file: int


def read_table(
    path: str | Path,
    *,
    columns: Sequence[str] | None = None,
    missing: Literal["error", "drop"] = "error",
    constant: Literal["error", "keep"] = "error",
) -> SourceTable:
    """Read the numeric columns of a .csv, .tsv, .parquet, .ndjson, .jsonl or .npy file.

    Args:
        path: the file; an .npy file holds an (n,) or (n, d) array, whose columns are named x, y or x1 … xd.
        columns: which columns, in which order; all of them by default.
        missing: "drop" leaves out the rows with a missing value (null or NaN).
        constant: "keep" lets a column have one value throughout, as rows that are only scored may.

    Raises:
        InputError: the file does not exist, cannot be read, is empty or has fewer than `MIN_ROWS` rows, or a column is
            unknown, not numeric, constant, or has missing or infinite values.

    """
    path = Path(path)
    frame = _as_numbers(path, _choose(path, _read(path), columns))
    floats = {series.name: series.cast(pl.Float64) for series in frame}
    infinite = {name: int(series.is_infinite().sum()) for name, series in floats.items()}
    _refuse(path, _tally(infinite, frame.height, "infinite value"), "Remove those rows or replace the values.")
    gaps = {name: series.is_null() | series.is_nan().fill_null(True) for name, series in floats.items()}
    if missing == "error":
        _refuse(
            path,
            _tally({name: int(gap.sum()) for name, gap in gaps.items()}, frame.height, "missing value"),
            "Leave those rows out with --missing drop, or choose other columns with --columns a,b.",
        )
    complete = ~pl.DataFrame(gaps).select(pl.any_horizontal(pl.all())).to_series()
    rows = frame.filter(complete)
    if rows.height < MIN_ROWS:
        kept = f", {rows.height:,} of them complete" if rows.height < frame.height else ""
        raise InputError(
            f"{path} has {_count(frame.height, 'row')}{kept}.",
            f"At least {MIN_ROWS} are needed, some to learn from and some to score against.",
        )
    if constant == "error":
        _refuse_constant(path, rows)
    return SourceTable(rows, np.flatnonzero(complete.to_numpy()), frame.height)


def _refuse_constant(path: Path, rows: pl.DataFrame) -> None:
    same = {
        column.name: f"has the same value {column[0]:g} in all {rows.height:,} rows"
        for column in rows
        if column.n_unique() == 1
    }
    varied = [name for name in rows.columns if name not in same]
    _refuse(path, same, f"Choose others with {_option(varied)}.")


def _tally(counts: Mapping[str, int], rows: int, noun: str) -> dict[str, str]:
    """Say for each column whose count is not zero how many such values the column has."""
    return {name: f"has {_count(k, noun)} in {_count(rows, 'row')}" for name, k in counts.items() if k}


def _read(path: Path) -> pl.DataFrame:
    """Read the whole file as it is, with at least one row and one column."""
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
            f"{path} cannot be read: {reason}.", f"Check that the file is a valid {path.suffix} file."
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
    except (EOFError, ValueError) as error:  # NumPy's own message suggests to load the file unsafely
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
READABLE = tuple(_READERS)
"""The suffixes of files that can be read."""


def _choose(path: Path, frame: pl.DataFrame, columns: Sequence[str] | None) -> pl.DataFrame:
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


def _as_numbers(path: Path, frame: pl.DataFrame) -> pl.DataFrame:
    """Convert whole numbers and Booleans to Int64 and all other numbers to Float64; null stands for a missing value."""
    numbers: list[pl.Series] = []
    complaints: dict[str, str] = {}
    for column in frame:
        series, texts = _parse(column) if column.dtype == pl.String else (column, 0)
        if texts:
            complaints[column.name] = f"is text in {_count(texts, 'row')}"
        elif series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null):
            whole = series.dtype.is_integer() or series.dtype == pl.Boolean
            number = series.cast(pl.Int64 if whole else pl.Float64, strict=False)
            if number.null_count() > series.null_count():
                complaints[column.name] = "has whole numbers beyond 64 bits"
            else:
                numbers.append(number)
        else:
            complaints[column.name] = f"is of type {series.dtype}, not a number"
    _refuse(path, complaints, f"Choose numeric columns with {_option([series.name for series in numbers])}.")
    return pl.DataFrame(numbers)


def _parse(column: pl.Series) -> tuple[pl.Series, int]:
    """Read the numbers that a text column may hold; also give how many of its values are no number."""
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


def _refuse(path: Path, complaints: Mapping[str, str], remedy: str) -> None:
    """Raise an InputError that says what is wrong with each column, or with the first few of many."""
    if complaints:
        problems = [f"column '{name}' {complaint}" for name, complaint in complaints.items()]
        raise InputError(f"In {path} {_some(problems)}.", remedy)


def _some(items: Sequence[str], limit: int = 3) -> str:
    """Join the first items, and say how many more there are."""
    rest = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {rest:,} more" if rest > 0 else "")


def _option(names: Sequence[str]) -> str:
    """Spell the option that chooses these columns, or an example where there are none or too many to type."""
    return f"--columns {','.join(names) if 0 < len(names) <= 8 else 'a,b'}"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
