"""A table on a terminal: at any usual width every number stands there whole, and no line is too long."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console as RichConsole

from dualdiff_cli.bench.tables import bench_tables, benchmark_comparison_table
from dualdiff_cli.paper.tables import reproduction_tables
from dualdiff_cli.present.evaluation import evaluation_tables
from dualdiff_cli.present.fitting import fitted
from dualdiff_cli.present.tables import Bounded, Column, Estimate, Range, Table, facts_table

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
RATIO = {"value": 1.5, "low": 1.25, "high": 2.0}
COMPARED = {
    "before": "before.json",
    "after": "after.json",
    "rows": [
        {
            "dataset": "a/long/path/to/a/file/of/measurements.csv",
            "model": "baseline-matched",
            "recipe": "precise",
            "task": "sample",
            "backend": "onnx-cuda",
            "device_before": "cpu",
            "device_after": "cuda:0",
            "unstable": True,
            "before_s": 123456.0,
            "after_s": 0.00123,
            "ratio": RATIO,
        }
    ],
    "threads": {"before": 1, "after": 2},
    "settings": {"before": [], "after": []},
    "unequal": [],
    "unmatched": {"before": [["dino", "baseline"]], "after": []},
}
SCORE = {"value": -0.0123456, "unit": "mean squared error of the velocity", "ci95": [-0.1234, -0.0001234]}
SCORE |= {"floor": -0.012345, "floor_spread": 0.00012345, "n_real": 1_000_000, "n_generated": 0, "notes": ["Word."]}
PARTS = {part: {"value": -0.012345, "ci95": [-0.12345, -0.012345]} for part in ("floor", "schedule_and_sampler")}
EVALUATED = {
    "metrics": dict.fromkeys(("classifier_two_sample", "training_loss_published"), SCORE),
    "diagnosis": {"kl_real_generated": PARTS | {"network": {"value": 1.0, "ci95": None}, "total": PARTS["floor"]}},
}
WIDE = Table(
    "wide",
    (Column("name"), *(Column(f"number {i}") for i in range(40))),
    tuple((f"row {k}", *(1000.0 * i + k for i in range(40))) for k in range(3)),
)
MIXED = Table(
    "mixed",
    (Column("a path"), Column("estimate", ".6f"), Column("status"), Column("range", ".6f"), Column("bounded", ".6f")),
    (("x/" * 60, Estimate(1.0, 0.5), "refused: " + "word " * 30, Range(-1.0, 1.0), Bounded(1.0, -2.0, 3.0)),),
)


def read(*parts: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(RESULTS.joinpath(*parts).read_text(encoding="utf-8"))
    return record


def all_tables() -> Iterator[Table]:
    yield from bench_tables(read("bench-cpu.json"))
    for name in ("table1.json", "table2.json"):
        yield from reproduction_tables(read("reproduction", name))
    yield benchmark_comparison_table(COMPARED)
    yield from evaluation_tables(EVALUATED, title="dino against held-out dino")
    yield facts_table({"run": "runs/" * 40, "steps": 1_000_000, "loss": 0.123456})
    yield WIDE
    yield MIXED


TABLES = list(all_tables())


def shown(table: Table, width: int) -> str:
    console = RichConsole(file=io.StringIO(), width=width, highlight=False)
    with console.capture() as capture:
        console.print(*fitted(table, width), sep="\n")
    return capture.get()


@pytest.mark.parametrize("width", [60, 80, 120, 160])
@pytest.mark.parametrize("table", TABLES, ids=[f"{i}-{table.title}" for i, table in enumerate(TABLES)])
def test_every_number_stands_whole_in_lines_that_fit(table: Table, width: int) -> None:
    text = shown(table, width)
    numbers = Counter(
        column.text(value)
        for row in table.rows
        for column, value in zip(table.columns, row, strict=True)
        if not isinstance(value, str)
    )
    for number, times in numbers.items():
        assert text.count(number) >= times, number
    assert max(cell_len(line) for line in text.splitlines()) <= width


@pytest.mark.parametrize("table", TABLES, ids=[f"{i}-{table.title}" for i, table in enumerate(TABLES)])
def test_no_letter_of_a_word_is_left_out(table: Table) -> None:
    letters = Counter(shown(table, 80))
    words = Counter("".join(value for row in table.rows for value in row if isinstance(value, str)))
    assert all(letters[letter] >= times for letter, times in words.items() if letter != " ")


def test_every_block_of_columns_begins_with_the_names_of_the_rows() -> None:
    text = shown(WIDE, 80)
    assert text.count("row 1 ") == text.count("name ") > 2


def test_a_table_that_fits_is_one_block_with_its_title_above_and_its_notes_below() -> None:
    small = Table("title", (Column("name"), Column("x")), (("a", 1.0),), ("A note.", "Another."))
    lines = [line.rstrip() for line in shown(small, 80).splitlines()]
    assert lines == ["title", "name      x", "───────────", "a     1.000", "", "A note.", "Another."]


def test_an_empty_line_stands_between_groups_of_rows() -> None:
    grouped = Table("", (Column("set"), Column("x")), (("a", 1), ("a", 2), ("b", 3)))
    lines = [line.strip() for line in shown(grouped, 80).splitlines()]
    assert lines[2:] == ["a    1", "a    2", "", "b    3"]


def test_markup_is_shown_as_it_stands() -> None:
    table = Table("[bold]t", (Column("[red]h"), Column("x")), (("[bold]y|z", 1.0),), ("[dim]n",))
    text = shown(table, 80)
    assert all(words in text for words in ("[bold]t", "[red]h", "[bold]y|z", "[dim]n"))
