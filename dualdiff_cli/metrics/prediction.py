"""Train on synthetic rows, test on real ones: does what the generated rows teach hold for real rows?

Boosted trees learn to predict one column, the target, from the other columns of the generated rows, and predict it for
real rows (TSTR: Esteban, Hyland and Rätsch 2017, "Real-valued (medical) time series generation with recurrent
conditional GANs", section 4.2). The floor is the score of trees that have learnt from real rows.

For a target with few values the score is the share of right predictions, where a gap is one of the values. For a number
the score is R² = 1 − Σ(y − ŷ)²/Σ(y − ȳ)². Both sums run over all features of the number, such as the two coordinates of
an angle, and over the rows in which they count: a gap, or a point mass that lies beyond the other values, is no number,
and neither taught nor asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ..seeding import integer, shuffled, stream
from .score import ColumnPart, Interval, Points, Reference, Score, group_count, jackknife_interval

__all__ = ["prediction_of_target", "unit_of_target"]

SMALLEST = 50
"""The number of generated rows below which trees hardly split."""
MOST_ROWS = 20_000
"""The number of rows of a side that are used."""
MOST_CLASSES = 32
"""The number of values that trees learn, the most frequent ones; the time grows with it. Others are never predicted."""
GROUPS = 20
"""The number of groups of real rows of the jackknife."""
LEFT_OUT = "Rows in which the target is a gap or a point mass apart from all other values take no part."


def prediction_of_target(reference: Reference, generated: Points, *, intervals: bool) -> Mapping[str, Score]:
    """Score what generated rows (m, d) teach about the target of the reference; see the module."""
    own, unit = _parts_of_target(reference), unit_of_target(reference)
    numbers = [part.start for part in own if not part.discrete]
    others = np.setdiff1d(np.arange(generated.shape[1]), np.concatenate([np.r_[part.features] for part in own]))
    drawn = [
        shuffled(side, MOST_ROWS, stream(reference.seed, "rows of the prediction"))
        for side in (reference.real, generated)
    ]
    x, y = (_with_numbers(side, numbers, reference) for side in drawn)
    gaps = (LEFT_OUT,) if len(x) + len(y) < sum(map(len, drawn)) else ()

    def score(value: float, *notes: str, ci95: Interval | None = None) -> dict[str, Score]:
        notes = (*notes, *gaps)
        return {"tstr": Score(value=value, unit=unit, ci95=ci95, n_real=len(x), n_generated=len(y), notes=notes)}

    if not len(others):
        return score(math.nan, "One column alone predicts nothing.")
    if len(y) < SMALLEST:
        return score(math.nan, f"Give at least {SMALLEST} generated rows.")
    if not len(x):
        return score(math.nan, "In no real row the target is a number.")
    if numbers:
        truth = x[:, numbers]
        taught = [_regression(y[:, others], y[:, k], x[:, others], seed=reference.seed) for k in numbers]
        loss, most = ((truth - other) ** 2 for other in (np.stack(taught, axis=1), truth.mean(axis=0)))
        loss, most = loss.sum(axis=1), most.sum(axis=1)
    else:
        classes, learnt = _classes(x, y, np.concatenate([np.r_[part.features] for part in own]))
        answers = _classification(y[:, others], learnt, x[:, others], seed=reference.seed)
        loss, most = (classes != answers).astype(float), np.ones(len(x))
    if not most.any():
        return score(math.nan, "The target has one value in all real rows.")
    value = 1 - float(loss.sum() / most.sum())
    groups = group_count(len(x), at_most=GROUPS, leaving=2) if intervals else 0
    place = stream(reference.seed, "groups of the test").permutation(len(x)) % max(groups, 1)
    left_out = [1 - float(loss[place != g].sum() / most[place != g].sum()) for g in range(groups)]
    interval = jackknife_interval(value, left_out)
    return score(value, ci95=None if interval is None else (interval[0], min(interval[1], 1.0)))


def unit_of_target(reference: Reference) -> str:
    """Give the unit of the score: R² for a target of numbers, and otherwise the share of right predictions."""
    return "fraction" if all(part.discrete for part in _parts_of_target(reference)) else "R²"


def _parts_of_target(reference: Reference) -> list[ColumnPart]:
    return [part for part in reference.parts or () if part.column == reference.target]


def _with_numbers(points: Points, numbers: list[int], reference: Reference) -> Points:
    """Give the rows (n, d) in which all of these features count, which is every row for a target without numbers."""
    if reference.unused is None or not numbers:
        return points
    return points[~reference.unused(points)[:, numbers].any(axis=1)]


def _classes(x: Points, y: Points, features: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Number the values of a target with few values, which all of its features together say, for both samples."""
    both = np.concatenate([x[:, features], y[:, features]]).round(6)
    _, number = np.unique(both, axis=0, return_inverse=True)
    number = number.reshape(-1)
    return number[: len(x)], number[len(x) :]


def _classification(x: Points, classes: NDArray[np.intp], asked: Points, *, seed: int) -> NDArray[np.intp]:
    """Learn the most frequent classes from rows and predict them for others."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # scikit-learn takes long to import

    frequent = np.argsort(-np.bincount(classes), kind="stable")[:MOST_CLASSES]
    known = np.isin(classes, frequent)
    x, classes = x[known], classes[known]
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
