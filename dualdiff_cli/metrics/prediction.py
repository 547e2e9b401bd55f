"""Train on synthetic rows, test on real ones: does what the generated rows teach hold for real rows?

Boosted trees learn to predict one column, the target, from the other columns of the generated rows, and predict it for
real rows (TSTR: Esteban, Hyland and Rätsch 2017, "Real-valued (medical) time series generation with recurrent
conditional GANs", section 4.2). For a target with few values the score is the share of right predictions, and for a
number it is R² = 1 − Σ(y − ŷ)²/Σ(y − ȳ)². The floor is the score of trees that have learnt from real rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ..seeding import integer, stream
from .score import ColumnPart, Points, Reference, Score, group_count, jackknife_interval

__all__ = ["prediction_of_target", "unit_of_target"]

SMALLEST = 50
"""The number of generated rows below which trees hardly split."""
MOST_ROWS = 20_000
"""The number of rows of a side that are used."""
GROUPS = 20
"""The number of groups of real rows of the jackknife."""


def prediction_of_target(reference: Reference, generated: Points, *, intervals: bool) -> Mapping[str, Score]:
    """Score what generated rows (m, d) teach about the target of the reference; see the module."""
    own = _parts_of_target(reference)
    numbers = [part for part in own if not part.discrete]
    unit = unit_of_target(reference)
    others = np.setdiff1d(np.arange(generated.shape[1]), np.concatenate([np.r_[part.features] for part in own]))
    x, y = (_drawn(side, reference.seed) for side in (reference.real, generated))
    if len(y) < SMALLEST or not len(others):
        why = "One column alone predicts nothing." if not len(others) else f"Give at least {SMALLEST} generated rows."
        return {"tstr": Score(value=math.nan, unit=unit, ci95=None, n_real=len(x), n_generated=len(y), notes=(why,))}
    if numbers:
        truth = x[:, numbers[0].start]
        predicted = _regression(y[:, others], y[:, numbers[0].start], x[:, others], seed=reference.seed)
        loss, most = (truth - predicted) ** 2, (truth - truth.mean()) ** 2
    else:
        classes, taught = _classes(x, y, own[0])
        answers = _classification(y[:, others], taught, x[:, others], seed=reference.seed)
        loss, most = (classes != answers).astype(float), np.ones(len(x))
    value = 1 - float(loss.sum() / most.sum()) if most.any() else math.nan
    groups = group_count(len(x), at_most=GROUPS, leaving=2) if intervals else 0
    place = stream(reference.seed, "groups of the test").permutation(len(x)) % max(groups, 1)
    left_out = [1 - float(loss[place != g].sum() / most[place != g].sum()) for g in range(groups)]
    interval = jackknife_interval(value, left_out)
    interval = None if interval is None else (interval[0], min(interval[1], 1.0))
    return {"tstr": Score(value=value, unit=unit, ci95=interval, n_real=len(x), n_generated=len(y))}


def unit_of_target(reference: Reference) -> str:
    """Give the unit of the score: R² for a target of numbers, and otherwise the share of right predictions."""
    return "fraction" if all(part.discrete for part in _parts_of_target(reference)) else "R²"


def _parts_of_target(reference: Reference) -> list[ColumnPart]:
    return [part for part in reference.parts or () if part.column == reference.target]


def _drawn(points: Points, seed: int) -> Points:
    return points[stream(seed, "rows of the prediction").permutation(len(points))[:MOST_ROWS]]


def _classes(x: Points, y: Points, part: ColumnPart) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Number the values of a target with few values, for real and for generated rows."""
    both = np.concatenate([x[:, part.features], y[:, part.features]]).round(6)
    _, number = np.unique(both, axis=0, return_inverse=True)
    number = number.reshape(-1)
    return number[: len(x)], number[len(x) :]


def _classification(x: Points, classes: NDArray[np.intp], asked: Points, *, seed: int) -> NDArray[np.intp]:
    """Learn classes from rows and predict them for others."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # scikit-learn takes long to import

    if len(np.unique(classes)) == 1:
        return np.full(len(asked), classes[0])
    trees = HistGradientBoostingClassifier(early_stopping=False, random_state=integer(seed, "trees of the target"))
    with threadpool_limits(limits=1, user_api="openmp"):
        predicted: NDArray[np.intp] = trees.fit(x, classes).predict(asked)
    return predicted


def _regression(x: Points, y: Points, asked: Points, *, seed: int) -> Points:
    """Learn numbers from rows and predict them for others."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    trees = HistGradientBoostingRegressor(early_stopping=False, random_state=integer(seed, "trees of the target"))
    with threadpool_limits(limits=1, user_api="openmp"):
        predicted: Points = trees.fit(x, y).predict(asked)
    return predicted
