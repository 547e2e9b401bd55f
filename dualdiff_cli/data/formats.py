"""The formats of files that can be read, and one reader for each."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from ..errors import InputError
from .delimited import read_delimited
from .names import column_names
from .raw import RawTable
from .tidied import LARGEST_EXACT

__all__ = ["READABLE", "read_raw", "suffix_of"]

_ENUM = b"_PL_ENUM_VALUES2"
"""The key under which polars writes the values of an Enum into a Parquet file."""
_ADVICE = "Give a file with a header and rows of values."


def suffix_of(path: Path) -> str:
    """Give the suffix that says the format, in lower case; of a compressed file both suffixes, such as .csv.gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return "".join(suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:])


def read_raw(path: Path) -> RawTable:
    """Read the whole file as it is, with at least one row and one column.

    Raises:
        InputError: the file does not exist, is of no known format, cannot be read or has no rows.

    """
    reader = _READERS.get(suffix_of(path))
    if not path.exists():
        raise InputError(f"There is no file {path}.", "Check the path.")
    if reader is None or path.is_dir():
        raise InputError(f"{path} is not a kind of file that can be read.", f"Give one of {', '.join(READABLE)}.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty.", _ADVICE)
    raw = reader(path)
    if raw.frame.height == 0 or raw.frame.width == 0:
        raise InputError(f"{path} has no rows.", _ADVICE)
    return raw


def _foreign(read: Callable[[Path], RawTable]) -> Callable[[Path], RawTable]:
    """Let a reader that calls another library's parser raise InputError, whatever the parser makes of a damaged file.

    Damaged files have been seen to raise TokenError and MemoryError in NumPy, and panics in polars, which are no
    subclass of Exception.
    """

    @functools.wraps(read)
    def guarded(path: Path) -> RawTable:
        try:
            return read(path)
        except InputError:
            raise
        except pl.exceptions.NoDataError:
            return RawTable(pl.DataFrame(), ())
        except (Exception, pl.exceptions.PanicException) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise InputError(
                f"{path} cannot be read: {reason}.", f"Check that the file is a valid {suffix_of(path)} file."
            ) from error

    return guarded


@_foreign
def _read_parquet(path: Path) -> RawTable:
    """Read with pyarrow, because polars prints the backtrace of a panic for many damaged files."""
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(path).read()
    table.validate(full=True)
    # Column by column, because polars panics on names and metadata that are not UTF-8, and on repeated names.
    columns = [pl.Series(f"column {i}", pl.from_arrow(column)) for i, column in enumerate(table.columns)]
    for i, column in enumerate(columns):
        if _ENUM in (table.schema.field(i).metadata or {}):  # only the metadata tell it from a categorical
            empty = pl.from_arrow(table.select([i]).slice(0, 0).rename_columns([column.name]))
            columns[i] = column.cast(pl.DataFrame(empty).dtypes[0])
    return RawTable(pl.DataFrame(columns), (), header=table.column_names, typed=True)


@_foreign
def _read_ndjson(path: Path) -> RawTable:
    return RawTable(pl.read_ndjson(path, infer_schema_length=None), ())


@_foreign
def _read_npy(path: Path) -> RawTable:
    try:  # Mapped first: NumPy reserves memory for whatever shape the header of a damaged file declares.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy's own message suggests to load the file unsafely
        raise InputError(f"{path} is not an .npy file of numbers.", "Write one with numpy.save.") from error
    if not isinstance(array, np.ndarray) or array.ndim not in (1, 2) or array.dtype.kind not in "biuf":
        raise InputError(f"{path} does not hold real numbers in one or two axes.", "Save an array (n,) or (n, d).")
    array = np.array(array).reshape(len(array), -1) if array.size else np.empty((0, 1))
    # polars takes neither half nor extended precision, nor the other order of bytes.
    array = array.astype(np.float64 if array.dtype.kind == "f" else array.dtype.newbyteorder("="), copy=False)
    return RawTable(
        pl.DataFrame({name: array[:, i] for i, name in enumerate(column_names(array.shape[1]))}), (), typed=True
    )


@_foreign
def _read_xlsx(path: Path) -> RawTable:
    """Read the first sheet."""
    try:
        import fastexcel
    except ModuleNotFoundError as error:
        raise InputError(
            f"{path} is an Excel file, and the package that reads them is not installed.",
            'Install it with: pip install "dualdiff-cli[excel]"',
        ) from error
    book = fastexcel.read_excel(path)
    sheets = book.sheet_names
    frame = book.load_sheet(0, schema_sample_rows=None).to_polars()
    header = ["" if name.startswith("__UNNAMED__") else name for name in frame.columns]
    notes = (f"{path} has {len(sheets)} sheets; the first, '{sheets[0]}', is read.",) if len(sheets) > 1 else ()
    return RawTable(pl.DataFrame([_with_excel_types(column) for column in frame]), notes, header=header)


def _with_excel_types(column: pl.Series) -> pl.Series:
    """Tell whole numbers from other numbers and dates from times; to an Excel file both are doubles."""
    if column.null_count() == len(column):
        return column
    if column.dtype == pl.Float64 and (column == column.floor()).all() and (column.abs() < LARGEST_EXACT).all():
        return column.cast(pl.Int64)
    if column.dtype == pl.Datetime and (column.dt.date().cast(column.dtype) == column).all():
        return column.dt.date()
    return column


_READERS: dict[str, Callable[[Path], RawTable]] = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".txt": read_delimited,
    ".csv.gz": read_delimited,
    ".tsv.gz": read_delimited,
    ".txt.gz": read_delimited,
    ".parquet": _read_parquet,
    ".ndjson": _read_ndjson,
    ".jsonl": _read_ndjson,
    ".npy": _read_npy,
    ".xlsx": _read_xlsx,
}
READABLE = tuple(_READERS)
"""The suffixes of files that can be read."""
