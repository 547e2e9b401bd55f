"""The tables of a benchmark's record and of a comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dualdiff_cli.bench.tables import bench_tables, benchmark_comparison_table
from dualdiff_cli.present.tables import Table

PATH = Path(__file__).parents[2] / "benchmarks" / "results" / "bench-cpu.json"


@pytest.fixture
def record() -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return kept


def cells(table: Table, row: int) -> dict[str, str]:
    return dict(zip((column.head for column in table.columns), table.texts()[row], strict=True))


def test_a_benchmark_is_the_machine_and_a_table_for_each_data_set_and_task(record: dict[str, Any]) -> None:
    facts, *tables = bench_tables(record)
    assert facts.rows[0][0] == "processor"
    datasets = dict.fromkeys(row["dataset"] for row in record["rows"])
    assert [t.title for t in tables] == [f"{name}: {task}" for name in datasets for task in ("training", "sampling")]
    timed = [row for row in record["rows"] if row["task"] != "latency"]
    assert sum(len(table.rows) for table in tables) == len(timed)


def test_providers_that_were_not_asked_for_stand_beside_those_that_were(record: dict[str, Any]) -> None:
    record["rows"] = [record["rows"][0] | {"requested_provider": asked} for asked in (None, "CPU")]
    facts, *_ = bench_tables(record)
    (shown,) = (row[1] for row in facts.rows if str(row[0]).startswith("provider"))
    assert "None" in str(shown)
    assert "CPU" in str(shown)


def test_a_row_has_its_times_with_three_digits_and_the_part_that_was_timed(record: dict[str, Any]) -> None:
    _, training, sampling, *_ = bench_tables(record)
    row = next(row for row in record["rows"] if (row["model"], row["backend"]) == ("dual-expert", "eager"))
    shown = cells(training, 4)
    assert (shown["model"], shown["backend"]) == ("dual-expert", "eager" + " ~" * row["unstable"])
    assert float(shown["median, s"]) == float(f"{row['median_s']:.3g}")
    assert shown["timed part"] == f"{row['block']:,}/{row['whole']:,}"
    assert shown["parameters"] == f"{row['parameters']:,}"
    latency = next(row for row in record["rows"] if row["task"] == "latency")
    assert float(cells(sampling, 0)["call, ms"]) == float(f"{1e3 * latency['median_s']:.3g}")
    assert "call, ms" not in cells(training, 0)


def test_a_latency_alone_has_a_table_of_its_own(record: dict[str, Any]) -> None:
    rows = [row for row in record["rows"] if row["task"] == "latency" and row["dataset"] == "dino"]
    _, table = bench_tables(record | {"rows": rows})
    assert table.title == "dino: one call for one point"
    assert len(table.rows) == len(rows)


def test_a_failure_is_a_row_of_dashes_with_the_reason_below(record: dict[str, Any]) -> None:
    absent = dict.fromkeys(("median_s", "iqr_s", "p95_s", "per_second", "prepare_s", "memory_bytes", "block", "whole"))
    failed = record["rows"][0] | absent | {"failure": "No compiler.", "unstable": False, "extrapolated": False}
    _, table = bench_tables(record | {"rows": [failed]})
    assert cells(table, 0)["median, s"] == "–"
    assert f"{failed['model']}, {failed['backend']}: No compiler." in table.notes


def test_a_comparison_marks_what_is_unstable_or_moved_and_names_who_is_alone() -> None:
    row = {"dataset": "dino", "model": "baseline", "recipe": "paper", "task": "train", "backend": "eager"}
    row |= {"before_s": 2.0, "after_s": 3.0, "ratio": {"value": 1.5, "low": 1.25, "high": 2.0}, "unstable": True}
    moved = row | {"device_before": "cpu", "device_after": "cuda:0"}
    smaller = row | {"task": "sample", "before": "500 points", "after": "1,000 points"}
    record = {"before": "a.json", "after": "b.json", "rows": [moved], "unequal": [smaller]}
    record |= {"threads": {"before": 1, "after": 2}, "settings": {"before": None, "after": ["training.batch=32"]}}
    table = benchmark_comparison_table(record | {"unmatched": {"before": [["line", "baseline"]], "after": []}})
    assert "b.json over a.json" in table.title
    assert table.texts() == [
        ["dino", "baseline", "paper", "train", "eager, cpu → cuda:0 ~", "2", "3", "1.5 (1.25 … 2)"],
    ]
    assert table.notes == (
        "threads: 1 in a.json, 2 in b.json",
        "settings: not known in a.json, training.batch=32 in b.json",
        "not compared: dino, baseline, paper, sample, eager, 500 points in a.json, 1,000 points in b.json",
        "only in a.json: line, baseline",
    )
