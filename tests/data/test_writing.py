from __future__ import annotations

import gc
import gzip
import io
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from full_disks import files_of_at_most

from dualdiff_cli.data import WRITABLE, read_table, write_chunks
from dualdiff_cli.errors import InputError

ROWS = 50
FRAME = pl.DataFrame(
    {"a": np.random.default_rng(0).normal(size=ROWS) * 10, "k": np.random.default_rng(1).integers(-99, 99, ROWS)}
)


MIXED = pl.DataFrame(
    {
        "gaps": [None, *range(ROWS - 1)],
        "big": pl.Series([2**64 - 1 - i for i in range(ROWS)], dtype=pl.UInt64),
        "number": [1 / 3, None, -1e100, 1e-100, 2.0] * 10,
        "flag": [True, None] * 25,
        "text": [None, "=1+1", "+a", "-b", "@c", 'e, "f"\ng', "h;i\tj", "größe", "0042", "k"] * 5,
        "day": [date(2020, 2, 29), None] * 25,
        "moment": [datetime(2020, 1, 1, 3, 4, 5, 678_000), None, datetime(1969, 12, 31), datetime(2020, 1, 1, 12), None]
        * 10,
        "void": pl.Series([None] * ROWS, dtype=pl.String),
    },
    schema_overrides={"moment": pl.Datetime("us")},
)
"""Every type of column that a table can have."""
POLARS = tuple(map(int, pl.__version__.split(".")[:2]))
FORMATS_OF_ALL_TYPES = [suffix for suffix in WRITABLE if suffix not in (".npy", ".xlsx")]


def chunks(size: int = 20, frame: pl.DataFrame = FRAME) -> Iterator[pl.DataFrame]:
    return frame.iter_slices(size)


@pytest.mark.parametrize("suffix", FORMATS_OF_ALL_TYPES)
def test_what_is_written_is_read_back_bit_for_bit(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    refused = suffix in (".ndjson", ".jsonl") and POLARS < (1, 38)  # an old polars refuses them
    for frame in (FRAME, MIXED.drop("big") if refused else MIXED):
        write_chunks(path, chunks(frame=frame), rows=ROWS)
        table = read_table(path)
        assert table.rows.schema == frame.schema
        assert table.rows.equals(frame)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz"])
def test_lists_are_refused_by_a_text_file(tmp_path: Path, suffix: str) -> None:
    frame = FRAME.with_columns(tags=pl.lit([1, 2]))
    with pytest.raises(InputError, match="'tags' holds lists or structures"):
        write_chunks(tmp_path / f"t{suffix}", [frame], rows=ROWS)
    assert list(tmp_path.iterdir()) == []


def test_an_excel_file_holds_all_types_with_its_own_precision(tmp_path: Path) -> None:
    pytest.importorskip("fastexcel")
    pytest.importorskip("xlsxwriter")
    frame = MIXED.select("gaps", "flag", "text", "day", "moment").with_columns(a=FRAME["a"], k=FRAME["k"])
    write_chunks(tmp_path / "t.xlsx", chunks(frame=frame), rows=ROWS)
    rows = read_table(tmp_path / "t.xlsx").rows
    assert rows.schema == frame.schema
    assert rows.drop("a").equals(frame.drop("a"))
    assert np.allclose(rows["a"], frame["a"], rtol=1e-14, atol=0)


def test_what_an_excel_file_would_change_or_lose_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("xlsxwriter")
    with pytest.raises(InputError, match="'big' has whole numbers beyond"):
        write_chunks(tmp_path / "t.xlsx", chunks(frame=MIXED), rows=ROWS)
    with pytest.raises(InputError, match="no place for 1,048,576 rows") as caught:
        write_chunks(tmp_path / "t.xlsx", chunks(), rows=2**20)
    assert ".csv" in caught.value.remedy
    early = pl.DataFrame({"moment": [datetime(1900, 1, 1), None, datetime(1899, 12, 31, 23)]})
    for frame in (early, early.cast(pl.Date)):
        with pytest.raises(InputError, match="'moment' has dates before 1900"):
            write_chunks(tmp_path / "t.xlsx", chunks(frame=frame), rows=3)
    wide = pl.DataFrame({f"x{k}": [1] for k in range(2**14 + 1)})
    with pytest.raises(InputError, match="no place for 16,385 columns"):
        write_chunks(tmp_path / "t.xlsx", chunks(frame=wide), rows=1)
    long = pl.DataFrame({"a": [1, 2], "text": ["short", "x" * 32_768]})
    with pytest.raises(InputError, match="the cell of column 2 in row 2, which begins with 'xxx"):
        write_chunks(tmp_path / "t.xlsx", chunks(frame=long), rows=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the temporary files of xlsxwriter
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy", ".xlsx", ".ndjson"])
def test_a_disk_that_is_full_is_said_and_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    if suffix == ".xlsx":
        pytest.importorskip("xlsxwriter")
    with files_of_at_most(100), pytest.raises(InputError, match=f"t{suffix} cannot be written") as caught:
        write_chunks(tmp_path / f"t{suffix}", chunks(), rows=ROWS)
    assert "another file" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []
    del caught
    gc.collect()


def test_a_missing_cell_is_an_empty_field_and_a_text_is_never_changed(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": [None, 1], "s": ["=1+1", None], "b": [True, None]})
    write_chunks(tmp_path / "t.csv", iter([frame]), rows=2)
    assert (tmp_path / "t.csv").read_text() == "a,s,b\n,=1+1,true\n1,,\n"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz"])
@pytest.mark.parametrize("values", [[1.5, None, 2.0, None, None], [None, None, "a", None]])
def test_gaps_at_both_ends_of_a_single_column_are_read_back(tmp_path: Path, suffix: str, values: list[object]) -> None:
    frame = pl.DataFrame({"x": values})
    write_chunks(tmp_path / f"t{suffix}", chunks(2, frame=frame), rows=len(values))
    assert read_table(tmp_path / f"t{suffix}", min_rows=1).rows.equals(frame)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".ndjson", ".npy"])
def test_the_bytes_do_not_depend_on_the_chunks(tmp_path: Path, suffix: str) -> None:
    for size in (7, 50):
        write_chunks(tmp_path / f"{size}{suffix}", chunks(size), rows=ROWS)
    first, second = ((tmp_path / f"{size}{suffix}").read_bytes() for size in (7, 50))
    # How the text is compressed depends on the pieces that it comes in.
    unpack = gzip.decompress if suffix.endswith(".gz") else bytes
    assert unpack(first) == unpack(second)


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


@pytest.mark.parametrize("beside", [pl.Float64, pl.UInt64])
def test_npy_refuses_whole_numbers_that_floats_would_change(tmp_path: Path, beside: type[pl.DataType]) -> None:
    frame = pl.DataFrame({"id": [1, 2, 2**53 + 1], "x": [1, 2, 3]}, schema={"id": pl.Int64, "x": beside})
    with pytest.raises(InputError, match=r"'id' has whole numbers beyond 2\^53, which an \.npy file") as caught:
        write_chunks(tmp_path / "t.npy", chunks(1, frame=frame), rows=3)
    assert ".csv" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []
    write_chunks(tmp_path / "t.npy", chunks(frame=frame.select("id")), rows=3)
    assert np.load(tmp_path / "t.npy")[-1, 0] == 2**53 + 1


@pytest.mark.parametrize("name", ["text", "day", "moment"])
def test_npy_refuses_columns_that_are_no_numbers_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' is of type") as caught:
        write_chunks(tmp_path / "t.npy", chunks(frame=MIXED.select("number", name)), rows=ROWS)
    assert ".csv" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_npy_has_gaps_among_floats_and_refuses_them_among_integers(tmp_path: Path) -> None:
    frame = MIXED.select("number", "gaps", "flag")
    write_chunks(tmp_path / "t.npy", chunks(frame=frame), rows=ROWS)
    assert read_table(tmp_path / "t.npy").rows.equals(
        frame.cast(pl.Float64).rename({"number": "x1", "gaps": "x2", "flag": "x3"})
    )
    late = pl.DataFrame({"k": [*range(ROWS - 1), None]})
    with pytest.raises(InputError, match="'k' has missing cells"):
        write_chunks(tmp_path / "late.npy", chunks(frame=late), rows=ROWS)


def test_npy_of_truth_values_holds_truth_values(tmp_path: Path) -> None:
    write_chunks(tmp_path / "t.npy", chunks(frame=FRAME.select(a=pl.col("k") > 0, b=pl.col("k") > 9)), rows=ROWS)
    assert np.load(tmp_path / "t.npy").dtype == np.bool_


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
