"""Rows, written to files chunk after chunk in memory that does not grow with the number of chunks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl

from ..errors import InputError
from ..store.atomic import replaced

__all__ = ["WRITABLE", "write_chunks"]

Chunks = Iterator[pl.DataFrame]


def write_chunks(path: str | Path, chunks: Iterable[pl.DataFrame], *, rows: int) -> None:
    """Write the chunks one after the other.

    The file appears under its name when it is complete, and not at all when a chunk raises.

    Args:
        path: a .csv, .tsv, .parquet, .ndjson, .jsonl or .npy file, or "-" for CSV on standard output. An .npy file
            holds one (rows, columns) array, of integers if every column holds integers.
        chunks: at least one, all with the same columns; they are drawn in the caller's thread as they are written.
        rows: how many rows the chunks have together.

    Raises:
        InputError: the suffix is none of these, or the file cannot be written.

    """
    if str(path) == "-":
        _to_lines(iter(chunks), sys.stdout.buffer, _csv)
        return
    path = Path(path)
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise InputError(f"'{path}' is not a kind of file that can be written.", f"Name one of {', '.join(WRITABLE)}.")
    try:
        with replaced(path) as temporary:
            writer(iter(chunks), temporary, rows)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.", "Name another file.") from error


def _csv(frame: pl.DataFrame, header: bool) -> str:
    return frame.write_csv(include_header=header)


def _tsv(frame: pl.DataFrame, header: bool) -> str:
    return frame.write_csv(include_header=header, separator="\t")


def _ndjson(frame: pl.DataFrame, header: bool) -> str:
    return frame.write_ndjson()


def _to_lines(chunks: Chunks, file: BinaryIO, text: Callable[[pl.DataFrame, bool], str]) -> None:
    for i, frame in enumerate(chunks):
        file.write(text(frame, i == 0).encode())


def _lines(text: Callable[[pl.DataFrame, bool], str]) -> Callable[[Chunks, Path, int], None]:
    def write(chunks: Chunks, path: Path, rows: int) -> None:
        with path.open("wb") as file:
            _to_lines(chunks, file, text)

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
    values = first.to_numpy()
    array = np.lib.format.open_memmap(path, mode="w+", dtype=values.dtype, shape=(rows, first.width))
    done = 0
    for frame in chain([first], chunks):
        array[done : done + frame.height] = frame.to_numpy()
        done += frame.height
    array.flush()


_WRITERS: dict[str, Callable[[Chunks, Path, int], None]] = {
    ".csv": _lines(_csv),
    ".tsv": _lines(_tsv),
    ".parquet": _parquet,
    ".ndjson": _lines(_ndjson),
    ".jsonl": _lines(_ndjson),
    ".npy": _npy,
}
WRITABLE = tuple(_WRITERS)
"""The suffixes of files that can be written."""
