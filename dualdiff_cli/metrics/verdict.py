"""Is a score good? The rules by which a score is judged against its floor, in one place.

A score is judged by its *excess*, which is how much worse the score is than its floor:

    excess = value − floor,    for a score of which less is better, and floor − value for one of which more is better.

The interval of the excess is the 95 % interval of the score, widened on each side by two standard deviations of the
floor; the sides differ, for example, where the score is a share near 0. A model has a dozen scores, of which one or the
other would lie beyond its 95 % interval by chance. So the question whether a score has reached its floor is asked with
an interval `SIMULTANEOUS` times as wide towards the floor. With the two thresholds of the score's unit, `tiny` and
`large`,

    unknown   the score has no value, no floor, or no thresholds; or the excess is tiny or its wider interval contains
              0, but the interval reaches beyond `large`, so that the rows are too few to tell good from bad
    good      the excess is tiny or negative, or its wider interval contains 0
    bad       the whole interval of the excess lies above `large`, and the wider one above 0
    not yet   everything else

A classifier that guesses is right half of the time, so the floor of its scores counts as at least one half.
Distances in data units have no scale of their own, so their thresholds are multiples of the floor. The verdict of a
model is the worst verdict among its scores that can be judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .score import wilson_interval

__all__ = ["RELATIVE", "SIMULTANEOUS", "THRESHOLDS", "Verdict", "VerdictLevel", "overall_verdict", "verdict"]

VerdictLevel = Literal["good", "not yet", "bad", "unknown"]

THRESHOLDS: Mapping[str, tuple[float, float]] = {
    "bits": (0.02, 0.25),
    "standard deviations": (0.02, 0.2),
    "accuracy": (0.01, 0.1),
    "AUC": (0.01, 0.1),
    "fraction": (0.01, 0.1),
    "correlation": (0.01, 0.1),
    "R²": (0.02, 0.2),
    "balls": (0.05, 0.5),
}
"""For each unit the excess up to which a score is good, and the excess beyond which a score is bad."""
RELATIVE: Mapping[str, tuple[float, float]] = {"data units": (0.25, 2.0)}
"""The same as multiples of the floor."""
SIMULTANEOUS = 1.4
"""With this factor, one side of a normal 95 % interval misses in 0.3 % of cases, and one of twelve in 4 % at most."""
MORE_IS_BETTER = frozenset({"mode_coverage", "precision", "recall", "density", "coverage", "tstr"})
"""The scores of which more is better; of all others less is better."""
COUNTED_FLOORS = frozenset({"copies"})
"""The scores whose floor is a share of the held-out rows, and therefore has Wilson's interval of a binomial share."""
TOO_WIDE = "The rows are too few: the interval is too wide to tell good from bad."
ORDER: tuple[VerdictLevel, ...] = ("unknown", "good", "not yet", "bad")


@dataclass(frozen=True)
class Verdict:
    """What is to be said of a score or of a model.

    Attributes:
        level: "good", "not yet", "bad" or "unknown".
        sentence: why.

    """

    level: VerdictLevel
    sentence: str


def verdict(name: str, score: Mapping[str, Any]) -> Verdict:
    """Judge one score by the rules of this module.

    Args:
        name: of the score, such as "kl_real_generated".
        score: what `Score.to_dict` gives: value, unit, ci95, floor and floor_spread.

    """
    value, floor = score["value"], score["floor"]
    if value is None:
        return Verdict("unknown", "The rows do not determine this score.")
    if floor is None:
        return Verdict("unknown", "This score has no floor to compare with.")
    if score["unit"] in ("accuracy", "AUC"):
        floor = max(floor, 0.5)
    thresholds = _thresholds(score["unit"], floor)
    if thresholds is None:
        return Verdict("unknown", "This score has no threshold.")
    tiny, large = thresholds
    below, above = _widths(name, score)
    excess, better, worse = value - floor, below, above
    if name in MORE_IS_BETTER:
        excess, better, worse = floor - value, above, below
    if excess <= tiny or excess - SIMULTANEOUS * better <= 0:
        if excess + worse > large:
            return Verdict("unknown", TOO_WIDE)
        if excess > tiny:
            return Verdict("good", "The score cannot be told from its floor.")
        return Verdict("good", f"The score is {'at' if excess >= -tiny else 'better than'} its floor.")
    if excess - better > large:
        return Verdict("bad", "The score is far from its floor.")
    return Verdict("not yet", "The score has not reached its floor.")


def overall_verdict(scores: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """Judge a model by all of its scores, each as `verdict` does, in one sentence.

    Args:
        scores: the "metrics" of an evaluation's record.

    """
    judged = {name: verdict(name, score) for name, score in scores.items()}
    wide = sum(found.sentence == TOO_WIDE for found in judged.values())
    levels = {name: found.level for name, found in judged.items() if found.level != "unknown"}
    if not levels and wide:
        return Verdict("unknown", "The rows are too few: every interval is too wide to tell good from bad.")
    if not levels and (why := _shared_note(scores)):
        return Verdict("unknown", why)
    if not levels:
        return Verdict("unknown", "No score can be judged, because none has both a value and a floor.")
    rest = "" if not wide else f" {wide} more cannot be judged, because the rows are too few."
    level = max(levels.values(), key=ORDER.index)
    if level == "good":
        all_of = f"All {len(levels)} scores that can be judged are" if len(levels) > 1 else "The one judged score is"
        return Verdict(level, f"{all_of} at {'their floors' if len(levels) > 1 else 'its floor'}.{rest}")
    worst = [name for name, found in levels.items() if found == level]
    reached = sum(found == "good" for found in levels.values())
    what = "far from" if level == "bad" else "not yet at"
    verb, floors = ("is", "its floor") if len(worst) == 1 else ("are", "their floors")
    where = f"{', '.join(worst)} {verb} {what} {floors}"
    return Verdict(level, f"{reached} of {len(levels)} scores are at their floors; {where}.{rest}")


def _shared_note(scores: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Give the note that all scores without a value have in common; None where there is none."""
    notes = [score.get("notes", ()) for score in scores.values() if score["value"] is None]
    return next((note for note in (notes[0] if notes else ()) if all(note in other for other in notes)), None)


def _thresholds(unit: str, floor: float) -> tuple[float, float] | None:
    if unit in RELATIVE:
        tiny, large = RELATIVE[unit]
        return tiny * abs(floor), large * abs(floor)
    return THRESHOLDS.get(unit)


def _widths(name: str, score: Mapping[str, Any]) -> tuple[float, float]:
    """Give how far the interval of value − floor reaches to either side, by the value's interval and floor's spread."""
    ends = score["ci95"]
    low, high = (score["value"], score["value"]) if ends is None or None in ends else ends
    under = over = 2 * (score.get("floor_spread") or 0.0)
    if name in COUNTED_FLOORS and score.get("n_real"):
        share = min(max(score["floor"], 0.0), 1.0)  # a damaged file may hold another number
        least, most = wilson_interval(share, score["n_real"])
        under, over = share - least, most - share
    return math.hypot(score["value"] - low, over), math.hypot(high - score["value"], under)
