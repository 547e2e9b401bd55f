"""`dualdiff reproduce`: what it leaves, what it says, and that a signal in its middle changes no figure."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from grids import TINY, few_points
from typer.testing import CliRunner

from dualdiff_cli.cli.app import app
from dualdiff_cli.paper.reproduce import ReproduceRequest, reproduce

__all__ = ["few_points"]

SETTINGS = [part for setting in TINY for part in ("--set", setting)]


def figures(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows without what a clock says."""
    return [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in record["rows"]]


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["reproduce", *arguments, *SETTINGS, "--jobs", "1", "--steps", "4"])


@pytest.mark.usefixtures("few_points")
def test_table_is_left_in_four_formats_with_the_contracts_keys(tmp_path: Path) -> None:
    done = run("table1", "--seeds", "2", "--dataset", "line", "--output", str(tmp_path), "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert {"table", "seeds", "rows"} <= set(record)
    assert [(row["dataset"], row["model"]) for row in record["rows"]] == [
        ("line", "baseline"),
        ("line", "dual-expert"),
        ("line", "baseline-matched"),
    ]
    assert record["rows"][1]["kl_published"]["paper"] == 0.166
    assert all(row["kl_published"]["n"] == 2 and row["kl_published"]["std"] > 0 for row in record["rows"])
    on_disk = json.loads((tmp_path / "table1.json").read_text(encoding="utf-8"))
    assert on_disk == {key: value for key, value in record.items() if key != "files"}
    assert {Path(file).name for file in record["files"]} == {
        f"table1.{suffix}" for suffix in ("json", "md", "csv", "tex")
    }
    with open(tmp_path / "table1.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["KL as published"]) for row in rows] == [row["kl_published"]["mean"] for row in record["rows"]]


@pytest.mark.usefixtures("few_points")
def test_tables_share_their_runs_and_the_second_call_does_nothing(tmp_path: Path) -> None:
    request = ReproduceRequest("all", seeds=1, steps=4, settings=TINY, jobs=1, output=tmp_path, datasets=("line",))
    assert len(request.cells()) == 7
    record = reproduce(request)
    first = record["tables"]
    assert [table["table"] for table in first] == ["table1", "table2"]
    assert [Path(path).name for path in record["figures"]] == [
        f"{name}.{suffix}"
        for name in ("figure1-divergences", "figure2-samples", "figure3-losses", "figure4-gates", "figure5-gates")
        for suffix in ("png", "svg")
    ]
    assert all(Path(path).stat().st_size > 1000 for path in record["figures"])
    assert record["left_out"] == []
    assert figures(first[0])[0]["kl_published"]["mean"] == figures(first[1])[0]["kl_published"]["mean"]
    runs = {path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()}
    assert len(runs) == 7
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    assert list(map(figures, reproduce(request)["tables"])) == list(map(figures, first))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")} == before


@pytest.mark.usefixtures("few_points")
def test_people_are_told_what_there_is_to_do_and_shown_the_tables(tmp_path: Path) -> None:
    done = run("table1", "--seeds", "1", "--dataset", "line", "--output", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "3 runs, 0 of them done, 12 steps to go." in done.stderr
    assert "3 of 3 runs done." in done.stderr
    assert "baseline-matched" in done.stdout
    assert "paper's KL" in done.stdout


@pytest.mark.parametrize("arguments", [("table3",), ("table1", "--recipe", "papr"), ("table1", "--dataset", "lines")])
def test_bad_request_is_two_sentences_and_exit_code_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, "--output", str(tmp_path / "out"))
    assert done.exit_code == 2
    assert done.stderr.startswith("Error: ")
    assert not (tmp_path / "out").exists()


def test_killed_in_the_middle_it_ends_in_the_figures_of_an_uninterrupted_one(tmp_path: Path) -> None:
    request = ReproduceRequest("table1", seeds=1, steps=1500, settings=TINY, jobs=1, datasets=("line",))
    command = [sys.executable, "-m", "dualdiff_cli", "reproduce", "table1", "--seeds", "1", "--steps", "1500"]
    command += ["--dataset", "line", "--jobs", "2", "--output", str(tmp_path / "parts"), *SETTINGS]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as process:
        deadline = time.monotonic() + 600
        while not any(log.stat().st_size for log in tmp_path.glob("parts/runs/*/metrics.jsonl")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=600)
    assert process.returncode == 130, told
    assert "the same command goes on from here" in told
    assert list(tmp_path.glob("parts/runs/*/state.pt"))
    assert not list(tmp_path.glob("parts/runs/*/model.safetensors"))

    resumed = reproduce(ReproduceRequest(**{**request.__dict__, "output": tmp_path / "parts"}))
    whole = reproduce(ReproduceRequest(**{**request.__dict__, "output": tmp_path / "whole"}))
    assert figures(resumed) == figures(whole)
