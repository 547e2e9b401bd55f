"""Verdicts for a reader: each level has a word and a sign beside its colour, so that nobody depends on the colour."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["COLOURS", "IN_PLAIN_WORDS", "MARKS", "marked", "spoken"]

MARKS: Mapping[str, str] = {"good": "✓", "not yet": "◐", "bad": "✕", "unknown": "?"}
"""The sign of each level."""
IN_PLAIN_WORDS: Mapping[str, str] = {
    "good": "These scores cannot tell the generated rows from fresh real rows.",
    "not yet": "Some scores can still tell the generated rows from fresh real rows.",
    "bad": "The generated rows are clearly different from fresh real rows.",
    "unknown": "There is not enough to say how good the generated rows are.",
}
"""What each level of a model says, for a reader who does not know what a floor is."""


def marked(level: str) -> str:
    """Write a level with its sign, such as "✓ good"."""
    return f"{MARKS[level]} {level}"


def spoken(level: str, sentence: str) -> str:
    """Say the level of a model's `Verdict`, what it means, and why."""
    return f"Verdict: {marked(level)}. {IN_PLAIN_WORDS[level]} {sentence}"


COLOURS: Mapping[str, str] = {marked("good"): "green", marked("not yet"): "yellow", marked("bad"): "bold red"}
"""The colour of a written level on a terminal."""
