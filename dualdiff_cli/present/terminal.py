"""Writes to the terminal: results to standard output, progress, notes, warnings and errors to standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from rich.console import Console as RichConsole
from rich.console import Group
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ..errors import DualdiffError
from .fitting import fitted
from .progress import Bar, DrawnBar, Lines, SilentBar, lines_of_activity
from .tables import Table

__all__ = ["Console"]

WIDTH_OFF_TERMINAL = 200


class Console:
    """What a command uses to show its progress and its result.

    Args:
        as_json: print the result as one JSON object and nothing else.
        quiet: show no progress, no notes, no warnings and no tables.
        rows: standard output is for rows: print no result, and draw nothing on the terminal that shows them.

    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False, rows: bool = False) -> None:
        self.as_json, self.quiet, self.rows = as_json, quiet, rows
        self._err = RichConsole(stderr=True, highlight=False)
        self._err.soft_wrap = not self._err.is_terminal  # a file keeps sentences in one line

    @property
    def _draws(self) -> bool:
        """Whether rich can draw over its own lines: on a terminal, and in a notebook that has widgets."""
        if self.rows and sys.stdout.isatty():
            return False
        return self._err.is_terminal or (self._err.is_jupyter and find_spec("ipywidgets") is not None)

    def result(self, record: Mapping[str, Any], tables: Callable[[], Iterable[Table]]) -> None:
        """Print a command's result; ``tables`` lays the record out, and is called only if a person reads the result."""
        if self.as_json:
            sys.stdout.write(json.dumps(record, allow_nan=False) + "\n")
        elif not (self.quiet or self.rows):
            # A file or a pipe has no width of its own, and rich would take 80 columns.
            own_width = sys.stdout.isatty() or "COLUMNS" in os.environ
            out = RichConsole(highlight=False, width=None if own_width else WIDTH_OFF_TERMINAL)
            with out.capture() as shown:
                for number, table in enumerate(tables()):
                    if number:
                        out.print()
                    out.print(Group(*fitted(table, out.width)))
            sys.stdout.write("\n".join(line.rstrip() for line in shown.get().split("\n")))
        sys.stdout.flush()

    def error(self, error: DualdiffError, *, trace: str = "") -> None:
        """Print what is wrong and what to do about it, below the traceback if one is given."""
        if trace:
            self._err.print(Text(trace))
        self._err.print(Text.assemble(("Error:", "bold red"), f" {error.problem}\n{error.remedy}"))

    def note(self, text: str) -> None:
        """Print a line about what the command does."""
        if not self.quiet:
            self._err.print(Text(text))  # and no markup, in which names of columns and files would be changed

    def warn(self, text: str) -> None:
        """Print a warning."""
        if not self.quiet:
            self._err.print(Text.assemble(("Warning:", "yellow"), f" {text}"))

    @contextmanager
    def progress(self, what: str, *, unit: str, estimated: bool = True) -> Iterator[Bar]:
        """Give a bar that is shown once its ``start`` is called, as lines where nothing can be drawn.

        Args:
            what: the words before the bar.
            unit: what is counted, such as "steps".
            estimated: whether the time that is left is estimated from the count.

        """
        if self.quiet:
            yield SilentBar()
        elif not self._draws:
            yield Lines(self.note, what, unit, estimated=estimated)
        else:
            columns: list[ProgressColumn] = [
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[words]}", markup=False),
                *([TimeRemainingColumn()] if estimated else []),
            ]
            with Progress(*columns, console=self._err, transient=True) as progress:
                yield DrawnBar(progress, what, unit)

    @contextmanager
    def activity(self) -> Iterator[Callable[[str], None]]:
        """Show a spinner with the words last given, or the words as lines where nothing can be drawn."""
        if self.quiet:
            yield lambda what: None
        elif not self._draws:
            yield lines_of_activity(self.note)
        else:
            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False))
            with Progress(*columns, console=self._err, transient=True) as progress:
                task = progress.add_task("")
                yield lambda what: progress.update(task, description=what)
