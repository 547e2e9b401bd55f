"""Which of several models is best, by their scores alone.

The *distance* of a score is how much worse than its floor it is: max(value − floor, 0), or max(floor − value, 0) where
more is better. A score beyond its floor is no better than one at its floor. Within one metric, the model with the least
distance is the best, of several with distance 0 the one nearest to its floor, and a model is as good where the 95 %
intervals of the two distances overlap. On the whole, the *excess* decides: the sum of

    (KL(real ‖ generated) − its floor) + (KL(generated ‖ real) − its floor)     in bits,

which is 0 for a model whose rows cannot be told from true rows. The least excess is the best. A table with categories,
gaps or point masses has no density, and so no divergences; there the excess is that of the AUC of trees that tell true
rows from generated ones. So it is for all models of a comparison if one of them has no divergences: those of a model
whose rows can hardly be told from true rows may be too uncertain to be given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..metrics import METRICS
from ..metrics.verdict import MORE_IS_BETTER

__all__ = ["as_good", "best_by_metric", "best_overall", "excess", "in_one_unit"]

DECIDING = (("bits", ("kl_real_generated", "kl_generated_real")), ("AUC", ("classifier_auc",)))
"""The unit of the excess, and the scores that it is the sum of; the first whose scores are known decide."""

Metrics = Mapping[str, Mapping[str, Any]]
"""Scores by name, each as `Score.to_dict` gives it."""


def excess(metrics: Metrics, *, in_bits: bool = True) -> dict[str, Any] | None:
    """Give the excess of a model, {"value", "unit", "ci95"}; the unit is bits or AUC.

    The half-widths of two intervals are added as those of independent scores. The scatter of the floors has no part in
    the interval, because the models of one comparison have the same floors.

    Args:
        metrics: the scores.
        in_bits: whether the excess is in bits if the divergences are known; otherwise it is that of the AUC.

    Returns:
        None where no scores that decide have values and floors: the rows are too few.

    """
    for unit, names in DECIDING if in_bits else DECIDING[1:]:
        known = [value for name in names if (value := _above_floor(metrics.get(name, {}))) is not None]
        halves = [_half(metrics.get(name, {})) for name in names]
        if len(known) == len(names):
            total = math.fsum(known)
            half = None if None in halves else math.hypot(*(half for half in halves if half is not None))
            return {"value": total, "unit": unit, "ci95": None if half is None else [total - half, total + half]}
    return None


def in_one_unit(models: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Give records of models whose excesses have one unit: bits if all have this unit, otherwise AUC."""
    units = {of["excess"]["unit"] for of in models.values() if of.get("excess")}
    if len(units) < 2:
        return dict(models)
    return {
        name: of | {"excess": excess(of["metrics"], in_bits=False)} if "metrics" in of else of
        for name, of in models.items()
    }


def best_by_metric(models: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Name for every metric that has a floor the model with the least distance, and then the models that are as good.

    A metric that is unknown for one of the models is left out: this model may be the best.

    Args:
        models: records of models; one without "metrics" is left out.

    """
    found = {}
    for metric in METRICS:
        sign = -1.0 if metric in MORE_IS_BETTER else 1.0
        scores = {name: of["metrics"].get(metric, {}) for name, of in models.items() if "metrics" in of}
        above = {name: _above_floor(score) for name, score in scores.items()}
        known = {name: (sign * by, _half(scores[name]) or 0.0) for name, by in above.items() if by is not None}
        if known and len(known) == len(scores):
            found[metric] = _ranked(known)
    return found


def best_overall(models: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Name the model with the least excess; None where no model has one. All excesses have one unit."""
    known = {name: of["excess"]["value"] for name, of in models.items() if of.get("excess")}
    return min(known, key=lambda name: known[name], default=None)


def as_good(model: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether a model's excess is less than another's, or the 95 % intervals of the two overlap."""
    one, two = model.get("excess"), other.get("excess")
    if not one or not two:
        return False
    low = one["value"] if one["ci95"] is None else one["ci95"][0]
    high = two["value"] if two["ci95"] is None else two["ci95"][1]
    return bool(low <= high)


def _ranked(worse: Mapping[str, tuple[float, float]]) -> list[str]:
    """Order models by how much worse than its floor each one's score is, given with the half-width of its interval."""
    distances = {name: max(by, 0.0) for name, (by, _) in worse.items()}
    names = sorted(worse, key=lambda name: (distances[name], abs(worse[name][0])))
    reached = distances[names[0]] + worse[names[0]][1]
    return [name for name in names if distances[name] - worse[name][1] <= reached]


def _above_floor(score: Mapping[str, Any]) -> float | None:
    value, floor = score.get("value"), score.get("floor")
    return None if value is None or floor is None else float(value - floor)


def _half(score: Mapping[str, Any]) -> float | None:
    ends = score.get("ci95")
    return None if ends is None or None in ends else float(ends[1] - ends[0]) / 2
