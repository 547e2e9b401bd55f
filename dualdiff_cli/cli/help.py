"""How the help of a command looks: the groups of options, the words for their values, and the examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

__all__ = [
    "DATA",
    "DRAWING",
    "FILES",
    "MACHINE",
    "MODEL",
    "OUTPUT",
    "SCORES",
    "TRAINING",
    "Group",
    "add_command",
    "examples",
]

# The groups in which help shows the options of a command.
DATA, MODEL, TRAINING = "Data", "Model", "Training"
DRAWING, SCORES = "Drawing rows", "Scores"
FILES, MACHINE, OUTPUT = "Runs and files", "Machine", "What is printed"

Described = TypeVar("Described", bound=Callable[..., None])


def _tidied(parameters: list[Any]) -> list[Any]:
    """Let options without a value show no type, and put ``--help`` into the group of what is printed."""
    grouped = any(getattr(parameter, "rich_help_panel", None) == OUTPUT for parameter in parameters)
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        if grouped and parameter.name == "help":
            parameter.rich_help_panel = OUTPUT
    return parameters


class Command(TyperCommand):
    """A command whose help is tidy."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Give the parameters as help shows them."""
        return _tidied(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands whose help is tidy."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Give the parameters as help shows them."""
        return _tidied(super().get_params(ctx))


def examples(*lines: str) -> Callable[[Described], Described]:
    """Let the help of a command end with examples of its use.

    Args:
        lines: commands as a user types them, each with or without a comment behind ``#``.

    """

    def add(command: Described) -> Described:
        # A paragraph of its own keeps each example on a line of its own.
        command.epilog = "\n\n".join(["Examples:", *lines])  # type: ignore[attr-defined]
        return command

    return add


def add_command(app: typer.Typer, command: Callable[..., None], *, name: str | None = None) -> None:
    """Add a command to an application, under its own name if no other is given, with its `examples`."""
    app.command(name, cls=Command, epilog=getattr(command, "epilog", None))(command)
