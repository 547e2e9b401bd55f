"""The only file that prints: results to standard output, progress, notes, warnings and errors to standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console as RichConsole
from rich.console import Group
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from ..errors import DualdiffError
from .fitting import fitted
from .tables import Table

__all__ = ["Bar", "Console"]

WIDTH_OFF_TERMINAL = 200


class Bar:
    """A progress bar that appears once the size of the job is known."""

    def __init__(self, progress: Progress, what: str, unit: str) -> None:
        self._progress, self._what, self._unit = progress, what, unit
        self._task: TaskID | None = None

    def start(self, total: int) -> None:
        """Show the bar, and count to ``total`` from now on."""
        self._task = self._progress.add_task(self._what, total=total, words="")

    def describe(self, what: str) -> None:
        """Replace the words before the bar."""
        if self._task is not None:
            self._progress.update(self._task, description=what)

    def report(self, done: int, words: str = "") -> None:
        """Show how many units are done, and ``words`` beside the bar."""
        if self._task is not None:
            speed = self._progress.tasks[self._task].speed
            rate = f"{speed:,.0f} {self._unit}/s" if speed else ""
            self._progress.update(self._task, completed=done, words="  ".join(filter(None, (words, rate))))


class Console:
    """What a command uses to show its progress and its result.

    Args:
        as_json: print the result as one JSON object and nothing else.
        quiet: show no progress, no notes, no warnings and no tables.

    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json, self.quiet = as_json, quiet
        self._err = RichConsole(stderr=True, highlight=False, soft_wrap=True)

    @property
    def _shows_progress(self) -> bool:
        return self._err.is_terminal and not self.quiet

    def result(self, record: Mapping[str, Any], tables: Callable[[], Iterable[Table]]) -> None:
        """Print a command's result; ``tables`` lays the record out, and is called only if a person reads the result."""
        if self.as_json:
            sys.stdout.write(json.dumps(record, allow_nan=False) + "\n")
        elif not self.quiet:
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
            self._err.print(escape(trace))
        self._err.print(f"[bold red]Error:[/] {escape(error.problem)}\n{escape(error.remedy)}")

    def note(self, text: str) -> None:
        """Print a line about what the command does."""
        if not self.quiet:
            self._err.print(escape(text))

    def warn(self, text: str) -> None:
        """Print a warning."""
        if not self.quiet:
            self._err.print(f"[yellow]Warning:[/] {escape(text)}")

    @contextmanager
    def progress(self, what: str, *, unit: str) -> Iterator[Bar]:
        """Show a bar once its ``start`` is called; show nothing if quiet or if standard error is no terminal."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._err, transient=True, disable=not self._shows_progress) as progress:
            yield Bar(progress, what, unit)

    @contextmanager
    def activity(self) -> Iterator[Callable[[str], None]]:
        """Show a spinner with the words last given; show nothing if quiet or if standard error is no terminal."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=self._err, transient=True, disable=not self._shows_progress) as progress:
            task = progress.add_task("")
            yield lambda what: progress.update(task, description=what)
