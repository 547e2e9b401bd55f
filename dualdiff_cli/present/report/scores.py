"""The scores of a report: each with its verdict in words, its numbers, and where it lies in a small picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...metrics import verdict
from ..meanings import Meaning, meaning_of
from ..tables import MISSING, Estimate, Range, interval_of, number, with_interval
from ..verdicts import MARKS

__all__ = ["ScoreCard", "score_cards"]


@dataclass(frozen=True)
class ScoreCard:
    """What is shown of one score.

    Attributes:
        name: of the score.
        meaning: its words.
        level, mark, why: the verdict, its sign, and its sentence.
        value, floor, unit: as texts.
        notes: sentences that a reader of the value should know.
        places: where floor, value, and the ends of the interval lie, in per cent of the width of the picture; None
            where the score has no value or no floor.

    """

    name: str
    meaning: Meaning
    level: str
    mark: str
    why: str
    value: str
    floor: str
    unit: str
    notes: tuple[str, ...]
    places: Mapping[str, float] | None


def score_cards(scores: Mapping[str, Mapping[str, Any]]) -> list[ScoreCard]:
    """Lay out the "metrics" of an evaluation's record; scores without a value come last."""
    return sorted((_card(name, score) for name, score in scores.items()), key=lambda card: card.value == MISSING)


def _card(name: str, score: Mapping[str, Any]) -> ScoreCard:
    judged = verdict(name, score)
    floor = score["floor"]
    return ScoreCard(
        name=name,
        meaning=meaning_of(name),
        level=judged.level,
        mark=MARKS[judged.level],
        why=judged.sentence,
        value=number(with_interval(score)),
        floor=number(None if floor is None else Estimate(floor, score.get("floor_spread"))),
        unit=score["unit"],
        notes=tuple(score.get("notes", ())),
        places=_places(score),
    )


def _places(score: Mapping[str, Any]) -> dict[str, float] | None:
    value, floor = score["value"], score["floor"]
    if value is None or floor is None:
        return None
    interval = interval_of(score) or Range(value, value)
    named = {"floor": floor, "value": value, "low": interval.low, "high": interval.high}
    least, most = min(named.values()), max(named.values())
    span = most - least or 1.0
    return {key: 6 + 88 * (place - least) / span for key, place in named.items()}
