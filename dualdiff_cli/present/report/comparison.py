"""The page of a comparison, from the record that `dualdiff compare --json` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...metrics import Verdict, overall_verdict, verdict
from ..comparison import floor_of, models_table
from ..meanings import meaning_of
from ..tables import interval_of, number
from ..verdicts import IN_PLAIN_WORDS, MARKS
from .page import fill_page

__all__ = ["comparison_page"]


@dataclass(frozen=True)
class _Cell:
    value: str
    interval: str
    level: str
    mark: str


NOTHING = _Cell("–", "", "unknown", "")
"""For a score that a model does not have."""


@dataclass(frozen=True)
class _Row:
    name: str
    best: bool
    verdict: Verdict | None
    cells: list[_Cell]
    seconds: tuple[str, str]
    error: str


def comparison_page(record: Mapping[str, Any]) -> tuple[str, Verdict]:
    """Make the page; also give the verdict of the best model."""
    models: Mapping[str, Mapping[str, Any]] = record["models"]
    scored = [model["metrics"] for model in models.values() if "metrics" in model]
    shown = list(dict.fromkeys(name for metrics in scored for name in metrics))
    best = record["best"]
    judged = overall_verdict(models[best]["metrics"]) if best else Verdict("unknown", "No model could be scored.")
    page = fill_page(
        "comparison.html",
        record=record,
        verdict=judged,
        marks=MARKS,
        plain=IN_PLAIN_WORDS,
        shown=[(name, meaning_of(name)) for name in shown],
        rows=[_row(name, model, shown, record) for name, model in models.items()],
        floors=[number(floor_of(name, scored)) for name in shown],
        notes=models_table(record).notes,
    )
    return page, judged


def _row(name: str, model: Mapping[str, Any], shown: list[str], record: Mapping[str, Any]) -> _Row:
    metrics = model.get("metrics", {})
    seconds = (number(model.get("train_seconds")), number(model.get("sample_seconds")))
    return _Row(
        name=name,
        best=name == record["best"] or name in record["as_good"],
        verdict=overall_verdict(metrics) if metrics else None,
        cells=[_cell(metric, metrics[metric]) if metric in metrics else NOTHING for metric in shown],
        seconds=seconds,
        error=str(model.get("error", "")),
    )


def _cell(name: str, score: Mapping[str, Any]) -> _Cell:
    level, interval = verdict(name, score).level, interval_of(score)
    return _Cell(number(score["value"]), "" if interval is None else number(interval), level, MARKS[level])
