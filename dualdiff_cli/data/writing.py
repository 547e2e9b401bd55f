"""Rows, written to files chunk after chunk in memory that does not grow with the number of chunks.

A missing cell is empty, null, or in an .npy file NaN; in a text file of one column it is an empty text in quotes,
because readers skip empty lines. Texts are written as they are, also those that a spreadsheet
would take for a formula.
"""

from __future__ import annotations

import gzip
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import polars as pl

from ..errors import InputError
from ..store.atomic import replaced
from .formats import suffix_of
from .tidied import LARGEST_EXACT

__all__ = ["WRITABLE", "require_space", "write_chunks"]

LEAST_BITS = 1
"""The number of bits that a cell takes at least on a disk: compressed formats store repeated values in very few."""

Chunks = Iterator[pl.DataFrame]

_MOMENT = "%Y-%m-%dT%H:%M:%S%.f"
"""ISO 8601, with fractions of a second only where there are any."""
_XLSX_ROWS, _XLSX_COLUMNS = 2**20, 2**14
"""The numbers of rows, with the header, and of columns of an Excel sheet."""
_XLSX_FIRST_YEAR = 1900


def write_chunks(path: str | Path, chunks: Iterable[pl.DataFrame], *, rows: int, separator: str = ",") -> None:
    """Write the chunks one after the other.

    The file appears under its name when it is complete, and not at all when a chunk raises.

    Args:
        path: a file with a suffix in `WRITABLE`, or "-" for CSV on standard output. An .npy file holds one
            (rows, columns) array: of truth values or of integers if one such type holds all columns, otherwise of
            floats, which no signed and unsigned integers of 64 bits have in common otherwise.
        chunks: at least one, all with the same columns; they are drawn in the caller's thread as they are written.
        rows: how many rows the chunks have together.
        separator: of the fields of CSV; other formats have their own.

    Raises:
        InputError: the suffix is none of these, the format has no place for the type of a column, for a missing
            cell or for so many rows, the format would change a whole number or a date, or the file cannot be written.

    """
    csv = _delimited(separator)
    if str(path) == "-":
        _to_lines(iter(chunks), sys.stdout.buffer, csv)
        return
    path = Path(path)
    writers = _WRITERS | {".csv": _lines(csv), ".csv.gz": _compressed(csv)}
    writer = writers.get(suffix_of(path))
    if writer is None:
        raise InputError(f"'{path}' is not a kind of file that can be written.", f"Name one of {', '.join(WRITABLE)}.")
    try:
        with replaced(path) as temporary:
            writer(iter(chunks), temporary, rows)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.", "Name another file.") from error


def require_space(path: str | Path, *, rows: int, columns: int) -> None:
    """Refuse rows that the whole disk of a file could not hold, were it empty.

    Args:
        path: the file, which need not exist.
        rows, columns: what it is to hold.

    Raises:
        InputError: there are too many rows.

    """
    folder = next((each for each in Path(path).absolute().parents if each.is_dir()), Path.cwd())
    whole, least = shutil.disk_usage(folder).total, LEAST_BITS * rows * columns // 8
    if least > whole > 0:  # a folder without any room, such as /proc, holds no files at all
        raise InputError(
            f"{rows:,} rows need at least {least / 1e9:,.0f} GB, and the disk of {path} has {whole / 1e9:,.0f} GB.",
            "Ask for fewer rows.",
        )


def _delimited(separator: str) -> Callable[[pl.DataFrame, bool], str]:
    def text(frame: pl.DataFrame, header: bool) -> str:
        if nested := [name for name, dtype in frame.schema.items() if dtype.is_nested()]:
            raise InputError(
                f"The column '{nested[0]}' holds lists or structures, which a text file cannot hold.",
                "Write a .parquet or an .ndjson file, or remove the column.",
            )
        gap = '""' if frame.width == 1 else ""
        return frame.write_csv(include_header=header, separator=separator, datetime_format=_MOMENT, null_value=gap)

    return text


def _ndjson(frame: pl.DataFrame, header: bool) -> str:
    return frame.write_ndjson()


_csv, _tsv = _delimited(","), _delimited("\t")


def _to_lines(chunks: Chunks, file: BinaryIO | gzip.GzipFile, text: Callable[[pl.DataFrame, bool], str]) -> None:
    for i, frame in enumerate(chunks):
        file.write(text(frame, i == 0).encode())


def _lines(text: Callable[[pl.DataFrame, bool], str]) -> Callable[[Chunks, Path, int], None]:
    def write(chunks: Chunks, path: Path, rows: int) -> None:
        with path.open("wb") as file:
            _to_lines(chunks, file, text)

    return write


def _compressed(text: Callable[[pl.DataFrame, bool], str]) -> Callable[[Chunks, Path, int], None]:
    def write(chunks: Chunks, path: Path, rows: int) -> None:
        # Without a name and a time in the file, equal rows give equal bytes.
        with path.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            _to_lines(chunks, packed, text)

    return write


def _parquet(chunks: Chunks, path: Path, rows: int) -> None:
    """Append each chunk as a row group, which polars has no writer for."""
    import pyarrow.parquet

    first = next(chunks)
    with pyarrow.parquet.ParquetWriter(path, first.to_arrow().schema, compression="lz4") as writer:
        for frame in chain([first], chunks):
            writer.write_table(frame.to_arrow())


def _npy(chunks: Chunks, path: Path, rows: int) -> None:
    first = next(chunks)
    dtype = _common_dtype(path, first)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(rows, first.width))
    done = 0
    for frame in chain([first], chunks):
        if dtype.kind == "f":
            _refuse_long_integers(frame, "an .npy file of floats")
        gaps = [column.name for column in frame if column.null_count()]
        if gaps and dtype.kind != "f":
            raise InputError(
                f"The column '{gaps[0]}' has missing cells, for which an .npy file of whole numbers has no place.",
                "Name a .csv or a .parquet file.",
            )
        for i, column in enumerate(frame):
            array[done : done + frame.height, i] = column.to_numpy()
        done += frame.height
    array.flush()


def _common_dtype(path: Path, frame: pl.DataFrame) -> np.dtype[Any]:
    """Choose one type for all columns.

    Raises:
        InputError: a column holds neither numbers nor truth values.

    """
    others = [column.name for column in frame if not (column.dtype.is_numeric() or column.dtype == pl.Boolean)]
    if others:
        raise InputError(
            f"The column '{others[0]}' is of type {frame[others[0]].dtype}, and an .npy file holds numbers only.",
            "Name a .csv or a .parquet file.",
        )
    types: list[npt.DTypeLike] = [
        np.bool_ if column.dtype == pl.Boolean else column[:0].to_numpy().dtype for column in frame
    ]
    return np.result_type(*types)


@contextmanager
def _reporting_full_disks(error_of_package: type[Exception]) -> Iterator[None]:
    """Turn a package's own exception about a file, which holds the OSError, into this OSError."""
    try:
        yield
    except error_of_package as error:
        raise next((arg for arg in error.args if isinstance(arg, OSError)), OSError(str(error))) from error


def _xlsx(chunks: Chunks, path: Path, rows: int) -> None:
    """Write one sheet, row after row."""
    try:
        import xlsxwriter
    except ModuleNotFoundError as error:
        raise InputError(
            "The package that writes Excel files is not installed.",
            'Install it with: pip install "dualdiff-cli[excel]"',
        ) from error
    if rows >= _XLSX_ROWS:
        raise InputError(
            f"An Excel sheet has no place for {rows:,} rows and a header.", "Name a .csv or a .parquet file."
        )
    settings = {
        "constant_memory": True,
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
    }
    with _reporting_full_disks(xlsxwriter.exceptions.FileCreateError), xlsxwriter.Workbook(path, settings) as book:
        sheet = book.add_worksheet()
        formats = {
            pl.Date: book.add_format({"num_format": "yyyy-mm-dd"}),
            pl.Datetime: book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss.000"}),
        }
        done = 0
        for frame in chunks:
            _refuse_long_integers(frame, "an Excel file")
            _refuse_early_dates(frame)
            if frame.width > _XLSX_COLUMNS:
                raise InputError(
                    f"An Excel sheet has no place for {frame.width:,} columns.", "Name a .csv or a .parquet file."
                )
            if done == 0:
                _write_cells(sheet, 0, frame.columns, [None] * frame.width)
            styles = [formats.get(dtype.base_type()) for dtype in frame.dtypes]
            for i, row in enumerate(frame.iter_rows(), done + 1):
                _write_cells(sheet, i, row, styles)
            done += frame.height


def _write_cells(sheet: Any, number: int, row: Sequence[Any], styles: Sequence[Any]) -> None:
    """Write a row of a sheet; the row number 0 is the header.

    Raises:
        InputError: Excel has no place for a cell, such as one with a text of more than 32,767 characters.

    """
    for i, (value, style) in enumerate(zip(row, styles, strict=True)):
        if value is not None and sheet.write(number, i, value, style):
            raise InputError(
                f"An Excel sheet has no place for the cell of column {i + 1:,} in row {number:,}, which begins with "
                f"'{str(value)[:40]}'.",
                "Name a .csv or a .parquet file.",
            )


def _refuse_long_integers(frame: pl.DataFrame, file: str) -> None:
    """Refuse whole numbers that a file whose numbers are doubles would change."""
    for column in frame:
        if column.dtype.is_integer() and (column.cast(pl.Float64).abs() >= LARGEST_EXACT).any():
            raise InputError(
                f"The column '{column.name}' has whole numbers beyond 2^53, which {file} does not hold exactly.",
                "Name a .csv or a .parquet file.",
            )


def _refuse_early_dates(frame: pl.DataFrame) -> None:
    """Refuse dates before 1900, where the calendar of Excel begins."""
    for column in frame:
        if column.dtype in (pl.Date, pl.Datetime) and (column.dt.year() < _XLSX_FIRST_YEAR).any():
            raise InputError(
                f"The column '{column.name}' has dates before 1900, for which an Excel file has no place.",
                "Name a .csv or a .parquet file.",
            )


_WRITERS: dict[str, Callable[[Chunks, Path, int], None]] = {
    ".csv": _lines(_csv),
    ".tsv": _lines(_tsv),
    ".csv.gz": _compressed(_csv),
    ".tsv.gz": _compressed(_tsv),
    ".parquet": _parquet,
    ".ndjson": _lines(_ndjson),
    ".jsonl": _lines(_ndjson),
    ".npy": _npy,
    ".xlsx": _xlsx,
}
WRITABLE = tuple(_WRITERS)
"""The suffixes of files that can be written."""
