"""What a command prints, and where: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from dualdiff_cli.errors import InputError
from dualdiff_cli.present.tables import Column, Table, facts_table
from dualdiff_cli.present.terminal import Console

NUMBERS = Table(
    "numbers",
    (Column("name"), *(Column(f"a long head {i}", ".4f") for i in range(12))),
    (("row", *(i + 0.1234 for i in range(12))),),
)


def fail() -> Iterable[Table]:
    raise AssertionError("a table was made for nobody")


def test_a_script_gets_one_json_object_on_stdout_and_no_table_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    Console(as_json=True).result({"run": "größe", "n": 3, "x": None}, fail)
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"run": "größe", "n": 3, "x": None}
    assert shown.out.count("\n") == 1
    assert shown.err == ""


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Console(as_json=True).result({"x": float("nan")}, fail)
    assert capsys.readouterr().out == ""


def test_a_person_gets_a_table_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    Console().result({}, lambda: [facts_table({"steps": 1234, "loss": 0.123456})])
    shown = capsys.readouterr()
    assert shown.out.split() == ["steps", "1,234", "loss", "0.1235"]
    assert shown.err == ""


def test_quiet_hides_tables_notes_and_warnings_but_neither_json_nor_errors(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True)
    console.result({}, fail)
    console.note("in passing")
    console.warn("a surprise")
    assert capsys.readouterr() == ("", "")
    Console(quiet=True, as_json=True).result({"a": 1}, fail)
    console.error(InputError("This is wrong.", "Do that."))
    assert capsys.readouterr() == ('{"a": 1}\n', "Error: This is wrong.\nDo that.\n")


def test_where_rows_go_to_stdout_no_result_does_and_notes_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(rows=True)
    console.result({}, fail)
    console.note("in passing")
    assert capsys.readouterr() == ("", "in passing\n")


def test_notes_warnings_and_errors_go_to_stderr_and_keep_square_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    Console().note("run [bold]1")
    Console().warn("run [bold]2")
    Console().error(InputError("run [bold]3.", "[red]Mend it."))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "run [bold]1\nWarning: run [bold]2\nError: run [bold]3.\n[red]Mend it.\n"


def test_names_that_look_like_an_emoji_or_end_in_a_backslash_stay_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Console().note("The column a:heart:b lies in C:\\")
    Console().warn("The column a:heart:b lies in C:\\")
    Console().error(InputError("The column a:heart:b is odd.", "Mend it in C:\\"))
    assert capsys.readouterr().err.splitlines() == [
        "The column a:heart:b lies in C:\\",
        "Warning: The column a:heart:b lies in C:\\",
        "Error: The column a:heart:b is odd.",
        "Mend it in C:\\",
    ]


def test_a_long_message_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Console().error(InputError("word " * 60 + "end.", "Mend it."))
    assert capsys.readouterr().err.splitlines() == ["Error: " + "word " * 60 + "end.", "Mend it."]


@pytest.mark.parametrize("quiet", [False, True])
def test_without_a_terminal_progress_writes_nothing(quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=quiet)
    with console.progress("training", unit="steps") as bar:
        bar.report(1)  # before the size of the job is known
        bar.start(3)
        bar.report(2, "loss 1")
    with console.activity() as announce:
        announce("kl")
    assert "".join(capsys.readouterr()).strip() == ""


def test_on_a_terminal_progress_shows_how_far_the_job_is_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    console = Console()
    with console.progress("training", unit="steps") as bar:
        bar.describe("training [/into]")
        bar.start(4)
        bar.report(1)
        bar.report(2)
        bar.describe("training into [/here]")
        bar.report(3, "loss 1.2345")
    with console.activity() as announce:
        announce("wasserstein2 of [/there]")
    shown = capsys.readouterr()
    assert shown.out == ""
    for words in ("training", "3/4", "loss 1.2345", "steps/s", "wasserstein2", "[/here]", "[/there]"):
        assert words in shown.err
    with Console(quiet=True).progress("training", unit="steps") as bar:
        bar.start(3)
    assert "training" not in capsys.readouterr().err


def test_a_file_or_a_pipe_gets_whole_names_and_paths_and_no_blanks_at_the_ends_of_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    path = "run/" * 30
    Console().result({}, lambda: [facts_table({"output": path, "n": 1}), NUMBERS])
    lines = capsys.readouterr().out.split("\n")
    assert lines[0] == f"output  {path}"
    assert lines[1:4] == ["n       1", "", "numbers"]
    assert sum(line.startswith("row ") for line in lines) == 1
    assert all(line == line.rstrip() for line in lines)


def test_columns_in_the_environment_sets_the_width_of_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    Console().result({}, lambda: [NUMBERS])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    assert sum(line.startswith("row ") for line in lines) > 1


ON_A_TERMINAL = """
import fcntl, struct, termios
from test_terminal import NUMBERS
from dualdiff_cli.present.terminal import Console
fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
Console().result({}, lambda: [NUMBERS])
"""


def test_on_a_terminal_of_80_columns_every_number_can_be_read() -> None:
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    subprocess.run([sys.executable, "-c", ON_A_TERMINAL], stdout=theirs, env=environment, check=True, timeout=60)
    os.close(theirs)
    text = os.read(ours, 100_000).decode()
    os.close(ours)
    assert all(f"{i + 0.1234:.4f}" in text for i in range(12))
    assert text.count("row ") > 1
    assert "…" not in text
