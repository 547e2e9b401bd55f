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

from dualdiff_cli.data import WRITABLE, read_table, write_chunks
from dualdiff_cli.errors import InputError

ROWS = 50
FRAME = pl.DataFrame(
    {"a": np.random.default_rng(0).normal(size=ROWS) * 10, "k": np.random.default_rng(1).integers(-99, 99, ROWS)}
)


def chunks(size: int = 20, frame: pl.DataFrame = FRAME) -> Iterator[pl.DataFrame]:
    return frame.iter_slices(size)


@pytest.mark.parametrize("suffix", WRITABLE)
def test_what_is_written_is_read_back_bit_for_bit(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    write_chunks(path, chunks(), rows=ROWS)
    rows = read_table(path).rows
    if suffix == ".npy":
        assert np.array_equal(rows.to_numpy(), FRAME.to_numpy())
    else:
        assert rows.schema == FRAME.schema
        assert rows.equals(FRAME)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".ndjson", ".npy"])
def test_the_bytes_do_not_depend_on_the_chunks(tmp_path: Path, suffix: str) -> None:
    for size in (7, 50):
        write_chunks(tmp_path / f"{size}{suffix}", chunks(size), rows=ROWS)
    assert (tmp_path / f"7{suffix}").read_bytes() == (tmp_path / f"50{suffix}").read_bytes()


def test_more_than_ten_chunks_stay_in_order_in_parquet(tmp_path: Path) -> None:
    write_chunks(tmp_path / "t.parquet", chunks(2), rows=ROWS)
    assert pl.read_parquet(tmp_path / "t.parquet").equals(FRAME)


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float32, pl.Float64])
def test_npy_of_columns_of_one_type_holds_that_type(tmp_path: Path, dtype: pl.DataType) -> None:
    frame = FRAME.cast(dtype)
    write_chunks(tmp_path / "t.npy", chunks(frame=frame), rows=ROWS)
    array = np.load(tmp_path / "t.npy")
    assert array.dtype == frame.to_numpy().dtype
    assert np.array_equal(array, frame.to_numpy())


def test_npy_of_integers_beside_numbers_holds_float64(tmp_path: Path) -> None:
    write_chunks(tmp_path / "t.npy", chunks(), rows=ROWS)
    assert np.load(tmp_path / "t.npy").dtype == np.float64


def test_a_dash_is_csv_on_standard_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr("sys.stdout", out)
    write_chunks("-", chunks(), rows=ROWS)
    write_chunks(tmp_path / "t.csv", chunks(), rows=ROWS)
    assert out.buffer.getvalue() == (tmp_path / "t.csv").read_bytes()


@pytest.mark.parametrize("suffix", WRITABLE)
def test_a_chunk_that_raises_leaves_the_old_file_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_text("old")

    def broken() -> Iterator[pl.DataFrame]:
        yield FRAME
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_chunks(path, broken(), rows=2 * ROWS)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_cannot_be_written_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    def never() -> Iterator[pl.DataFrame]:
        raise AssertionError("drawn")
        yield

    with pytest.raises(InputError) as caught:
        write_chunks("t.xyz", never(), rows=1)
    assert "'t.xyz'" in caught.value.problem
    assert all(suffix in caught.value.remedy for suffix in WRITABLE)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_chunks(tmp_path / "file" / "t.csv", never(), rows=1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads a process's own memory from /proc")
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_memory_does_not_grow_with_the_number_of_chunks(tmp_path: Path, suffix: str) -> None:
    # 2 million rows are 32 MB in float64. Pages of the file itself do not count: the system takes them back at need.
    script = f"""
        import re, numpy as np, polars as pl
        from pathlib import Path
        from dualdiff_cli.data import write_chunks

        def used():
            return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

        def chunks(n, seen):
            for _ in range(n // 50_000):
                yield pl.DataFrame(np.random.default_rng(0).normal(size=(50_000, 2)), schema=["x", "y"])
                seen.append(used())

        def write(n):
            seen = []
            write_chunks({str(tmp_path / "t")!r} + {suffix!r}, chunks(n, seen), rows=n)
            return max(seen)

        few = write(500_000)
        print(write(2_500_000) - few)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 15
