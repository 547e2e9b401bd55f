"""`dualdiff reproduce`: the files that it leaves, what it says, and how a signal stops it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from grids import TINY
from people import write_people
from typer.testing import CliRunner

from dualdiff_cli.cli.app import app
from dualdiff_cli.paper.reproduce import ReproduceRequest, reproduce
from dualdiff_cli.store.run import Run

REQUEST = ReproduceRequest("all", seeds=1, steps=4, settings=TINY, generated=300, jobs=1, datasets=("line",))


def command(*arguments: str, settings: tuple[str, ...] = TINY) -> list[str]:
    return ["reproduce", *arguments, *(part for setting in settings for part in ("--set", setting))]


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, command(*arguments, "--jobs", "1", "--steps", "4"))


def test_command_prints_the_contracts_record_and_says_what_there_is_to_do(tmp_path: Path) -> None:
    arguments = ("table1", "--seeds", "1", "--dataset", "line", "--output", str(tmp_path))
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    assert "12 training steps" in done.stderr
    record = json.loads(done.stdout)
    assert (record["table"], record["seeds"], record["generated"]) == ("table1", 1, 10_000)
    assert [row["model"] for row in record["rows"]] == ["baseline", "dual-expert", "baseline-matched"]
    assert record["rows"][1]["kl_published"]["paper"] == 0.166
    assert {"mean", "std", "paper"} <= record["rows"][1]["train_seconds"].keys()
    again = run(*arguments)
    assert "0 training steps" in again.stderr
    assert "baseline-matched" in again.stdout


@pytest.fixture(scope="module")
def of_a_file(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The record of a file with columns of texts: categories, and names of rows, which no model learns."""
    folder = tmp_path_factory.mktemp("of-a-file")
    words = {"kind": ["a", "b"] * 100, "name": [f"person {i}" for i in range(200)]}
    file = write_people(folder / "people.csv", **words)
    settings = (*TINY, "data.standardise=always")
    return reproduce(replace(REQUEST, datasets=(str(file),), settings=settings, output=folder / "out"))


def test_columns_of_texts_have_no_place_in_the_figures_of_samples(of_a_file: dict[str, Any]) -> None:
    assert {Path(path).stem for path in of_a_file["figures"]} >= {"figure2-samples", "figure4-gates", "figure5-gates"}


def test_a_file_without_a_divergence_has_its_seeds_counted_and_no_empty_figure(of_a_file: dict[str, Any]) -> None:
    assert "figure1-divergences" not in {Path(path).stem for path in of_a_file["figures"]}
    assert of_a_file["left_out"] == [
        "Figure 1 leaves out people.csv: no finished run has a divergence. Tables without a density, such as those "
        "with categories or gaps, have none."
    ]
    losses = next(Path(path) for path in of_a_file["figures"] if path.endswith("figure3-losses.svg"))
    assert "data.standardise=always · 1 seed" in " ".join(losses.read_text(encoding="utf-8").split())
    with open(of_a_file["tables"][0]["files"][2], encoding="utf-8") as file:
        assert [row["seeds"] for row in csv.DictReader(file)] == ["1", "1", "1"]


def test_tables_are_written_in_four_formats_share_their_runs_and_are_not_computed_twice(tmp_path: Path) -> None:
    request = replace(REQUEST, output=tmp_path)
    assert len(request.experiments()) == 7
    record = reproduce(request)
    one, two = record["tables"]
    assert {Path(file).name for file in two["files"]} == {f"table2.{suffix}" for suffix in ("json", "md", "csv", "tex")}
    on_disk = json.loads((tmp_path / "table2.json").read_text(encoding="utf-8"))
    assert on_disk == {key: value for key, value in two.items() if key != "files"}
    with open(tmp_path / "table2.csv", encoding="utf-8") as file:
        values = [float(row["KL as published"]) for row in csv.DictReader(file)]
    assert values == [row["kl_published"]["mean"] for row in two["rows"]]
    assert values[:2] == [row["kl_published"]["mean"] for row in one["rows"][:2]]
    names = ("figure1-divergences", "figure2-samples", "figure3-losses", "figure4-gates", "figure5-gates")
    assert [Path(path).name for path in record["figures"]] == [f"{n}.{end}" for n in names for end in ("png", "svg")]
    assert all(Path(path).stat().st_size > 1000 for path in record["figures"])
    assert record["left_out"] == []
    runs = tmp_path / "runs"
    assert len([path for path in runs.iterdir() if path.is_dir()]) == 7
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}
    again = reproduce(replace(request, what="table2"))
    assert again["rows"] == two["rows"]
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == before


def test_failed_runs_are_warned_of_and_without_a_finished_one_the_exit_code_is_2(tmp_path: Path) -> None:
    table = tmp_path / "points.csv"
    table.write_text("x,y\nno,numbers\n", encoding="utf-8")
    done = run("figures", "--seeds", "1", "--dataset", str(table), "--output", str(tmp_path / "out"), "--json")
    assert done.exit_code == 2, done.output
    assert "No run is finished: 10 of 10 failed." in done.stderr
    record = json.loads(done.stdout)
    failures = [failure for table in record["tables"] for row in table["rows"] for failure in row["failed"]]
    assert len(failures) == 3 + 7
    assert "A run with seed 0 failed: " in done.stderr
    assert "Figures 2 to 5 are left out" in done.stderr
    assert record["figures"] == []


@pytest.mark.parametrize("arguments", [("table3",), ("table1", "--recipe", "papr"), ("table1", "--dataset", "lines")])
def test_bad_request_names_the_input_and_ends_in_exit_code_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, "--output", str(tmp_path / "out"))
    assert done.exit_code == 2
    assert arguments[-1] in done.stderr
    assert not (tmp_path / "out").exists()


def wait_for_the_first_steps(output: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 600
    while not any(log.stat().st_size for log in output.glob("runs/*/metrics.jsonl")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_one_process_goes_on_when_the_shell_that_started_it_ends(tmp_path: Path) -> None:
    settings = (*TINY, "training.checkpoint_every=1000000")
    arguments = ["--seeds", "1", "--steps", "1000", "--dataset", "line", "--jobs", "1", "--output", str(tmp_path)]
    program = [sys.executable, "-m", "dualdiff_cli", *command("table1", *arguments, "--json", settings=settings)]
    with subprocess.Popen(
        ["sh", "-c", '"$@" & read -r word', "sh", *program],  # the shell ends as soon as it reads a line
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    ) as shell:
        try:
            wait_for_the_first_steps(tmp_path, shell)
            out, told = shell.communicate("\n", timeout=600)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    assert [row["failed"] for row in json.loads(out)["rows"]] == [[], [], []], told


def test_termination_signal_stops_the_workers_and_leaves_states_that_the_same_command_resumes(tmp_path: Path) -> None:
    settings = (*TINY, "training.checkpoint_every=1000000")
    arguments = ["--seeds", "1", "--steps", "1000000", "--dataset", "line", "--jobs", "2", "--output", str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-m", "dualdiff_cli", *command("table1", *arguments, settings=settings)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        wait_for_the_first_steps(tmp_path, process)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=600)
    assert process.returncode == 130, told
    assert "same command" in told
    states = list(tmp_path.glob("runs/*/state.pt"))
    assert states
    assert all(Run(path.parent).load_state() for path in states)
    assert not list(tmp_path.glob("runs/*/model.safetensors"))
    assert not list(tmp_path.glob("runs/.stop*"))
