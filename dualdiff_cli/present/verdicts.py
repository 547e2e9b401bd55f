"""Verdicts for a reader: each level has a word and a sign beside its colour, so that nobody depends on the colour."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["COLOURS", "MARKS", "marked", "spoken"]

MARKS: Mapping[str, str] = {"good": "✓", "not yet": "◐", "bad": "✕", "unknown": "?"}
"""The sign of each level."""


def marked(level: str) -> str:
    """Write a level with its sign, such as "✓ good"."""
    return f"{MARKS[level]} {level}"


def spoken(level: str, sentence: str) -> str:
    """Say the level of a `Verdict` and its sentence."""
    return f"Verdict: {marked(level)}. {sentence}"


COLOURS: Mapping[str, str] = {marked("good"): "green", marked("not yet"): "yellow", marked("bad"): "bold red"}
"""The colour of a written level on a terminal."""
