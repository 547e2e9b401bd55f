"""What `dualdiff evaluate` shows: the tables of an evaluation's record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .tables import Column, Estimate, Table, interval_of, with_interval
from .verdicts import COLOURS, marked, spoken

__all__ = ["evaluation_tables"]

DIGITS = ".4g"


def evaluation_tables(record: Mapping[str, Any], *, title: str) -> list[Table]:
    """Lay out the scores of an evaluation and, where the record has one, the diagnosis.

    Args:
        record: what the job ``evaluate`` returns.
        title: the line over the scores.

    """
    tables = [_scores(record["metrics"], title=title)]
    return [*tables, _diagnosis(record["diagnosis"])] if "diagnosis" in record else tables


def _scores(metrics: Mapping[str, Mapping[str, Any]], *, title: str) -> Table:
    """Give one row for each metric: the value, its interval, the floor that perfect samples get, and the verdict."""
    from ..metrics import overall_verdict, verdict  # the help of the command needs none of the metrics

    rows = tuple(
        (
            name,
            score["value"],
            interval_of(score),
            None if score["floor"] is None else Estimate(score["floor"], score.get("floor_spread")),
            marked(verdict(name, score).level),
            score["unit"],
            score["n_real"] or None,
            score["n_generated"] or None,
        )
        for name, score in metrics.items()
    )
    heads = ("metric", "value", "95 % interval", "floor", "verdict", "unit", "real points", "generated points")
    columns = tuple(Column(head, DIGITS, COLOURS if head == "verdict" else {}) for head in heads)
    scores_by_note: dict[str, list[str]] = {}
    for name, score in metrics.items():
        for note in score.get("notes", ()):
            scores_by_note.setdefault(note, []).append(name)
    notes = [f"{', '.join(names)}: {note}" for note, names in scores_by_note.items()]
    judged = overall_verdict(metrics)
    return Table(title, columns, rows, (*notes, spoken(judged.level, judged.sentence)))


def _diagnosis(diagnosis: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    """Give one row for each divergence: its parts in bits, each with its 95 % interval, and their sum."""
    parts = next(iter(diagnosis.values()))
    heads = ("metric", *(part.replace("_", " ") for part in parts))
    rows = tuple((name, *map(with_interval, of.values())) for name, of in diagnosis.items())
    title = "Where the bits come from: floor + schedule and sampler + network = total"
    notes = ("In brackets stand 95 % intervals.",)
    return Table(title, tuple(Column(head, DIGITS) for head in heads), rows, notes)
