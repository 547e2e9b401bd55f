"""The comparison on real tables, at a small size."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dualdiff_cli.present.tables import Estimate

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "tables.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def test_cells_are_measured_once_and_a_failure_is_said_below_the_table(
    script: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--tables", "wine", "--models", "mixture", "-o", str(tmp_path / "tables.json")]
    script["main"](words)
    kept = json.loads((tmp_path / "tables.json").read_text(encoding="utf-8"))
    (cell,) = kept["cells"]
    assert (cell["table"], cell["model"], cell["seed"], cell["rows"], cell["columns"]) == ("wine", "mixture", 0, 89, 14)
    assert 0.4 < cell["scores"]["classifier_auc"]["value"] <= 1
    capsys.readouterr()
    kept["cells"].append({**cell, "model": "arf", "scores": None, "error": "ValueError: no reason"})
    del kept["cells"][-1]["scores"]
    (tmp_path / "tables.json").write_text(json.dumps(kept), encoding="utf-8")
    script["main"](words)
    shown = capsys.readouterr().out
    assert json.loads((tmp_path / "tables.json").read_text(encoding="utf-8")) == kept
    lines = [line.split("|") for line in shown.splitlines() if line.startswith("| wine")]
    assert [line[2].strip() for line in lines] == ["learnt rows", "mixture", "arf"]
    assert [line[3].strip() for line in lines] == ["1", "1", "0"]
    assert "arf on wine: ValueError: no reason" in shown


def test_the_standing_names_the_tables_on_which_another_model_is_better(script: dict[str, Any]) -> None:
    def scores(auc: float, nearer: float) -> tuple[Estimate | None, ...]:
        values = [auc, 0.1, 0.1, 0.1, nearer, -1.0, 2.0]
        return tuple(Estimate(value, None) for value in values)

    means = {
        "one": {"dual-expert": scores(0.6, 0.45), "mixture": scores(0.7, 0.49)},
        "two": {"dual-expert": scores(0.8, 0.6), "mixture": scores(0.7, 0.4)},
        "alone": {"dual-expert": scores(0.8, 0.6)},
    }
    auc, _, _, _, nearer, copies, among_packages = script["standing"](means)
    assert "best on 0 of 0 tables" in among_packages  # a mixture is no model of another package
    assert "the best on 1 of 2 tables; another model is better on two (mixture)" in auc
    assert "the worst on two." in auc
    assert "the best on 1 of 2 tables" in nearer  # 0.45 is as good as 0.49: nearness below chance is no merit
    assert "the best on 2 of 2 tables" in copies
    assert "the worst on none." in copies


def test_rows_of_another_package_get_the_types_of_the_table(script: dict[str, Any]) -> None:
    rows = pl.DataFrame({"n": [1, 2], "x": [0.5, 1.5], "kind": ["a", "b"], "flag": [True, False]})
    drawn = pl.DataFrame({"x": [1, 2], "flag": [False, True], "n": [1.6, -2.2], "kind": ["b", "a"]})
    typed = script["with_types_of"](rows, drawn)
    assert typed.schema == rows.schema
    assert typed["n"].to_list() == [2, -2]
