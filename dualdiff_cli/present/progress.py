"""How far a long job is: a bar on a terminal or in a notebook, and a line now and then in a file or a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from rich.progress import Progress, TaskID

__all__ = ["Bar", "DrawnBar", "Lines", "SilentBar", "duration", "lines_of_activity"]

SECONDS_A_LINE = 30.0
"""After so many seconds without a line, the next report gives one."""
SHARE_A_LINE = 0.1
"""A report gives a line, too, if this share of the job has been done since the last line …"""
LEAST_SECONDS = 10.0
"""… and the last line is at least so many seconds old, so that a short job writes no lines."""


class Bar(Protocol):
    """What a job reports to; what it reports before `start` is not shown."""

    def start(self, total: int) -> None:
        """Count to ``total`` from now on."""

    def describe(self, what: str) -> None:
        """Replace the words before the count."""

    def report(self, done: int, words: str = "") -> None:
        """Show how many units are done, and ``words`` beside the count."""


class SilentBar:
    """A bar that nobody sees."""

    def start(self, total: int) -> None:
        """Do nothing."""

    def describe(self, what: str) -> None:
        """Do nothing."""

    def report(self, done: int, words: str = "") -> None:
        """Do nothing."""


class DrawnBar:
    """A bar that rich draws.

    Args:
        progress: where the bar is drawn.
        what: the words before the bar.
        unit: what is counted, such as "steps".

    """

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


class Lines:
    """A line of progress every so often, for standard error that goes into a file or a pipe.

    Args:
        say: prints a line.
        what: the words before the count.
        unit: what is counted, such as "steps".
        estimated: whether the time that is left is estimated from the count.
        clock: gives the time in seconds.

    """

    def __init__(
        self,
        say: Callable[[str], None],
        what: str,
        unit: str,
        *,
        estimated: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say, self._what, self._unit, self._clock = say, what, unit, clock
        self._estimated = estimated
        self._total = 0
        self._first: tuple[float, int] | None = None
        self._last = (0.0, 0)

    def start(self, total: int) -> None:
        """Count to ``total`` from now on."""
        self._total, self._first = total, None
        self._last = (self._clock(), 0)

    def describe(self, what: str) -> None:
        """Replace the words before the count."""
        self._what = what

    def report(self, done: int, words: str = "") -> None:
        """Print a line if the last one is old enough."""
        if not self._total:
            return
        now, (told_at, told) = self._clock(), self._last
        if self._first is None:  # a job that goes on begins with what was done before
            self._first = (now, done)
            self._last = told_at, told = told_at, done
        much = done - told >= SHARE_A_LINE * self._total and now - told_at >= LEAST_SECONDS
        if much or now - told_at >= SECONDS_A_LINE:
            self._last = now, done
            share = f"{self._what}: {done:,} of {self._total:,} {self._unit} ({100 * done / self._total:.0f} %)"
            self._say(", ".join(filter(None, (share, words, self._left(now, done)))))

    def _left(self, now: float, done: int) -> str:
        """Estimate the time that is left from the time that the reported units took."""
        assert self._first is not None
        began, before = self._first
        if not self._estimated or done <= before or done >= self._total:
            return ""
        seconds = (now - began) * (self._total - done) / (done - before)
        return f"about {duration(seconds)} left"


def lines_of_activity(say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> Callable[[str], None]:
    """Make a function that prints what is being done, if the last line is old enough."""
    told_at = clock()

    def announce(what: str) -> None:
        nonlocal told_at
        if clock() - told_at >= LEAST_SECONDS:
            told_at = clock()
            say(what)

    return announce


def duration(seconds: float) -> str:
    """Give a time in words: "40 seconds", "3 minutes", "2.5 hours"."""
    if seconds < 90:
        number, noun = max(round(seconds), 1), "second"
    elif seconds < 90 * 60:
        number, noun = round(seconds / 60), "minute"
    else:
        return f"{seconds / 3600:.1f} hours"
    return f"{number} {noun}{'' if number == 1 else 's'}"
