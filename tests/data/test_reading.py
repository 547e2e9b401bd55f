from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dualdiff_cli.data import READABLE, check_table, read_table
from dualdiff_cli.errors import InputError

N = 30
POINTS = np.random.default_rng(0).normal(size=(N, 2))
COUNTS = np.arange(N)
FRAME = pl.DataFrame({"a": POINTS[:, 0], "k": COUNTS, "flag": COUNTS % 2 == 0})
SCHEMA = {"a": pl.Float64, "k": pl.Int64, "flag": pl.Boolean}


def csv(folder: Path, header: str, *rows: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def rows(*extra: str) -> list[str]:
    return [f"{a!r},{b!r}" for a, b in POINTS.tolist()] + list(extra)


@pytest.mark.parametrize("suffix", [suffix for suffix in READABLE if suffix != ".npy"] + [".CSV"])
def test_every_format_gives_the_same_table(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    match suffix.lower().split(".")[1]:
        case "parquet":
            FRAME.write_parquet(path)
        case "ndjson" | "jsonl":
            FRAME.write_ndjson(path)
        case "xlsx":
            pytest.importorskip("fastexcel")
            FRAME.write_excel(path)
        case name:
            text = FRAME.write_csv(separator="," if name == "csv" else "\t").encode()
            path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    table = read_table(path)
    assert table.rows.schema == SCHEMA
    assert table.rows.drop("a").equals(FRAME.drop("a"))
    # Excel files hold 15 or 16 decimal digits.
    assert np.allclose(table.rows["a"], FRAME["a"], rtol=1e-14 if suffix == ".xlsx" else 0, atol=0)
    assert np.array_equal(table.numbers, np.arange(N))
    assert table.rows_in_file == N
    assert table.notes == ()


@pytest.mark.parametrize(
    ("array", "names", "dtype"),
    [
        (POINTS[:, 0], ["x1"], pl.Float64),
        (POINTS, ["x", "y"], pl.Float64),
        (POINTS.astype(np.float16), ["x", "y"], pl.Float64),
        (np.asfortranarray(POINTS.repeat(2, axis=1)), ["x1", "x2", "x3", "x4"], pl.Float64),
        (COUNTS.astype(np.uint8), ["x1"], pl.Int64),
        (POINTS > 0, ["x", "y"], pl.Boolean),
        (COUNTS.astype(">i4"), ["x1"], pl.Int64),
        (POINTS.astype(np.longdouble), ["x", "y"], pl.Float64),
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


def gappy(folder: Path) -> Path:
    return csv(folder, "a,b", ",1", "NA,2", *rows("3,nan", "4,NULL", "5, "))


def test_missing_cells_are_kept_as_nulls_unless_told_otherwise(tmp_path: Path) -> None:
    table = read_table(gappy(tmp_path))
    assert table.rows.schema == {"a": pl.Float64, "b": pl.Float64}
    assert [*table.rows.null_count().row(0)] == [2, 3]
    assert np.array_equal(table.numbers, np.arange(N + 5))
    assert table.notes == ()


def test_dropping_missing_values_keeps_the_row_numbers_and_says_how_many(tmp_path: Path) -> None:
    table = read_table(gappy(tmp_path), missing="drop")
    assert np.array_equal(table.rows.to_numpy(), POINTS)
    assert np.array_equal(table.numbers, np.arange(2, N + 2))
    assert table.rows_in_file == N + 5
    assert table.notes == (f"5 of {N + 5} rows have a missing value and are left out.",)


def test_missing_cells_are_refused_where_that_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="column 'a' has 2 missing values in 35 rows, column 'b' has 3 ") as caught:
        read_table(gappy(tmp_path), missing="error")
    assert "--missing drop" in caught.value.remedy


def test_null_and_nan_in_parquet_are_both_missing(tmp_path: Path) -> None:
    gaps = pl.Series("a", [None, float("nan"), *POINTS[:, 0]])
    pl.DataFrame([gaps]).write_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").rows["a"].null_count() == 2
    assert read_table(tmp_path / "t.parquet", missing="drop").rows.height == N


def test_the_index_of_a_pandas_file_is_left_out_aloud_wherever_it_stands(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": [0.5, 1.5, 2.5] * 10, "__index_level_0__": range(30, 0, -1)})
    frame.write_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert table.rows.columns == ["x"]
    assert "numbers the rows" in table.notes[0]
    frame.with_columns(__index_level_1__=pl.int_range(30)).write_parquet(tmp_path / "two.parquet")
    (note,) = read_table(tmp_path / "two.parquet").notes
    assert "columns '__index_level_0__' and '__index_level_1__'" in note


def test_a_column_without_any_value_stays_as_text(tmp_path: Path) -> None:
    path = csv(tmp_path, "a,b", *[f"{a},NA" for a in POINTS[:, 0]])
    assert read_table(path).rows["b"].equals(pl.Series("b", [None] * N, dtype=pl.String))
    with pytest.raises(InputError, match="column 'b' has no value in any row") as caught:
        read_table(path, missing="drop")
    assert "--columns a." in caught.value.remedy


def test_a_constant_column_is_kept(tmp_path: Path) -> None:
    assert read_table(csv(tmp_path, "a,b", *[f"{a},5" for a in POINTS[:, 0]])).rows["b"].to_list() == [5] * N


def test_rows_without_any_value_are_left_out_and_counted(tmp_path: Path) -> None:
    table = read_table(csv(tmp_path, "a,b", "", *rows(",", "1,2")))
    assert table.rows.height == N + 1
    assert table.rows_in_file == N + 3
    assert np.array_equal(table.numbers, [*range(1, N + 1), N + 2])
    assert table.notes == (f"2 of {N + 3} rows are empty and are left out.",)
    marked = read_table(csv(tmp_path, "a,b", "NA,", *rows("null,NaN", "1,2")))
    assert marked.rows.equals(table.rows)
    gaps = pl.DataFrame({"a": [float("nan"), 1.0], "b": ["NA", "x"]})
    assert check_table(gaps, name="gaps", min_rows=1).rows.rows() == [(1.0, "x")]


@pytest.mark.parametrize(
    ("header", "body", "problem", "remedy"),
    [
        ("a,b", rows("inf,0", "0,-inf", "Inf,0"), "column 'a' has 2 infinite values, column 'b' has 1 ", "Remove"),
        ("a,b", [f"1,{2**64}"] * N, "column 'b' has whole numbers .* 64 bits", "--columns a."),
        (
            "a,b",
            [f"{k},{-(2**63) - k}" for k in range(1, N)],
            "column 'b' has whole numbers .* 64 bits",
            "--columns a.",
        ),
        ("a,b", rows()[:19], "t.csv has 19 rows", "At least 20 rows are needed"),
        ("a,b", [], "t.csv has no rows", "header and rows"),
        ("a,b", rows("1,2,3"), "Line 32 of .*t.csv has 3 fields", "Correct this line"),
        ("a,b", rows('1,"2', "3,4"), "Line 32 of .*t.csv cannot be read", "quotes"),
    ],
)
def test_bad_values_are_refused_by_column_or_line(
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


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b"\n\n", "has no rows"),
        ("t.doc", b"x", r"not a kind of file that can be read\. Give one of \.csv, \.tsv"),
        ("t.xlsx", b"x", "cannot be read: .* valid .xlsx file"),
        ("t.csv.gz", b"x", "cannot be decompressed"),
        ("t.csv", b"a,b\n1,\0\n", "bytes that are no text"),
        ("t.parquet", b"nope", "cannot be read: .* valid .parquet file"),
        ("t.ndjson", b"nope", "cannot be read: .* valid .ndjson file"),
        ("t.npy", b"nope", "not an .npy file of numbers"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    if name.endswith(".xlsx"):
        pytest.importorskip("fastexcel")
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


def test_fewer_rows_are_read_where_they_are_enough(tmp_path: Path) -> None:
    assert read_table(csv(tmp_path, "a,b", *rows()[:3]), min_rows=1).rows.height == 3


def test_an_excel_file_without_its_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.xlsx").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "fastexcel", None)
    with pytest.raises(InputError, match="not installed") as caught:
        read_table(tmp_path / "t.xlsx")
    assert "dualdiff-cli[excel]" in caught.value.remedy


def test_of_an_excel_file_the_first_sheet_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    pytest.importorskip("fastexcel")
    xlsxwriter = pytest.importorskip("xlsxwriter")
    with xlsxwriter.Workbook(tmp_path / "t.xlsx") as book:
        FRAME.write_excel(book, "points")
        FRAME.write_excel(book, "others")
    table = read_table(tmp_path / "t.xlsx")
    assert table.rows.columns == FRAME.columns
    assert len(table.notes) == 1
    assert "'points'" in table.notes[0]
