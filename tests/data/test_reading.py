from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dualdiff_cli.data import read_table
from dualdiff_cli.errors import InputError

N = 30
POINTS = np.random.default_rng(0).normal(size=(N, 2))
COUNTS = np.arange(N)
FRAME = pl.DataFrame({"a": POINTS[:, 0], "k": COUNTS, "flag": COUNTS % 2 == 0})
SCHEMA = {"a": pl.Float64, "k": pl.Int64, "flag": pl.Int64}


def csv(folder: Path, header: str, *rows: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def rows(*extra: str) -> list[str]:
    return [f"{a!r},{b!r}" for a, b in POINTS.tolist()] + list(extra)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".ndjson", ".jsonl", ".CSV"])
def test_every_format_gives_the_same_table(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    frame = FRAME.with_columns(pl.col("flag").cast(pl.Int8)) if suffix in (".csv", ".tsv", ".CSV") else FRAME
    match suffix.lower():
        case ".csv":
            frame.write_csv(path)
        case ".tsv":
            frame.write_csv(path, separator="\t")
        case ".parquet":
            frame.write_parquet(path)
        case _:
            frame.write_ndjson(path)
    table = read_table(path)
    assert table.rows.schema == SCHEMA
    assert table.rows.equals(FRAME.cast(SCHEMA))
    assert np.array_equal(table.numbers, np.arange(N))
    assert table.rows_in_file == N


@pytest.mark.parametrize(
    ("array", "names", "dtype"),
    [
        (POINTS[:, 0], ["x1"], pl.Float64),
        (POINTS, ["x", "y"], pl.Float64),
        (POINTS.astype(np.float16), ["x", "y"], pl.Float64),
        (np.asfortranarray(POINTS.repeat(2, axis=1)), ["x1", "x2", "x3", "x4"], pl.Float64),
        (COUNTS.astype(np.uint8), ["x1"], pl.Int64),
        (POINTS > 0, ["x", "y"], pl.Int64),
    ],
)
def test_npy_columns_are_named_and_keep_their_kind(
    tmp_path: Path, array: np.ndarray, names: list[str], dtype: pl.DataType
) -> None:
    np.save(tmp_path / "t.npy", array)
    rows = read_table(tmp_path / "t.npy").rows
    assert rows.schema == dict.fromkeys(names, dtype)
    assert np.array_equal(rows.to_numpy(), array.reshape(N, -1).astype(np.float64))


def test_columns_are_chosen_by_name_and_in_order(tmp_path: Path) -> None:
    path = csv(tmp_path, "a,species,b", *[f"{a},cat,{b}" for a, b in POINTS])
    table = read_table(path, columns=["b", "a"])
    assert table.rows.columns == ["b", "a"]
    assert np.array_equal(table.rows.to_numpy(), POINTS[:, ::-1])


def test_blanks_about_names_and_numbers_are_ignored(tmp_path: Path) -> None:
    path = csv(tmp_path, "a, k", *[f"{a}, {k} " for a, k in zip(POINTS[:, 0], COUNTS, strict=True)])
    table = read_table(path)
    assert table.rows.equals(FRAME.select("a", "k"))


def test_dropping_missing_values_keeps_the_row_numbers(tmp_path: Path) -> None:
    path = csv(tmp_path, "a,b", ",1", "NA,2", *rows("3,nan", "4,NULL", "5, "))
    table = read_table(path, missing="drop")
    assert np.array_equal(table.rows.to_numpy(), POINTS)
    assert np.array_equal(table.numbers, np.arange(2, N + 2))
    assert table.rows_in_file == N + 5


def test_null_and_nan_in_parquet_are_both_missing(tmp_path: Path) -> None:
    gaps = pl.Series("a", [None, float("nan"), *POINTS[:, 0]])
    pl.DataFrame([gaps]).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="column 'a' has 2 missing values in 32 rows"):
        read_table(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", missing="drop").rows.height == N


@pytest.mark.parametrize(
    ("header", "body", "problem", "remedy"),
    [
        (
            "a,b,s",
            [f"{row},cat" for row in rows()],
            "column 's' is text in 30 rows",
            "numeric columns with --columns a,b.",
        ),
        ("a,b", rows("x,1"), "column 'a' is text in 1 row.", "--columns b."),
        ("s,t", ["x,y"] * N, "column 's' is text in 30 rows, column 't' is text in 30 rows.", "--columns a,b."),
        ("a,b", rows("1,"), "column 'b' has 1 missing value in 31 rows.", "--missing drop"),
        ("a,b", [f"{a}," for a in POINTS[:, 0]], "column 'b' has 30 missing values in 30 rows", "--missing drop"),
        ("a,b", rows("inf,0", "0,-inf", "Inf,0"), "column 'a' has 2 infinite values in 33 rows, column 'b'", "Remove"),
        ("a,b", [f"{a},5" for a in POINTS[:, 0]], "column 'b' has the same value 5 in all 30 rows", "--columns a."),
        ("a,b", rows()[:19], "t.csv has 19 rows", "At least 20 are needed"),
        ("a,b", [], "t.csv has no rows", "header and rows of numbers"),
        (rows()[0], rows()[1:], "first line of .*t.csv holds numbers only", "column names"),
        ("a,b", rows("1,2,3"), "t.csv cannot be read", "valid .csv"),
        ("a,b,c,d", ["x,y,z,w"] * N, "column 'c' is text in 30 rows and 1 more", "--columns a,b."),
    ],
)
def test_bad_values_are_refused_by_column_and_count(
    tmp_path: Path, header: str, body: list[str], problem: str, remedy: str
) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        read_table(csv(tmp_path, header, *body))
    assert remedy in caught.value.remedy


def test_too_few_complete_rows_say_how_many_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 40 rows, 10 of them complete"):
        read_table(csv(tmp_path, "a,b", *(["1,"] * 30), *rows()[:10]), missing="drop")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["c"], r"no column 'c'\. It has a, b\."),
        (["aa"], r"no column 'aa'\. Did you mean 'a'\? It has a, b\."),
        (["a", "a"], "Name each column once"),
        ([], "Name each column once"),
    ],
)
def test_a_wrong_choice_of_columns_is_refused(tmp_path: Path, columns: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_table(csv(tmp_path, "a,b", *rows()), columns=columns)


def test_dates_and_lists_are_refused_by_their_type(tmp_path: Path) -> None:
    days = pl.date_range(pl.date(2020, 1, 1), pl.date(2020, 1, N), eager=True).alias("day")
    pl.DataFrame([days, pl.Series("a", POINTS[:, 0])]).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"column 'day' is of type Date, not a number\. .*--columns a\."):
        read_table(tmp_path / "t.parquet")


def test_whole_numbers_that_no_integer_of_64_bits_holds_are_refused(tmp_path: Path) -> None:
    numbers = pl.Series("id", [2**63 + i for i in range(N)], dtype=pl.UInt64)
    pl.DataFrame([numbers, pl.Series("a", POINTS[:, 0])]).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="column 'id' has whole numbers beyond 64 bits"):
        read_table(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b"\n\n", "has no rows"),
        ("t.xlsx", b"x", r"not a kind of file that can be read\. Give one of \.csv, \.tsv"),
        ("t.parquet", b"nope", "cannot be read: .* valid .parquet file"),
        ("t.ndjson", b"nope", "cannot be read: .* valid .ndjson file"),
        ("t.npy", b"nope", "not an .npy file of numbers"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_table(tmp_path / name)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 3, 3)), "one or two axes"),
        (np.array(1.0), "one or two axes"),
        (np.ones(N) * 1j, "real numbers"),
        (np.array(["a"] * N), "real numbers"),
        (np.zeros((0, 2)), "has no rows"),
        (np.zeros((N, 0)), "has no rows"),
    ],
)
def test_arrays_that_are_no_table_are_refused(tmp_path: Path, array: np.ndarray, words: str) -> None:
    np.save(tmp_path / "t.npy", array)
    with pytest.raises(InputError, match=words):
        read_table(tmp_path / "t.npy")


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"not an \.npy file of numbers"):
        read_table(tmp_path / "t.npy")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="not a kind of file"):
        read_table(tmp_path / "folder.csv")
