"""`report` from the command line."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
from commands import answer, dualdiff, refused

from dualdiff_cli.jobs.evaluate import evaluate


def test_report_answers_with_its_keys_and_notes_that_it_scored_the_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dualdiff_cli.jobs.report.evaluate", partial(evaluate, n=300))
    own = shutil.copytree(run, tmp_path / "run")
    (own / "evaluation.json").unlink(missing_ok=True)
    said = dualdiff("report", own, "--device", "cpu")
    assert said.exit_code == 0
    assert "scored first" in said.stderr
    assert "report.html" in said.stdout
    record = answer("report", own, "-o", "page.html")
    assert {"run", "output", "bytes", "verdict"} <= set(record)
    assert (record["run"], record["output"], record["scored_now"]) == (str(own), "page.html", False)
    assert record["verdict"] in ("good", "not yet", "bad", "unknown")
    assert dualdiff("report", own, "--quiet").output == ""


def test_report_refuses_what_is_no_run_and_no_comparison() -> None:
    assert "nowhere" in refused("report", "nowhere")
    Path("scores.json").write_text(json.dumps({"metrics": {}}), encoding="utf-8")
    assert "scores.json" in refused("report", "scores.json")
