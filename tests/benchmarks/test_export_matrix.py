"""The export benchmark at a small size."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from dualdiff_cli.config.layers import MODELS_FOR_FEW_ROWS

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "export_matrix.py"


def test_the_matrix_has_no_empty_cell_and_refusals_state_their_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--small --train-steps 5 --recipe paper --model dual-expert --batch 1 --batch 7"
    words += " --format onnx --format torchscript --precision float32 --precision bfloat16"
    places = ["--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "export.json")]
    script: dict[str, Any] = runpy.run_path(str(SCRIPT))
    script["main"]([*words.split(), *places])
    rows = json.loads((tmp_path / "export.json").read_text(encoding="utf-8"))["rows"]
    assert len(rows) == 2 * 2 * 2 * 2
    for row in rows:
        if row["format"] == "onnx" and row["precision"] == "bfloat16":
            assert row["status"].startswith("refused: ONNX Runtime cannot run the bfloat16")
        else:
            assert row["status"] == "ok"
            assert row["max_abs_error"] < {"float32": 1e-3, "bfloat16": 0.1}[row["precision"]]
            assert min(row["bytes"], row["first_seconds"]) > 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(rows)
    assert not any("|  |" in line for line in table)


def test_a_model_that_a_recipe_refuses_has_a_row_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script: dict[str, Any] = runpy.run_path(str(SCRIPT))
    unsuited = [name for name in script["NETWORKS"] if name not in MODELS_FOR_FEW_ROWS]
    models = [word for name in unsuited for word in ("--model", name)]
    output = tmp_path / "export.json"
    script["main"](["--recipe", "few-rows", *models, "--runs", str(tmp_path / "runs"), "--output", str(output)])
    rows = json.loads(output.read_text(encoding="utf-8"))["rows"]
    assert [row["model"] for row in rows] == unsuited
    assert all(row["status"].startswith("refused: ") and row["format"] is None for row in rows)
    assert sum(line.startswith("| enhanced-gating") for line in capsys.readouterr().out.splitlines()) == 1
