"""The one exception family: what is wrong with which input, what to do about it, and the exit code it ends in.

Anything else that escapes a command is a fault of the program and ends in exit code 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Self

__all__ = [
    "DeviceError",
    "DualdiffError",
    "InputError",
    "Interrupted",
    "ToleranceError",
    "did_you_mean",
    "unknown_name",
]


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

    def without_options(self, remedy: str) -> Self:
        """Give the error with another remedy if its own names an option, for a caller that has no such option."""
        return type(self)(self.problem, remedy) if "--" in self.remedy else self


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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Give a question with the known name that a misspelt one is closest to, and nothing where there is none."""
    close = difflib.get_close_matches(name.lower(), known, n=1)
    return f"Did you mean {close[0]!r}? " if close else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Say that a name is not one of the known ones, and which it may have been meant to be."""
    known = sorted(known)
    return InputError(f"There is no {kind} {name!r}.", f"{did_you_mean(name, known)}Choose from {', '.join(known)}.")
