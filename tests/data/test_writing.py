from __future__ import annotations

import io
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dualdiff_cli.data import Column, read_table, to_frame, write_chunks
from dualdiff_cli.errors import InputError

COLUMNS = (Column("a"), Column("k", "integer"))
POINTS = np.random.default_rng(0).normal(size=(50, 2)) * 10
ROUNDED = np.stack([POINTS[:, 0], np.rint(POINTS[:, 1])], axis=1)
SUFFIXES = [".csv", ".tsv", ".parquet", ".ndjson", ".jsonl", ".npy"]


def chunks(size: int = 20) -> Iterator[np.ndarray]:
    return (POINTS[i : i + size] for i in range(0, len(POINTS), size))


def test_frames_round_integers_and_keep_the_float_dtype() -> None:
    frame = to_frame(np.array([[0.5, 2.6], [1.5, -2.6]], dtype=np.float32), COLUMNS)
    assert frame.schema == {"a": pl.Float32, "k": pl.Int64}
    assert frame.rows() == [(0.5, 3), (1.5, -3)]


def test_an_integer_that_is_not_finite_is_never_written() -> None:
    with pytest.raises(pl.exceptions.InvalidOperationError):
        to_frame(np.array([[0.0, np.nan]]), COLUMNS)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    assert write_chunks(path, COLUMNS, chunks()) == 50
    table = read_table(path)
    assert np.array_equal(table.values, ROUNDED)
    if suffix != ".npy":
        assert table.columns == COLUMNS
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".ndjson", ".npy"])
def test_the_bytes_do_not_depend_on_the_chunks(tmp_path: Path, suffix: str) -> None:
    for size in (7, 50):
        write_chunks(tmp_path / f"{size}{suffix}", COLUMNS, chunks(size))
    assert (tmp_path / f"7{suffix}").read_bytes() == (tmp_path / f"50{suffix}").read_bytes()


def test_more_than_ten_chunks_stay_in_order_in_parquet(tmp_path: Path) -> None:
    write_chunks(tmp_path / "t.parquet", COLUMNS, chunks(2))
    assert np.array_equal(pl.read_parquet(tmp_path / "t.parquet").to_numpy(), ROUNDED)


def test_npy_of_integers_holds_integers_and_of_floats_their_dtype(tmp_path: Path) -> None:
    integers = (Column("k", "integer"), Column("l", "integer"))
    write_chunks(tmp_path / "k.npy", integers, chunks())
    assert np.array_equal(np.load(tmp_path / "k.npy"), np.rint(POINTS).astype(np.int64))
    write_chunks(tmp_path / "x.npy", (Column("x"), Column("y")), (c.astype(np.float32) for c in chunks()))
    assert np.array_equal(np.load(tmp_path / "x.npy"), POINTS.astype(np.float32))
    assert np.load(tmp_path / "x.npy").dtype == np.float32


def test_a_dash_is_csv_on_standard_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr("sys.stdout", out)
    assert write_chunks("-", COLUMNS, chunks()) == 50
    write_chunks(tmp_path / "t.csv", COLUMNS, chunks())
    assert out.buffer.getvalue() == (tmp_path / "t.csv").read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_chunk_that_raises_leaves_the_old_file_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_text("old")

    def broken() -> Iterator[np.ndarray]:
        yield POINTS
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_chunks(path, COLUMNS, broken())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_chunks_make_a_file_without_rows(tmp_path: Path, suffix: str) -> None:
    assert write_chunks(tmp_path / f"t{suffix}", COLUMNS, []) == 0
    assert (tmp_path / f"t{suffix}").exists()


def test_a_path_that_cannot_be_written_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    def never() -> Iterator[np.ndarray]:
        raise AssertionError("drawn")
        yield

    with pytest.raises(InputError, match=r"'t.xyz' is not a kind of file that can be written\. Name one of \.csv"):
        write_chunks("t.xyz", COLUMNS, never())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_chunks(tmp_path / "file" / "t.csv", COLUMNS, never())


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of the resident memory from /proc")
@pytest.mark.parametrize("suffix", [".parquet", ".npy"])
def test_memory_does_not_grow_with_the_number_of_chunks(tmp_path: Path, suffix: str) -> None:
    # 3 million points are 48 MB in float64; a subprocess, because a peak never falls again.
    script = f"""
        import re, numpy as np
        from pathlib import Path
        from dualdiff_cli.data import Column, write_chunks

        def peak():
            return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

        def write(n):
            chunks = (np.random.default_rng(i).normal(size=(50_000, 2)) for i in range(n // 50_000))
            write_chunks({str(tmp_path / "t")!r} + {suffix!r}, (Column("x"), Column("y")), chunks)
            return peak()

        few = write(1_000_000)
        print(write(4_000_000) - few)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 30
