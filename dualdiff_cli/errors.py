"""The one exception family: what is wrong with which input, what to do about it, and the exit code it ends in.

Anything else that escapes a command is a fault of the program and ends in exit code 1.
"""

from __future__ import annotations

__all__ = ["DeviceError", "DualdiffError", "InputError", "Interrupted", "ToleranceError"]


class DualdiffError(Exception):
    """A failure that the user can mend.

    Args:
        problem: one sentence that says what is wrong and names the input.
        remedy: one sentence that says what to do.

    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy


class InputError(DualdiffError):
    """Bad usage or bad input: an unknown name, an unreadable file, a value out of range."""

    exit_code = 2


class ToleranceError(DualdiffError):
    """A result was computed, but lies outside the tolerance that was promised."""

    exit_code = 3


class DeviceError(DualdiffError):
    """The device or execution provider that was asked for by name is not there."""

    exit_code = 4


class Interrupted(DualdiffError):  # noqa: N818 - it is no error
    """Ctrl-C or a termination signal; everything computed so far is saved."""

    exit_code = 130
