"""Runs that are stopped by Ctrl-C, by a signal or by a kill, and how they go on."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import TINY_WORDS, Start, answer, dualdiff, refused, settings
from people import write_people

from dualdiff_cli.store.run import Run

STEPS = 800
"""The training lasts a second after the first line of its log, so that a signal reaches it."""
LONG = [
    *("--dataset", "eight-gaussians", *TINY_WORDS, "--steps", str(STEPS)),
    *settings("training.log_every=25", "training.checkpoint_every=100"),
]
SOON = ["--dataset", "line", *TINY_WORDS, *settings("training.log_every=10")]


@pytest.fixture(scope="module")
def whole(elsewhere: Path) -> Path:
    return Path(answer("train", *LONG, "--run-dir", elsewhere / "whole")["run"])


@pytest.fixture
def running(started: Start) -> Callable[[str], subprocess.Popen[str]]:
    """Start a training of its own process and wait until it has written a file of its run."""

    def start_and_wait(name: str) -> subprocess.Popen[str]:
        path = Path("run", name)
        words = ("train", *LONG, "--run-dir", "run")
        return started(*words, until=lambda program: path.exists() and path.stat().st_size > 0)

    return start_and_wait


def assert_finishes_like(whole: Path, run: Path) -> None:
    assert answer("train", "--resume", run, "--device", "cpu")["steps"] == STEPS
    for name in ("config.toml", "model.safetensors", "metrics.jsonl"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name


def test_ctrl_c_saves_the_state_and_resume_ends_in_the_bytes_of_a_run_that_was_not_stopped(
    running: Callable[[str], subprocess.Popen[str]], whole: Path
) -> None:
    program = running("metrics.jsonl")
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert program.returncode == 130
    assert out == ""
    stopped = re.search(rf"^Error: [^\n]* (\d+) of {STEPS} steps\.\n(.+)$", err, re.MULTILINE)
    assert stopped
    assert "`dualdiff train --resume run`" in stopped[2]
    assert "Traceback" not in err
    state = Run("run").load_state()
    assert state is not None
    assert state["trainer"]["step"] == int(stopped[1])
    assert 25 <= int(stopped[1]) < STEPS
    assert "--resume run" in refused("sample", "run")
    assert_finishes_like(whole, Path("run"))


def test_a_killed_run_resumes_from_its_checkpoint_to_the_bytes_of_a_run_that_was_not(
    running: Callable[[str], subprocess.Popen[str]], whole: Path
) -> None:
    program = running("state.pt")
    program.kill()
    program.communicate(timeout=60)
    assert program.returncode == -signal.SIGKILL
    state = Run("run").load_state()
    assert state is not None
    assert 100 <= state["trainer"]["step"] < STEPS
    assert_finishes_like(whole, Path("run"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_between_two_steps_and_its_handler_is_gone_afterwards(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, handler = Run.append_metrics, signal.getsignal(number)

    def append_and_signal(self: Run, records: Any) -> None:
        append(self, records)
        monkeypatch.setattr(Run, "append_metrics", append)
        signal.raise_signal(number)

    monkeypatch.setattr(Run, "append_metrics", append_and_signal)
    result = dualdiff("train", *SOON)
    assert (result.exit_code, result.stdout) == (130, "")
    assert "Stopping after this step" in result.stderr
    assert " 10 of 30 steps.\n" in result.stderr
    assert signal.getsignal(number) is handler


def test_a_third_ctrl_c_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def signal_three_times(self: Run, records: Any) -> None:
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Run, "append_metrics", signal_three_times)
    result = dualdiff("train", *SOON)
    assert (result.exit_code, result.stdout) == (130, "")
    assert "Error: Interrupted.\n" in result.stderr


def test_a_data_file_that_changed_is_refused_at_resume(tmp_path: Path) -> None:
    write_people(tmp_path / "people.csv")
    answer("train", "--dataset", "people.csv", "--model", "baseline", *TINY_WORDS)
    write_people(tmp_path / "people.csv", more=list(range(200)))
    said = refused("train", "--resume")
    assert "people.csv" in said
    assert "runs/people-baseline-1" in said
