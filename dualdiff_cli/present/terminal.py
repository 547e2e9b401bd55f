"""The only file that prints: results to standard output, progress, warnings and errors to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console as RichConsole
from rich.console import Group, RenderableType
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
from rich.table import Table

from ..errors import DualdiffError

__all__ = [
    "Bar",
    "Console",
    "diagnosis_table",
    "evaluation_tables",
    "facts_table",
    "number",
    "scores_table",
]

WIDTH_OFF_TERMINAL = 160


class Bar:
    """A progress bar that appears once the size of the job is known."""

    def __init__(self, progress: Progress, what: str, unit: str) -> None:
        self._progress, self._what, self._unit = progress, what, unit
        self._task: TaskID | None = None

    def start(self, total: int) -> None:
        """Begin counting to ``total``."""
        self._task = self._progress.add_task(self._what, total=total, words="")

    def describe(self, what: str) -> None:
        """Say what is going on now."""
        if self._task is not None:
            self._progress.update(self._task, description=what)

    def report(self, done: int, words: str = "") -> None:
        """Say how far the job is, and in a few words how it goes."""
        if self._task is not None:
            speed = self._progress.tasks[self._task].speed
            rate = f"{speed:,.0f} {self._unit}/s" if speed else ""
            self._progress.update(self._task, completed=done, words="  ".join(filter(None, (words, rate))))


class Console:
    """Where a command shows what it does.

    Args:
        as_json: print the result as one JSON object and nothing else.
        quiet: no progress, no warnings, and no tables.

    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json, self.quiet = as_json, quiet
        self._err = RichConsole(stderr=True, highlight=False, soft_wrap=True)

    @property
    def _shows_progress(self) -> bool:
        return self._err.is_terminal and not self.quiet

    def result(self, record: Mapping[str, Any], render: Callable[[], RenderableType]) -> None:
        """Show a command's result; ``render`` makes what people read, and is not called for a script."""
        if self.as_json:
            sys.stdout.write(json.dumps(record, allow_nan=False) + "\n")
        elif not self.quiet:
            # A file or a pipe has no width; without one, rich would cut names to fit 80 columns.
            RichConsole(highlight=False, width=None if sys.stdout.isatty() else WIDTH_OFF_TERMINAL).print(render())

    def error(self, error: DualdiffError, *, trace: str = "") -> None:
        """Say what is wrong and what to do, below the traceback if one is given."""
        if trace:
            self._err.print(escape(trace))
        self._err.print(f"[bold red]Error:[/] {escape(error.problem)}\n{escape(error.remedy)}")

    def note(self, text: str) -> None:
        """Say something in passing."""
        if not self.quiet:
            self._err.print(escape(text))

    def warn(self, text: str) -> None:
        """Say what may surprise."""
        if not self.quiet:
            self._err.print(f"[yellow]Warning:[/] {escape(text)}")

    @contextmanager
    def progress(self, what: str, *, unit: str) -> Iterator[Bar]:
        """Show a bar from its ``start`` on; on a stderr that is no terminal, or when quiet, nothing."""
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
        """Show a spinner with what is being done, as `progress` does."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=self._err, transient=True, disable=not self._shows_progress) as progress:
            task = progress.add_task("")
            yield lambda what: progress.update(task, description=what)


def facts_table(facts: Mapping[str, object], *, title: str | None = None) -> Table:
    """Two columns: what, and its value."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in facts.items():
        table.add_row(name, escape(value if isinstance(value, str) else number(value)))
    return table


def scores_table(metrics: Mapping[str, Mapping[str, Any]], *, title: str) -> Table:
    """One row a metric: value, interval, the floor that perfect samples get, unit and sample sizes."""
    table = Table(title=title, title_justify="left")
    table.add_column("metric", no_wrap=True)
    for name in ("value", "95 % interval", "floor"):
        table.add_column(name, justify="right")
    table.add_column("unit")
    table.add_column("real · generated", justify="right")
    notes: list[str] = []
    for name, score in metrics.items():
        floor, spread = number(score["floor"]), score.get("floor_spread")
        sizes = " · ".join(f"{size:,}" if size else "–" for size in (score["n_real"], score["n_generated"]))
        table.add_row(
            name,
            number(score["value"]),
            _interval(score["ci95"]),
            floor if spread is None else f"{floor} ± {number(spread)}",
            score["unit"],
            sizes,
        )
        notes += [f"{name}: {note}" for note in score.get("notes", ())]
    table.caption = "\n".join(notes) or None
    table.caption_justify = "left"
    return table


def diagnosis_table(diagnosis: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    """One row a divergence: its parts, in bits, each with its interval, and their sum."""
    title = "where the bits come from: floor + schedule and sampler + network = total"
    table = Table(title=title, title_justify="left")
    table.add_column("metric", no_wrap=True)
    for part in next(iter(diagnosis.values())):
        table.add_column(part.replace("_", " "), justify="right")
    for name, parts in diagnosis.items():
        table.add_row(name, *(f"{number(part['value'])}\n({_interval(part['ci95'])})" for part in parts.values()))
    return table


def evaluation_tables(record: Mapping[str, Any], *, title: str) -> RenderableType:
    """Show an evaluation's scores and, where it has one, its diagnosis."""
    scores = scores_table(record["metrics"], title=title)
    return Group(scores, diagnosis_table(record["diagnosis"])) if "diagnosis" in record else scores


def number(value: object) -> str:
    """Give four digits of a float, thousands apart of a whole number, a dash for what is not there."""
    if value is None:
        return "–"
    if isinstance(value, list):
        return ", ".join(map(number, value))
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _interval(ends: Sequence[float] | None) -> str:
    return "–" if ends is None else f"{number(ends[0])} … {number(ends[1])}"
