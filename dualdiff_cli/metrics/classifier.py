"""Classifier two-sample test: can a classifier tell generated points from real ones?

A classifier learns from some points of either side and is asked about the others. Two numbers say how well it does:

* The *accuracy* is the share of right answers. Its expectation is 1/2 where the two distributions are equal and at most
  (1 + TV(P, Q)) / 2 otherwise, with TV the total variation distance (Lopez-Paz and Oquab 2017, "Revisiting classifier
  two-sample tests", ICLR, section 3).
* The *AUC*, the area under the ROC curve, is the probability that the classifier ranks a random real point above a
  random generated one (Hanley and McNeil 1982, Radiology 143, 29). It is 1/2 where the two distributions are equal. No
  classifier gets more than the likelihood ratio (Neyman-Pearson), which for N(0, 1) against N(δ, 1) gets Φ(δ/√2).

Both are cross-validated instead of measured on one split, on equally many points of either side, and both come from the
same fits.

The classifier is gradient boosting on histograms. It is indifferent to the scales of the columns, works from one column
to hundreds, and finds both a slight shift of everything and a change inside many small clusters. It is not stopped
early, because a change inside clusters only shows after many trees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ..seeding import integer, shuffled, stream
from .score import Points, Reference, Score, check_pair, mean_interval

__all__ = ["classifier_scores", "classifier_tests"]

_SMALLEST_SIDE = 50
"""Rows a side below which the trees hardly split at all: each leaf has to hold 20 rows of the training folds."""


def classifier_scores(
    real: NDArray[Any], generated: NDArray[Any], *, folds: int = 5, max_points: int = 10_000, seed: int = 0
) -> dict[str, Score]:
    """Give the cross-validated accuracy and AUC of telling real from generated points; 0.5 is chance for both.

    The results of the J folds share training points, which their scatter does not show. The interval therefore is
    Student's with the variance (1/J + 1/(J − 1))·s² instead of s²/J (Nadeau and Bengio 2003, "Inference for the
    generalization error", Machine Learning 52; 1/(J − 1) is the ratio of test to training points). A binomial interval
    of the accuracy would be too narrow by more than a fifth (70 fresh pairs of 1,000 points a side).

    Args:
        real: shape (n, d); the larger side is drawn down to the size of the smaller.
        generated: shape (m, d).
        folds: J, at least 2.
        max_points: largest number of points a side.
        seed: seed of the draw, the folds and the classifier.

    Returns:
        The scores "classifier_two_sample" (unit "accuracy") and "classifier_auc" (unit "AUC"). Both are nan for fewer
        than 50 points a side: with so few points the trees do not split, and the answer would be 0.5 whatever the
        points are.

    Raises:
        InputError: fewer points than folds, NaN or infinity, or different numbers of columns.

    """
    x, y = check_pair(real, generated, at_least=folds)
    N = min(len(x), len(y), max_points)
    if N < _SMALLEST_SIDE:
        notes = (f"{N} rows a side are too few for this score: give at least {_SMALLEST_SIDE}.",)
        return {
            name: Score(value=math.nan, unit=unit, ci95=None, n_real=N, n_generated=N, notes=notes)
            for name, unit in (("classifier_two_sample", "accuracy"), ("classifier_auc", "AUC"))
        }
    drawn = stream(seed, "classifier-draw")
    points = np.concatenate([shuffled(side, N, drawn) for side in (x, y)])
    accuracies, areas = _cross_validated(points, np.arange(2 * N) < N, folds=folds, seed=seed)

    def score(values: list[float], unit: str) -> Score:
        interval = mean_interval(values, inflation=1 + folds / (folds - 1))
        return Score(
            value=float(np.mean(values)),
            unit=unit,
            ci95=None if interval is None else (max(interval[0], 0.0), min(interval[1], 1.0)),
            n_real=N,
            n_generated=N,
            counts={"folds": folds},
        )

    return {"classifier_two_sample": score(accuracies, "accuracy"), "classifier_auc": score(areas, "AUC")}


def _cross_validated(
    points: Points, is_real: NDArray[np.bool_], *, folds: int, seed: int
) -> tuple[list[float], list[float]]:
    """Fit a classifier for each fold and give the accuracies and the AUCs on the points that it has not seen."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # scikit-learn takes long to import
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    accuracies, areas = [], []
    splits = StratifiedKFold(folds, shuffle=True, random_state=integer(seed, "classifier-folds"))
    # One thread: the trees are too small to gain from more, and lose badly where other programs use the cores.
    with threadpool_limits(limits=1, user_api="openmp"):
        for train, test in splits.split(points, is_real):
            classifier = HistGradientBoostingClassifier(
                early_stopping=False, random_state=integer(seed, "classifier-trees")
            )
            classifier.fit(points[train], is_real[train])
            log_odds = classifier.decision_function(points[test])
            accuracies.append(float(np.mean((log_odds > 0) == is_real[test])))
            areas.append(float(roc_auc_score(is_real[test], log_odds)))
    return accuracies, areas


def classifier_tests(reference: Reference, generated: Points, *, intervals: bool) -> Mapping[str, Score]:
    """Score how well a classifier tells generated from held-out points; the intervals cost nothing."""
    del intervals
    return classifier_scores(reference.real, generated, seed=reference.seed)
