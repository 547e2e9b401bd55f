"""One table, four writers: what is special to each format is escaped, and CSV keeps every digit."""

from __future__ import annotations

import csv
import io
import re

import pytest
from rich.console import Console

from dualdiff_cli.present.tables import Column, Estimate, Interval, Table

COLUMNS = (Column("data_set"), Column("model"), Column("KL", digits=2), Column("to 100%", signed=True), Column("n"))
TABLE = Table(
    "Table 1: a|b & c_d",
    COLUMNS,
    (
        ("a", "x_1", Estimate(1 / 3, 0.015), Interval(-0.5, 0.25), 12345),
        ("a", "[bold]y|z", Estimate(-1.0, None), None, 1),
        ("b", "p & q, λ = 50 %", None, Interval(1.0, 2.0), None),
    ),
    ("A note_with # and $ and ~ and \\ and ^ and {}.",),
)


def test_values_are_written_as_their_column_says() -> None:
    column = Column("x", digits=2)
    values = (0.126, -0.126, 7, 1234567, "word", None, Estimate(0.5, 0.111), Estimate(0.5, None), Interval(-1.0, 2.0))
    expected = ["0.13", "−0.13", "7", "1,234,567", "word", "–", "0.50 ± 0.11", "0.50", "−1.00 … 2.00"]
    assert [column.text(value) for value in values] == expected
    assert Column("x", digits=1, signed=True).text(0.25) == "+0.2"


def test_markdown_has_as_many_cells_a_row_as_columns() -> None:
    lines = [line for line in TABLE.to_markdown().splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 3
    for line in lines:
        assert len(re.findall(r"(?<!\\)\|", line)) == len(COLUMNS) + 1
    assert lines[1] == "| --- | --- | ---: | ---: | ---: |"
    assert lines[2] == r"| a | x\_1 | 0.33 ± 0.01 | −0.500 … +0.250 | 12,345 |"
    assert r"y\|z" in lines[3]


def test_csv_holds_every_digit_and_opens_estimates_and_intervals() -> None:
    heads, *rows = csv.reader(io.StringIO(TABLE.to_csv()))
    assert heads == ["data_set", "model", "KL", "KL std", "to 100% low", "to 100% high", "n"]
    assert float(rows[0][2]) == 1 / 3
    assert rows[1] == ["a", "[bold]y|z", "-1.0", "", "", "", "1"]
    assert rows[2] == ["b", "p & q, λ = 50 %", "", "", "1.0", "2.0", ""]


def test_latex_escapes_what_is_special_and_rules_off_the_groups() -> None:
    text = TABLE.to_latex()
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    for row in rows:
        assert len(re.findall(r"(?<!\\)&", row)) == len(COLUMNS) - 1
    assert not re.search(r"(?<!\\)[%#_]", text.replace("{%\n", "{\n"))
    assert rows[3] == r"b & p \& q, $\lambda$ = 50 \% & -- & +1.000 \dots{} +2.000 & -- \\"
    assert body.count(r"\midrule") == 2
    assert r"\textbackslash{}" in text
    assert r"\textasciitilde{}" in text
    assert r"\textasciicircum{} and \{\}" in text
    assert not re.search(r"[^\x00-\x7f]", text)


def test_terminal_shows_markup_as_it_stands() -> None:
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(TABLE.to_rich())
    shown = console.export_text()
    assert "[bold]y|z" in shown
    assert "A note_with # and $" in shown
    assert "0.33 ± 0.01" in shown


def test_tables_of_the_same_rows_are_joined_without_their_shared_columns() -> None:
    other = Table("other", (COLUMNS[0], COLUMNS[1], Column("more")), tuple((*row[:2], 1.0) for row in TABLE.rows))
    joined = TABLE.beside(other, shared=2)
    assert [column.head for column in joined.columns] == ["data_set", "model", "KL", "to 100%", "n", "more"]
    assert joined.rows[0][-1] == 1.0


def test_ragged_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="5 values"):
        Table("t", COLUMNS, (("a", "b"),))
