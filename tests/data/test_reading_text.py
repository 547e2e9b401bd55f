"""Text files as programs write them: separators, encodings, quotes, headers, index columns and names."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from dualdiff_cli.data import SourceTable, read_table
from dualdiff_cli.errors import InputError

ROWS = [(i, i / 4 + 0.5, "αβγ"[i % 3]) for i in range(30)]
FRAME = pl.DataFrame(ROWS, schema=["k", "x", "s"], orient="row")


def body(separator: str, *, comma: bool = False) -> str:
    numbers = [(k, str(x).replace(".", ",") if comma else str(x), s) for k, x, s in ROWS]
    return "\n".join(separator.join(map(str, row)) for row in numbers)


def read(folder: Path, text: str | bytes, *, name: str = "t.csv", columns: list[str] | None = None) -> SourceTable:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path, columns=columns)


def said(table: SourceTable, *words: str) -> None:
    """See that there is one note for each word, in any order."""
    assert len(table.notes) == len(words), table.notes
    for word in words:
        assert any(word in note for note in table.notes), (word, table.notes)


@pytest.mark.parametrize(
    ("name", "separator", "comma", "words"),
    [
        ("t.csv", ",", False, []),
        ("t.csv", ";", False, ["semicolons"]),
        ("t.csv", ";", True, ["semicolons", "decimal comma"]),
        ("t.csv", "\t", False, ["tabs"]),
        ("t.tsv", "\t", True, ["decimal comma"]),
        ("t.txt", "\t", False, []),
        ("t.txt", "|", False, ["vertical bars"]),
        ("t.txt", "  ", False, ["spaces"]),
        ("t.tsv", ",", False, ["commas"]),
    ],
)
def test_separator_and_decimal_comma_are_recognised_and_said_where_they_are_unusual(
    tmp_path: Path, name: str, separator: str, comma: bool, words: list[str]
) -> None:
    table = read(tmp_path, f"k{separator}x{separator}s\n" + body(separator, comma=comma), name=name)
    assert table.rows.equals(FRAME)
    said(table, *words)


def test_a_separator_inside_texts_does_not_divide_them(tmp_path: Path) -> None:
    lines = [f'"a; b {i}",{i},"x, y|z"' for i in range(30)]
    table = read(tmp_path, "title,n,note\n" + "\n".join(lines))
    assert table.rows.row(0) == ("a; b 0", 0, "x, y|z")


@pytest.mark.parametrize(
    ("encoding", "words"),
    [("utf-8-sig", []), ("utf-16", ["UTF-16"]), ("cp1252", ["Windows-1252"])],
)
def test_encodings_are_recognised(tmp_path: Path, encoding: str, words: list[str]) -> None:
    text = "größe,n\n" + "\n".join(f"é{i % 4},{i}" for i in range(30))
    table = read(tmp_path, text.encode(encoding))
    assert table.rows.columns == ["größe", "n"]
    assert table.rows["größe"][1] == "é1"
    said(table, *words)


@pytest.mark.parametrize(("mark", "encoding"), [(b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")])
def test_both_orders_of_bytes_of_utf_16_are_read(tmp_path: Path, mark: bytes, encoding: str) -> None:
    assert read(tmp_path, mark + ("k,x,s\n" + body(",")).encode(encoding)).rows.equals(FRAME)


def test_half_a_character_of_utf_16_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"t\.csv is not UTF-16") as caught:
        read(tmp_path, b"\xff\xfe" + ("k\n" + "1\n" * 30).encode("utf-16-le")[:-1])
    assert "UTF-8" in caught.value.remedy


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_all_ends_of_lines_are_read(tmp_path: Path, end: str) -> None:
    assert read(tmp_path, ("k,x,s\n" + body(",") + "\n").replace("\n", end)).rows.equals(FRAME)


def test_quotes_hold_separators_line_ends_and_quotes(tmp_path: Path) -> None:
    table = read(tmp_path, '"a","b, c",d\n' + "\n".join(f'{i},"x\ny ""z"", {i % 2}",5" pipe' for i in range(30)))
    assert table.rows.columns == ["a", "b, c", "d"]
    assert table.rows.row(1) == (1, 'x\ny "z", 1', '5" pipe')


def test_a_quote_after_a_blank_is_a_quote(tmp_path: Path) -> None:
    table = read(tmp_path, "a, b, c\n" + "\n".join(f'{i}, "x, y", {i + 0.5}' for i in range(30)))
    assert table.rows.row(2) == (2, "x, y", 2.5)


@pytest.mark.parametrize(
    "first",
    ["0.5,1,2", "5.1,3.5,Iris-setosa", "39, State-gov, 77516", "2024-01-01,id7,3", "p,x,s"],
    ids=["numbers", "iris", "adult", "date", "mushrooms"],
)
def test_a_file_without_names_loses_no_row_and_says_the_names_it_got(tmp_path: Path, first: str) -> None:
    table = read(tmp_path, "\n".join([first] * 30))
    assert table.rows.columns == ["x1", "x2", "x3"]
    assert table.rows.height == 30
    said(table, "x1 to x3")


def test_growing_dates_above_dates_are_values_and_above_numbers_names(tmp_path: Path) -> None:
    days = [f"2024-01-{day:02d}" for day in (1, 2, 5, 6, 9)]
    events = "\n".join(",".join([f"order-{k}", *days]) for k in range(30))
    assert read(tmp_path, events).rows.height == 30
    counts = "\n".join([",".join(["place", *days]), *(f"p{k % 7},{k},2,3,4,{k % 5}" for k in range(30))])
    assert read(tmp_path, counts).rows.columns == ["place", *days]


def test_a_text_file_without_names_has_the_names_of_an_npy_file(tmp_path: Path) -> None:
    assert read(tmp_path, "0.5,1\n" * 30).rows.columns == ["x", "y"]


@pytest.mark.parametrize(
    "header",
    [
        "country,1990,1991,2000,2005,2010",
        "country,2020-01-30,2020-01-31,2020-02-01,2020-02-02,2020-02-03",
        "sample,900.5,901,901.5,902,902.5",
        "0,1,2,3,4,5",
        "a,b,c,d,e,f",
    ],
)
def test_a_header_with_numbers_is_a_header(tmp_path: Path, header: str) -> None:
    table = read(
        tmp_path, header + "\n" + "\n".join(f"{i % 7},{i / 3},{i / 4},{i / 5},{i / 6},{i % 4}" for i in range(30))
    )
    assert table.rows.columns == header.split(",")
    assert table.rows.height == 30
    said(table)


@pytest.mark.parametrize("above", [";;;", "Sales of 2024;;;", "Sales of 2024;;;\n;;;"])
def test_empty_lines_and_a_title_above_the_names_are_left_out_aloud(tmp_path: Path, above: str) -> None:
    table = read(
        tmp_path, f"{above}\nname;age;town;x\n" + "\n".join(f"name{k % 9};{k};{s};{k % 7}" for k, _, s in ROWS)
    )
    assert table.rows.columns == ["name", "age", "town", "x"]
    assert table.rows["age"].to_list() == list(range(30))
    said(table, "semicolons", "empty line or with a title")


def test_a_row_with_one_value_above_complete_rows_is_no_title(tmp_path: Path) -> None:
    assert read(tmp_path, "p,,\n" + "p,x,s\nq,y,t\n" * 15).rows.height == 31


def test_a_first_line_that_names_the_separator_is_no_row(tmp_path: Path) -> None:
    table = read(tmp_path, "sep=;\na;b;c\n" + "\n".join(f"{k};{x};{s}" for k, x, s in ROWS))
    assert table.rows.columns == ["a", "b", "c"]
    assert table.rows.height == 30


@pytest.mark.parametrize("comment", ["# k x s", "# made on 1 May 2024\n# k x s", "# made by a program\nk x s"])
def test_a_commented_header_is_read(tmp_path: Path, comment: str) -> None:
    table = read(tmp_path, comment + "\n" + "\n".join(f"{k} {x} {k}" for k, x, _ in ROWS), name="t.txt")
    assert table.rows.columns == ["k", "x", "s"]
    assert table.rows.height == 30


@pytest.mark.parametrize(
    ("header", "first"),
    [(",x,y", 0), (",x,y", 1), ("Unnamed: 0,x,y", 0), ("x,y", 1)],
    ids=["pandas", "from 1", "pandas twice", "R"],
)
def test_an_index_column_without_a_name_is_left_out_aloud(tmp_path: Path, header: str, first: int) -> None:
    text = header + "\n" + "\n".join(f"{i + first},{x},{x * x}" for i, (_, x, _) in enumerate(ROWS))
    table = read(tmp_path, text)
    assert table.rows.columns == ["x", "y"]
    said(table, "numbers the rows")


def test_an_index_column_is_read_where_it_is_asked_for_by_name(tmp_path: Path) -> None:
    text = "Unnamed: 0,x\n" + "\n".join(f"{k},{x}" for k, x, _ in ROWS)
    assert read(tmp_path, text, columns=["Unnamed: 0"]).rows["Unnamed: 0"].to_list() == list(range(30))


def test_a_first_column_without_a_name_that_does_not_number_the_rows_is_kept(tmp_path: Path) -> None:
    table = read(tmp_path, ",x\n" + "\n".join(f"{k % 5},{x}" for k, x, _ in ROWS))
    assert table.rows.columns == ["column_0", "x"]
    said(table, "'column_0'")


def test_a_separator_at_the_end_of_every_line_makes_no_column(tmp_path: Path) -> None:
    for header, end in (("k,x", ","), ("k,x,", ","), ("k,x,,", ",,")):
        text = header + "\n" + "\n".join(f"{k},{x}{end}" for k, x, _ in ROWS)
        assert read(tmp_path, text).rows.columns == ["k", "x"]


def test_a_last_column_without_a_name_keeps_its_place(tmp_path: Path) -> None:
    table = read(tmp_path, "k,x,\n" + "\n".join(f"{k},{x},{x / 2}" for k, x, _ in ROWS))
    assert table.rows.columns == ["k", "x", "column_2"]
    said(table, "'column_2'")


@pytest.mark.parametrize(
    ("rows", "values"),
    [
        (["1,234;1,500", "2,345;1,250"], [(1.234, 1.5), (2.345, 1.25)]),
        (["1,234;1.5", "2,345;1.25"], [(1234, 1.5), (2345, 1.25)]),
        (["1.234;5", "2.345;6"], [(1.234, 5), (2.345, 6)]),
        (["1.234;1,5", "2.345;6"], [(1234, 1.5), (2345, 6)]),
    ],
)
def test_beside_semicolons_the_whole_file_decides_what_commas_and_points_mean(
    tmp_path: Path, rows: list[str], values: list[tuple[float, float]]
) -> None:
    assert read(tmp_path, "a;b\n" + "\n".join(rows * 10)).rows.head(2).rows() == values


def test_points_that_may_stand_between_thousands_are_decimal_aloud(tmp_path: Path) -> None:
    table = read(tmp_path, "a;b\n" + "1.234;x\n999;y\n" * 15)
    assert table.rows["a"][0] == 1.234
    said(table, "semicolons", "'a' are read as decimal points")
    said(read(tmp_path, "a;b\n" + "1.234;0.5\n999;1.25\n" * 15), "semicolons")


def test_blanks_divide_numbers_and_quoted_texts_but_not_the_words_of_a_text(tmp_path: Path) -> None:
    quoted = read(tmp_path, '"town"  "n"\n' + '"New York"  1\n"Rome" 2\n' * 15, name="t.txt")
    assert quoted.rows.head(2).rows() == [("New York", 1), ("Rome", 2)]
    assert read(tmp_path, "full name\n" + "Ada Lovelace\nAlan Turing\n" * 15).rows.columns == ["full name"]


def test_a_commented_header_wins_over_a_first_line_that_has_a_number(tmp_path: Path) -> None:
    table = read(tmp_path, "#id,name\n" + "\n".join(f"{k},name{k}" for k, _, _ in ROWS))
    assert table.rows.columns == ["id", "name"]
    assert table.rows.height == 30


def test_names_become_unique_and_readable(tmp_path: Path) -> None:
    long = "y" * 300
    header = ["a", " a", "", "b  b ", "a_2", "名前", long, long]
    table = read(tmp_path, ",".join(header) + "\n" + "\n".join(f"{k / 2}" + ",1" * 7 for k in range(30)))
    names = table.rows.columns
    assert names[:6] == ["a", "a_3", "column_2", "b b", "a_2", "名前"]
    assert len(set(names)) == 8
    assert max(map(len, names)) <= 102
    said(table, "'a_3'", "'column_2'", names[6], names[7])


def test_one_column_needs_no_separator(tmp_path: Path) -> None:
    assert read(tmp_path, "x\n" + "\n".join(str(x) for _, x, _ in ROWS)).rows["x"].to_list() == [x for _, x, _ in ROWS]
    table = read(tmp_path, "x\n" + "\n".join(str(x).replace(".", ",") for _, x, _ in ROWS))
    assert table.rows["x"].to_list() == [x for _, x, _ in ROWS]
    said(table, "decimal comma")


def test_columns_come_in_the_order_asked_for(tmp_path: Path) -> None:
    table = read(tmp_path, "k;x;s\n" + body(";", comma=True), columns=["s", "k"])
    assert table.rows.equals(FRAME.select("s", "k"))
