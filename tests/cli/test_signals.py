"""The real program, stopped by real signals, from its first instant on."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from commands import COMMANDS, SENTENCES, TINY_WORDS, Start, answer, dualdiff, hear_hangups, refused, settings, start
from tiny import tiny_of

from dualdiff_cli.cli.options import handled
from dualdiff_cli.cli.signals import StopRequests
from dualdiff_cli.errors import InputError
from dualdiff_cli.jobs.train import train
from dualdiff_cli.store.lock import sole_use
from dualdiff_cli.store.run import Run

STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
LONG = ["train", "--dataset", "eight-gaussians", *TINY_WORDS, "--steps", "1000000", "--run-dir", "run"]

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="reads /proc to see that a process is listening"
)


def listens(program: subprocess.Popen[str]) -> bool:
    """Say whether a process has a handler for SIGHUP; Python itself has none."""
    try:
        status = Path(f"/proc/{program.pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):  # the process has ended
        return False
    caught = int(status.split("SigCgt:")[1].split()[0], 16)
    return bool(caught >> (signal.SIGHUP - 1) & 1)


def begun(program: subprocess.Popen[str]) -> bool:
    path = Path("run/metrics.jsonl")
    return path.exists() and path.stat().st_size > 0


def assert_stopped(program: subprocess.Popen[str]) -> str:
    out, err = program.communicate(timeout=120)
    assert program.returncode == 130, err
    assert out == ""
    assert SENTENCES.search(err), err
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_stopped_before_its_libraries_are_loaded(command: str, tmp_path: Path) -> None:
    for _ in range(10):
        program = start(command, "--help", cwd=tmp_path)
        while program.poll() is None and not listens(program):
            time.sleep(0.001)
        program.send_signal(STOPS[COMMANDS.index(command) % len(STOPS)])
        if program.wait(timeout=120):  # otherwise help was complete before the signal arrived
            break
        program.communicate()
    assert_stopped(program)


def test_a_signal_in_the_middle_of_an_import_leaves_no_traceback() -> None:
    code = """
import os, signal, sys
from dualdiff_cli.cli import signals
class Sender:
    def find_spec(self, name, path=None, target=None):
        if name == "pydantic.version":
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Sender())
signals.listen()
import pydantic
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 130, done.stderr
    assert SENTENCES.fullmatch(done.stderr)


def test_rows_that_are_being_drawn_leave_no_part_of_a_file(started: Start, tmp_path: Path) -> None:
    train(tiny_of("mixture", dataset="line"), path="mixture", device="cpu")
    words = ("sample", "mixture", "-n", "100M", "-o", "rows/rows.csv")
    program = started(
        *words, until=lambda program: any(path.stat().st_size for path in tmp_path.glob("rows/.rows.*.csv"))
    )
    program.send_signal(signal.SIGTERM)
    assert_stopped(program)
    assert list(Path("rows").iterdir()) == []


def test_a_second_signal_of_another_kind_does_not_keep_the_state_from_being_saved(started: Start) -> None:
    program = started(*LONG, *settings("training.log_every=5", "training.checkpoint_every=1000000"), until=begun)
    program.send_signal(signal.SIGHUP)
    time.sleep(0.01)
    program.send_signal(signal.SIGTERM)
    assert "--resume run" in assert_stopped(program)
    state = Run("run").load_state()
    assert state is not None
    assert state["trainer"]["step"] >= 5


def test_a_run_that_is_being_trained_is_refused_until_its_process_is_gone(started: Start) -> None:
    program = started(*LONG, *settings("training.log_every=5", "training.checkpoint_every=100"), until=begun)
    said = refused("train", "--resume", "run")
    assert "run is in use" in said
    assert f"process {program.pid} " in said
    program.kill()
    program.wait()
    with sole_use(Path("run")):
        assert Run("run").load_metrics()


def test_a_third_signal_stops_also_while_the_state_is_being_saved(tmp_path: Path) -> None:
    """The save that never ends is the only thing here that is not the real program."""
    slow = """
import os, pathlib, signal, sys, time
from dualdiff_cli.__main__ import main
whole = pathlib.Path.write_bytes
def write_bytes(path, content):
    if path.suffix != ".pt":
        return whole(path, content)
    whole(path, content[:10])
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(os.getpid(), number)
        time.sleep(0.05)
    time.sleep(1000)
pathlib.Path.write_bytes = write_bytes
main()
"""
    words = [*LONG, *settings("training.checkpoint_every=10")]
    done = subprocess.run(
        [sys.executable, "-c", slow, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=hear_hangups,
    )
    assert done.returncode == 130, done.stderr
    assert done.stderr.endswith("Error: Interrupted.\nEverything that was finished before is kept.\n")
    assert not [path.name for path in Path("run").iterdir() if path.name.endswith(".pt")]


@pytest.mark.parametrize("error", [ValueError, OSError, InputError("It cannot be read.", "Mend it.")])
def test_a_stop_that_a_library_turns_into_an_exception_of_its_own_is_a_stop(error: type[Exception] | Exception) -> None:
    @handled
    def command() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt as stop:
            raise error from stop

    with pytest.raises(typer.Exit) as caught:
        command()
    assert caught.value.exit_code == 130


def test_a_finished_command_is_done_whatever_arrives_afterwards(tmp_path: Path) -> None:
    code = """
import atexit, os, signal
atexit.register(lambda: [os.kill(os.getpid(), number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)])
from dualdiff_cli.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_printed_in_the_middle_of_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests, said = StopRequests(owns_process=False), []
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(signal, "asked", lambda: requests.handle(signal.SIGTERM, sys._getframe()), raising=False)
    (tmp_path / "asks_to_stop.py").write_text("import signal\nsignal.asked()\n")
    with pytest.raises(KeyboardInterrupt), requests.shield(said.append, "this step"):
        importlib.import_module("asks_to_stop")
    assert requests.count == 1
    assert not said


def test_a_request_that_was_not_heeded_stops_the_command_at_the_end_of_the_shield() -> None:
    requests, said = StopRequests(owns_process=False), []

    def work() -> None:
        with requests.shield(said.append, "this step"):
            assert not requests()
            requests.handle(signal.SIGTERM, None)
            requests.handle(signal.SIGTERM, None)
            assert requests()

    with pytest.raises(KeyboardInterrupt):
        work()
    assert len(said) == 2
    assert "this step" in said[0]


def test_pictures_after_the_training_are_given_up_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(*_: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("dualdiff_cli.jobs.train.draw_pictures", draw)
    words = ("train", "--dataset", "line", "--model", "mixture", *settings("model.components=3", "data.points=200"))
    assert dualdiff(*words, "--run-dir", "run").exit_code == 130
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert answer("train", "--resume", "run")["components"] == 3
