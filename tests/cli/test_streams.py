"""What goes to which stream, for people, for scripts and for pipes."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import SENTENCES, TINY_WORDS, dualdiff, start

BASELINE = ("train", "--dataset", "line", "--model", "baseline", *TINY_WORDS)


def assert_told_of_training(stderr: str, run: str) -> None:
    into, how = stderr.splitlines()
    assert run in into
    assert re.match(r"float32 on \d+ threads?, not compiled", how)


def test_a_person_gets_results_on_stdout_and_notes_on_stderr() -> None:
    result = dualdiff(*BASELINE)
    assert result.exit_code == 0
    assert_told_of_training(result.stderr, "runs/line-baseline-1")
    assert re.search(r"^run +runs/line-baseline-1$", result.stdout, re.MULTILINE)
    assert re.search(r"^parameters +[\d,]+$", result.stdout, re.MULTILINE)


def test_a_training_ends_with_where_the_pictures_are_and_the_next_command() -> None:
    shown = dualdiff(*BASELINE).stdout
    assert re.search(r"^pictures +runs/line-baseline-1/figures$", shown, re.MULTILINE)
    following = re.search(r"^next +dualdiff (.+)$", shown, re.MULTILINE)
    assert following is not None
    assert following[1] == "report runs/line-baseline-1"
    assert dualdiff("evaluate", "runs/line-baseline-1", "-n", "100").exit_code == 0


def test_the_held_out_loss_has_its_unit_and_is_told_apart_from_the_training_loss() -> None:
    shown = dualdiff(*BASELINE).stdout
    assert re.search(r"^held_out_loss +[\d.]+ \(mean squared error of the noise\)$", shown, re.MULTILINE)
    assert "another quantity" in shown
    assert re.search(r"^Verdict: [✓◐✕?] (good|not yet|bad|unknown)\.[\s\S]*`dualdiff\s+report`", shown, re.MULTILINE)


def test_a_run_that_goes_on_is_not_said_to_be_new(run: Path) -> None:
    said = dualdiff("train", "--resume", run, "--device", "cpu")
    assert said.exit_code == 0
    assert "trained already" in said.stderr.splitlines()[0]
    assert "Training into" not in said.stderr


def test_no_line_for_a_pipe_ends_in_blanks(run: Path) -> None:
    for command in (("sample", run, "-n", "5"), ("plot", run), ("datasets",), ("info",)):
        lines = dualdiff(*command).stdout.splitlines()
        assert lines
        assert all(line == line.rstrip() for line in lines), command


def test_quiet_is_silent_except_for_json(run: Path) -> None:
    for command in (BASELINE, ("sample", run, "-n", "5"), ("plot", run), ("datasets",), ("info",)):
        result = dualdiff(*command, "--quiet")
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", ""), command
    result = dualdiff(*BASELINE, "--quiet", "--json")
    assert json.loads(result.stdout)["run"] == "runs/line-baseline-2"
    assert result.stderr == ""


def test_the_program_itself_keeps_json_on_stdout_and_notes_on_stderr(tmp_path: Path) -> None:
    out, err = start("train", "--dataset", "line", *TINY_WORDS, "--json", cwd=tmp_path).communicate(timeout=120)
    assert json.loads(out)["run"] == "runs/line-dual-expert-1"
    assert out.count("\n") == 1
    assert_told_of_training(err, "runs/line-dual-expert-1")


def test_rows_for_a_pipe_are_csv_and_nothing_else_and_the_notes_are_those_of_a_file(run: Path) -> None:
    result = dualdiff("sample", run, "-n", "20", "-o", "-")
    of_file = dualdiff("sample", run, "-n", "20", "-o", "points.csv")
    assert (result.exit_code, result.stderr) == (0, of_file.stderr)
    assert "drawn again" in result.stderr
    assert result.stdout == Path("points.csv").read_text(encoding="utf-8")
    assert result.stdout.startswith("x,y\n")
    assert result.stdout.count("\n") == 21


def test_a_reader_that_has_had_enough_is_no_error(run: Path, tmp_path: Path) -> None:
    with start("sample", run, "-n", "200000", "--sample-steps", "1", "-o", "-", cwd=tmp_path) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert program.stdout.readline() == "x,y\n"
        program.stdout.close()
        assert program.stderr.read() == ""
        assert program.wait(timeout=60) == 0


@pytest.mark.parametrize(
    ("words", "redirection", "code"),
    [
        ("--version", "> /dev/full", 2),
        ("--help", "> /dev/full", 2),
        ("datasets", ">&-", 0),
        ("columns nowhere.csv", "2> /dev/full", 2),
        ("columns nowhere.csv", "<&- >&- 2>&-", 2),
    ],
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_stream_that_cannot_be_written_to_ends_in_an_exit_code_of_the_contract(
    words: str, redirection: str, code: int
) -> None:
    command = f"{shlex.quote(sys.executable)} -m dualdiff_cli {words} {redirection}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if code == 2 and "2>" not in redirection:
        assert SENTENCES.fullmatch(done.stderr)
        assert "No space left" in done.stderr


def test_a_sign_that_the_encoding_of_a_stream_lacks_is_replaced(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "dualdiff_cli"]
    for words, code in (["datasets"], 0), (["columns", "größe.csv"], 2):
        done = subprocess.run([*command, *words], env=environment, cwd=tmp_path, capture_output=True, timeout=120)
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr
        assert done.stdout.isascii()
