"""What happens when a command fails or warns: messages, exit codes and tracebacks."""

from __future__ import annotations

import warnings

import pytest
import typer

from dualdiff_cli.cli.options import handled, names
from dualdiff_cli.errors import DeviceError, InputError


def run(fault: BaseException, **options: bool) -> int:
    @handled
    def command(quiet: bool = False, debug: bool = False) -> None:
        raise fault

    with pytest.raises(typer.Exit) as raised:
        command(**options)
    return raised.value.exit_code


@pytest.mark.parametrize(
    ("fault", "code", "problem", "remedy"),
    [
        (InputError("Bad.", "Mend."), 2, "Error: Bad.", "Mend."),
        (DeviceError("Gone.", "Use it."), 4, "Error: Gone.", "Use it."),
        (KeyboardInterrupt(), 130, "Error: Interrupted.", "is kept"),
        (PermissionError(13, "Permission denied", "/x/y"), 2, "Error: /x/y: Permission denied.", "another place"),
        (OSError(28, "No space left on device"), 2, "Error: No space left on device.", "another place"),
        (RuntimeError("CUDA error: Out of memory"), 2, "Error: There is not enough memory for this.", "fewer rows"),
    ],
)
def test_a_failure_is_two_sentences_and_its_exit_code_also_when_quiet(
    fault: BaseException, code: int, problem: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for quiet in (False, True):
        assert run(fault, quiet=quiet) == code
        shown = capsys.readouterr()
        assert shown.out == ""
        lines = shown.err.splitlines()
        assert lines[0] == problem
        assert remedy in lines[1]
        assert len(lines) == 2


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
