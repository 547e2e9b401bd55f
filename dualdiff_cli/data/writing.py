"""Points written to files chunk after chunk, in memory that the number of chunks does not change.

Parquet stores columns, not rows, and polars has no writer to append to: each chunk becomes a small file of its own,
and the streaming engine then joins them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from ..errors import InputError
from ..store.atomic import replaced
from .reading import Column, Points

__all__ = ["to_frame", "write_chunks"]


def to_frame(points: Points, columns: Sequence[Column]) -> pl.DataFrame:
    """Make points (n, d) a frame of d columns: integers rounded and in Int64, the others in the points' own dtype."""
    return pl.DataFrame(
        [
            pl.Series(column.name, np.rint(values)).cast(pl.Int64)
            if column.kind == "integer"
            else pl.Series(column.name, values)
            for column, values in zip(columns, np.asarray(points).T, strict=True)
        ]
    )


def write_chunks(path: str | Path, columns: Sequence[Column], chunks: Iterable[Points]) -> int:
    """Write the chunks, each (n_i, d), one after the other; return Σ n_i.

    The file appears under its name when it is complete, and not at all when a chunk raises.

    Args:
        path: a .csv, .tsv, .parquet, .ndjson, .jsonl or .npy file, or "-" for CSV on standard output. An .npy file
            holds one (n, d) array, of integers when every column is one.
        columns: the d columns.
        chunks: all of one dtype, drawn in the caller's thread as they are written.

    Raises:
        InputError: the suffix is none of these, or the file cannot be written.

    """
    chunks = iter(chunks)
    if str(path) == "-":
        return _write_lines(_frames(chunks, columns), sys.stdout.buffer.write, _to_csv)
    path = Path(path)
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise InputError(f"'{path}' is not a kind of file that can be written.", f"Name one of {', '.join(_WRITERS)}.")
    try:
        with replaced(path) as temporary:
            return writer(_frames(chunks, columns), temporary)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.", "Name another file.") from error


def _frames(chunks: Iterator[Points], columns: Sequence[Column]) -> Iterator[pl.DataFrame]:
    first = next(chunks, np.empty((0, len(columns))))  # no chunks make a file with a header and no rows
    return (to_frame(points, columns) for points in chain([first], chunks))


def _to_csv(frame: pl.DataFrame, first: bool, separator: str = ",") -> str:
    return frame.write_csv(include_header=first, separator=separator)


def _to_ndjson(frame: pl.DataFrame, first: bool) -> str:
    return frame.write_ndjson()


def _write_lines(
    frames: Iterator[pl.DataFrame], write: Callable[[bytes], object], encode: Callable[[pl.DataFrame, bool], str]
) -> int:
    n = 0
    for i, frame in enumerate(frames):
        write(encode(frame, i == 0).encode())
        n += frame.height
    return n


def _write_text(frames: Iterator[pl.DataFrame], path: Path, *, encode: Callable[[pl.DataFrame, bool], str]) -> int:
    with path.open("wb") as file:
        return _write_lines(frames, file.write, encode)


def _write_parquet(frames: Iterator[pl.DataFrame], path: Path) -> int:
    n = 0
    parts: list[Path] = []
    with TemporaryDirectory(prefix=f"{path.stem}-", dir=path.parent) as folder:
        for frame in frames:
            parts.append(Path(folder, f"{len(parts)}.parquet"))
            frame.write_parquet(parts[-1], compression="lz4")
            n += frame.height
        pl.scan_parquet(parts, glob=False).sink_parquet(path)
    return n


def _write_npy(frames: Iterator[pl.DataFrame], path: Path) -> int:
    """Write the header twice: NumPy pads it, so that the final number of rows fits where the first one stood."""
    first = next(frames).to_numpy()
    n, d = 0, first.shape[1]

    def header() -> dict[str, object]:
        return {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": (n, d)}

    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header())
        for points in chain([first], (frame.to_numpy() for frame in frames)):
            file.write(np.ascontiguousarray(points, dtype=first.dtype).data)
            n += len(points)
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header())
    return n


_WRITERS: dict[str, Callable[[Iterator[pl.DataFrame], Path], int]] = {
    ".csv": partial(_write_text, encode=_to_csv),
    ".tsv": partial(_write_text, encode=partial(_to_csv, separator="\t")),
    ".parquet": _write_parquet,
    ".ndjson": partial(_write_text, encode=_to_ndjson),
    ".jsonl": partial(_write_text, encode=_to_ndjson),
    ".npy": _write_npy,
}
