"""One table as Markdown, CSV and LaTeX: special characters are escaped, and CSV keeps every digit."""

from __future__ import annotations

import csv
import io
import re

import pytest
from markdown_it import MarkdownIt

from dualdiff_cli.present.tables import Bounded, Column, Estimate, Range, Table, Value, facts_table

SPECIAL = "a|b_c*d `e` <f> [g] & 50 % $ # ~ ^ {} \\ λ ± ‖"
COLUMNS = (
    Column("data_set"),
    Column("model"),
    Column("KL", ".2f"),
    Column("to 100%", "+.3f"),
    Column("ratio", ".3g"),
    Column("n"),
)
TABLE = Table(
    f"Table 1: {SPECIAL}",
    COLUMNS,
    (
        ("a", "x_1", Estimate(1 / 3, 0.015), Range(-0.5, 0.25), Bounded(1.5, 1.25, 2.0), 12345),
        ("a", SPECIAL, Estimate(-1.0, None), None, None, 1),
        ("b", "p & q, λ = 50 %", None, Range(1.0, 2.0), "no compiler", None),
    ),
    (f"A note with {SPECIAL}.",),
)


@pytest.mark.parametrize(
    ("spec", "value", "text"),
    [
        (".2f", 0.126, "0.13"),
        (".2f", -0.126, "−0.13"),
        ("+.3f", -0.0004, "0.000"),
        (".2f", 1234567, "1,234,567"),
        (".2f", "word", "word"),
        (".2f", None, "–"),
        (".2f", True, "yes"),
        (".2f", Estimate(0.5, 0.111), "0.50 ± 0.11"),
        (".2f", Estimate(0.5, None), "0.50"),
        (".2f", Range(-1.0, 2.0), "−1.00 … 2.00"),
        (".3g", Bounded(1.5, 1.25, 2.0), "1.5 (1.25 … 2)"),
        ("+.1f", 0.25, "+0.2"),
        ("+.1f", Estimate(0.25, 0.1), "+0.2 ± 0.1"),
        (".3g", 123456.0, "123,000"),
        (".4g", -1e300, "−1e+300"),
        (".3g", 0.0000123456, "1.23e−05"),
    ],
)
def test_a_value_is_written_as_its_column_says(spec: str, value: Value, text: str) -> None:
    assert Column("x", spec).text(value) == text


def test_markdown_that_a_renderer_reads_gives_every_cell_and_note_as_it_stands() -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(TABLE.to_markdown())
    texts = ["".join(part.content for part in t.children or ()) for t in tokens if t.type == "inline"]
    heads = [column.head for column in COLUMNS]
    cells = [text for row in TABLE.texts() for text in row]
    assert texts == [TABLE.title, *heads, *cells, *TABLE.notes]


def test_markdown_aligns_words_left_and_numbers_right() -> None:
    ruler = TABLE.to_markdown().splitlines()[3]
    assert re.fullmatch(r"(\|:-+){2}(\|-+:){4}\|", ruler)


def test_csv_holds_every_digit_and_opens_values_of_several_numbers() -> None:
    heads, *rows = csv.reader(io.StringIO(TABLE.to_csv()))
    assert heads[2:] == ["KL", "KL std", "to 100% low", "to 100% high", "ratio", "ratio low", "ratio high", "n"]
    assert float(rows[0][2]) == 1 / 3
    assert rows[0][6:] == ["1.5", "1.25", "2.0", "12345"]
    assert rows[1] == ["a", SPECIAL, "-1.0", "", "", "", "", "", "", "1"]
    assert rows[2] == ["b", "p & q, λ = 50 %", "", "", "1.0", "2.0", "no compiler", "", "", ""]


def test_latex_escapes_what_is_special_and_keeps_unicode() -> None:
    text = TABLE.to_latex()
    code = "\n".join(line for line in text.splitlines() if not line.startswith("%")).replace("{!}{%\n", "{!}{\n")
    assert not re.search(r"(?<!\\)[%#_$]", code)
    escaped = r"a|b\_c*d `e` \ensuremath{<}f\ensuremath{>} [g] \& 50 \% \$ \# \textasciitilde{} \^{} \{\} "
    escaped += r"\textbackslash{} λ ± ‖"
    assert rf"\caption{{Table 1: {escaped}}}" in text
    assert f"A note with {escaped}." in text
    rows = [line.removesuffix(r"\\") for line in code.splitlines() if line.endswith(r"\\")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)&", row)] for row in rows]
    assert [len(row) for row in cells] == [len(COLUMNS)] * 4
    assert cells[2][1] == escaped
    assert cells[3] == ["b", r"p \& q, λ = 50 \%", "–", "+1.000 … +2.000", "no compiler", "–"]


def test_latex_rules_off_the_groups_of_the_first_column() -> None:
    body = TABLE.to_latex()
    assert body.count(r"\midrule") == 2
    alone = Table("t", COLUMNS[:2], (("a", "x"), ("b", "x")))
    assert alone.to_latex().count(r"\midrule") == 1


def test_tables_of_the_same_rows_are_joined_without_their_shared_columns() -> None:
    other = Table("other", (COLUMNS[0], COLUMNS[1], Column("more")), tuple((*row[:2], 1.0) for row in TABLE.rows))
    joined = TABLE.beside(other, shared=2)
    assert [column.head for column in joined.columns] == ["data_set", "model", "KL", "to 100%", "ratio", "n", "more"]
    assert joined.rows[0][-1] == 1.0


def test_ragged_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="6 values"):
        Table("t", COLUMNS, (("a", "b"),))


def test_a_table_without_rows_can_be_written() -> None:
    empty = Table("t", COLUMNS, ())
    assert empty.to_csv().count("\n") == 1
    assert "data\\_set" in empty.to_markdown()
    assert r"\toprule" in empty.to_latex()


def test_facts_open_mappings_and_join_lists() -> None:
    facts = {"steps": 1234, "loss": 0.123456, "gpus": [], "usage": [0.25, 0.75], "copies": {"share": None}, "on": True}
    assert facts_table(facts).rows == (
        ("steps", "1,234"),
        ("loss", "0.1235"),
        ("gpus", "none"),
        ("usage", "0.25, 0.75"),
        ("copies, share", "–"),
        ("on", "yes"),
    )


def test_yes_and_no_are_words() -> None:
    assert facts_table({"compiled": False, "exact": True}).texts() == [["compiled", "no"], ["exact", "yes"]]
