"""Parts of benchmarks that can be tested without a measurement."""

from __future__ import annotations

import random
import runpy
import subprocess
from argparse import Namespace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tiny import finished, narrow, tiny

from dualdiff_cli import seeding
from dualdiff_cli.bench.clock import Measurement

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_ideal_draws_hold_the_true_value_as_often_as_they_should() -> None:
    imputation = runpy.run_path(str(BENCHMARKS / "imputation.py"))
    n, draws = 20_000, imputation["DRAWS"]
    x = seeding.stream(0, "ideal draws").random((draws + 1, n))
    truth, *filled = (pl.DataFrame({"x": row}) for row in x)
    removed = seeding.stream(0, "removed").random((n, 1)) < 1
    inside = imputation["scores"](truth, removed, filled)["inside"]
    assert inside == pytest.approx(imputation["CENTRAL"], abs=0.01)


def test_imputations_of_different_step_counts_are_not_averaged() -> None:
    imputation = runpy.run_path(str(BENCHMARKS / "imputation.py"))
    scores = {"error_of_one_draw": 1.0, "wrong": None, "inside": 0.8}
    cells = [
        {"table": "wine", "imputer": "dualdiff", "seed": 0, "steps": steps, "error": error, **scores}
        for steps, error in ((None, 0.5), (9000, 0.7))
    ]
    rows = imputation["table_of"](cells).rows
    assert [row[1:4] for row in rows] == [("dualdiff", 1, "0.5"), ("dualdiff, 9,000 steps", 1, "0.7")]


def test_a_refused_command_of_the_benchmark_of_columns_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    columns = runpy.run_path(str(BENCHMARKS / "columns.py"))
    with pytest.raises(subprocess.CalledProcessError):
        columns["dualdiff"]("nowhere")
    assert "nowhere" in capfd.readouterr().err


def test_a_large_table_of_few_rows_has_as_many_values_as_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main = runpy.run_path(str(BENCHMARKS / "big_table.py"))["main"]
    monkeypatch.setitem(main.__globals__, "measured", lambda command: (1.0, 1.0, 1.0))
    main(["--rows", "100"])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "large category" in line)
    assert line.split("|")[2].strip() == "100"


def test_ways_beside_a_failed_torch_compile_have_times_and_no_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    rewriting = runpy.run_path(str(BENCHMARKS / "rewriting.py"))

    def measure(ways: list[Measurement], **_: Any) -> None:
        for way in ways:
            way.block, way.raw_s, way.facts = 1, [1.0, 2.0], {"cpu_s": [1.0, 2.0]}
            if way.competitor.labels["way"] == failing:
                way.failure, way.raw_s, way.facts = "no compiler", [], {}

    monkeypatch.setitem(rewriting["timed"].__globals__, "measure", measure)
    shown = {}
    for failing in ("torch.compile", "traced"):
        asked = Namespace(threads=1, repeats=2, seconds=0.1)
        rows = rewriting["layout"](rewriting["timed"]("step", tiny(), "float32", asked)).rows
        shown[failing] = {row[4]: (row[5] is None, row[8] is None, row[9]) for row in rows}
    timed, failed = (False, True, ""), (True, True, "no compiler")
    assert shown["torch.compile"] == {"eager": timed, "torch.compile": failed, "traced": timed, "rewritten": timed}
    assert shown["traced"]["eager"] == (False, False, "")


def test_a_run_that_failed_is_named_below_the_table_and_stands_in_no_difference() -> None:
    fidelity = runpy.run_path(str(BENCHMARKS / "fidelity.py"))
    experiment = {"dataset": "dino", "model": "baseline", "seed": 0, "settings": []}
    failed = {"experiment": experiment, "evaluations": [], "error": "no memory"}
    labels = {"dataset": "dino", "recipe": "paper", "sampler": "ancestral", "sample_steps": 50}
    evaluation = labels | {"metrics": {"kl_real_generated": {"value": 0.2, "floor": 0.1}}}
    done = {"experiment": experiment | {"model": "dual-expert"}, "evaluations": [evaluation]}
    table = fidelity["table"]([failed, done], ["kl_real_generated"])
    assert table.notes == ("dino, no memory",)
    assert [row[2] for row in table.rows] == ["dual-expert"]
    assert fidelity["differences"]([failed, done], ["kl_real_generated"]).rows == ()


def test_faults_find_a_damaged_file_in_the_run_that_a_command_evaluates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    module: dict[str, Any] = runpy.run_path(str(BENCHMARKS / "fault_harness.py"))
    harness = module["Harness"](tmp_path, random.Random(0), 0.0)
    finished(narrow(), tmp_path / "whole")
    assert harness.damage("evaluate", tmp_path / "out") is None
    (tmp_path / "whole" / "evaluation.json").write_text("{", encoding="utf-8")
    assert "evaluation.json" in harness.damage("evaluate", tmp_path / "out")
