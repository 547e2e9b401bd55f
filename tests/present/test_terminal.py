from __future__ import annotations

import io
import json
import warnings

import pytest
import typer
from rich.console import Console as RichConsole
from rich.table import Table

from dualdiff_cli.cli.options import handled, names
from dualdiff_cli.errors import DeviceError, InputError
from dualdiff_cli.present.terminal import Console, facts_table, scores_table

SCORE = {
    "value": 0.123456,
    "unit": "bits",
    "ci95": [0.1, 0.2],
    "floor": 0.01,
    "floor_spread": 0.002,
    "n_real": 1000,
    "n_generated": 0,
    "notes": ["Some coincide."],
}


def text(table: Table) -> str:
    buffer = io.StringIO()
    RichConsole(file=buffer, width=200, highlight=False).print(table)
    return buffer.getvalue()


def fail() -> Table:
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
    Console().result({}, lambda: facts_table({"steps": 1234, "loss": 0.123456}))
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


def test_notes_warnings_and_errors_go_to_stderr_and_keep_square_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    Console().note("run [bold]1")
    Console().warn("run [bold]2")
    Console().error(InputError("run [bold]3.", "[red]Mend it."))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "run [bold]1\nWarning: run [bold]2\nError: run [bold]3.\n[red]Mend it.\n"


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
        bar.start(4)
        bar.report(1)
        bar.report(2)
        bar.report(3, "loss 1.2345")
    with console.activity() as announce:
        announce("wasserstein2")
    shown = capsys.readouterr()
    assert shown.out == ""
    for words in ("training", "3/4", "loss 1.2345", "steps/s", "wasserstein2"):
        assert words in shown.err
    with Console(quiet=True).progress("training", unit="steps") as bar:
        bar.start(3)
    assert "training" not in capsys.readouterr().err


def test_a_table_in_a_file_or_a_pipe_is_not_cut_to_the_width_of_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name, path = "classifier_two_sample_" * 3, "run/" * 30
    Console().result({}, lambda: scores_table({name: SCORE}, title=""))
    Console().result({}, lambda: facts_table({"output": path}))
    shown = capsys.readouterr().out
    assert name in shown
    assert path in shown


def test_a_narrow_terminal_wraps_a_score_but_not_its_name() -> None:
    buffer = io.StringIO()
    table = scores_table({"classifier_two_sample": SCORE}, title="")
    RichConsole(file=buffer, width=80).print(table)
    assert "classifier_two_sample" in buffer.getvalue()
    assert max(map(len, buffer.getvalue().splitlines())) <= 80


def test_a_table_of_facts_keeps_square_brackets() -> None:
    assert text(facts_table({"dataset": "a[b].csv"})).split() == ["dataset", "a[b].csv"]


def test_a_table_of_scores_has_value_interval_floor_unit_sizes_and_notes() -> None:
    shown = text(scores_table({"kl": SCORE}, title="dino"))
    for words in ("dino", "kl", "0.1235", "0.1 … 0.2", "0.01 ± 0.002", "bits", "1,000 · –", "kl: Some coincide."):
        assert words in shown


def test_a_score_without_interval_or_floor_has_dashes_there() -> None:
    bare = {**SCORE, "ci95": None, "floor": None, "floor_spread": None, "notes": []}
    row = next(line for line in text(scores_table({"kl": bare}, title="")).splitlines() if "kl" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["kl", "0.1235", "–", "–", "bits", "1,000 · –"]


# What happens when a command fails


def run(fault: BaseException, **options: bool) -> int:
    @handled
    def command(quiet: bool = False, debug: bool = False) -> None:
        raise fault

    with pytest.raises(typer.Exit) as raised:
        command(**options)
    return raised.value.exit_code


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (InputError("Bad.", "Mend."), 2, "Error: Bad.\nMend.\n"),
        (DeviceError("Gone.", "Use it."), 4, "Error: Gone.\nUse it.\n"),
        (KeyboardInterrupt(), 130, "Error: Interrupted.\nNothing that was finished before is lost.\n"),
        (
            PermissionError(13, "Permission denied", "/x/y"),
            2,
            "Error: /x/y: Permission denied.\nName another place, or make this one fit.\n",
        ),
        (
            OSError(28, "No space left on device"),
            2,
            "Error: No space left on device.\nName another place, or make this one fit.\n",
        ),
    ],
)
def test_a_failure_is_two_sentences_and_its_exit_code_also_when_quiet(
    fault: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for quiet in (False, True):
        assert run(fault, quiet=quiet) == code
        assert capsys.readouterr() == ("", said)


def test_debug_adds_the_traceback_and_keeps_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(DeviceError("Gone.", "Use it."), debug=True) == 4
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last):\n")
    assert "raise fault" in shown
    assert shown.endswith("Error: Gone.\nUse it.\n")


def test_a_fault_of_the_program_is_not_dressed_up() -> None:
    @handled
    def command() -> None:
        raise ZeroDivisionError("ours")

    with pytest.raises(ZeroDivisionError, match="ours"):
        command()


def test_a_warning_becomes_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    @handled
    def command(quiet: bool = False) -> None:
        warnings.simplefilter("always")
        warnings.warn("A [GPU] is there.", stacklevel=1)

    command()
    assert capsys.readouterr() == ("", "Warning: A [GPU] is there.\n")
    command(quiet=True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("given", "parsed"), [(None, None), ("", None), ("a", ("a",)), (" a b , c,", ("a b", "c")), (",", ())]
)
def test_names_are_split_at_commas(given: str | None, parsed: tuple[str, ...] | None) -> None:
    assert names(given) == parsed
