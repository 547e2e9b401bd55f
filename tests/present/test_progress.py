"""The lines of progress for a file or a pipe: often enough to see that a job lives, and none for a short job."""

from __future__ import annotations

import pytest

from dualdiff_cli.present.progress import Lines, duration, lines_of_activity


class Clock:
    """A clock that a test winds."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def reported(clock: Clock, *, seconds: float, steps: int, each: float, estimated: bool = True) -> list[str]:
    """Give the lines of a job that reports every ``each`` seconds."""
    said: list[str] = []
    bar = Lines(said.append, "training", "steps", estimated=estimated, clock=clock)
    bar.report(0)  # before the size of the job is known
    bar.start(steps)
    for i in range(round(seconds / each) + 1):
        clock.now = i * each
        bar.report(round(steps * clock.now / seconds), "loss 1.5")
    return said


def test_a_short_job_says_nothing(clock: Clock) -> None:
    assert reported(clock, seconds=9, steps=100, each=0.5) == []


def test_a_job_of_minutes_says_every_tenth(clock: Clock) -> None:
    said = reported(clock, seconds=200, steps=1000, each=1)
    assert len(said) == 10
    assert said[0] == "training: 100 of 1,000 steps (10 %), loss 1.5, about 3 minutes left"
    assert said[-1] == "training: 1,000 of 1,000 steps (100 %), loss 1.5"


def test_a_job_of_hours_says_something_every_half_minute(clock: Clock) -> None:
    said = reported(clock, seconds=7200, steps=100_000, each=5)
    assert len(said) == 7200 / 30
    assert "about 2.0 hours left" in said[0]


def test_the_time_left_counts_from_where_a_job_goes_on(clock: Clock) -> None:
    said: list[str] = []
    bar = Lines(said.append, "training", "steps", clock=clock)
    bar.start(100)
    bar.report(90)
    clock.now = 100.0
    bar.report(95)
    assert said == ["training: 95 of 100 steps (95 %), about 2 minutes left"]


def test_an_estimate_can_be_left_to_the_job(clock: Clock) -> None:
    assert not any("left" in line for line in reported(clock, seconds=200, steps=1000, each=1, estimated=False))


def test_activity_says_what_is_done_if_the_last_line_is_old(clock: Clock) -> None:
    said: list[str] = []
    announce = lines_of_activity(said.append, clock=clock)
    for now, what in ((1, "samples"), (11, "kl"), (12, "wasserstein"), (40, "classifier")):
        clock.now = now
        announce(what)
    assert said == ["kl", "classifier"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.1, "1 second"),
        (40, "40 seconds"),
        (89, "89 seconds"),
        (150, "2 minutes"),
        (3600, "60 minutes"),
        (9000, "2.5 hours"),
    ],
)
def test_a_duration_is_in_words_with_the_right_number(seconds: float, words: str) -> None:
    assert duration(seconds) == words
