"""Classifier two-sample test: can a classifier tell generated points from real ones?

A classifier learns from some points of either side and is asked about others; its expected accuracy is 1/2 where the
two distributions are equal and at most (1 + TV(P, Q)) / 2 otherwise, with TV the total variation distance (Lopez-Paz
and Oquab 2017, "Revisiting classifier two-sample tests", ICLR, section 3). Here the accuracy is cross-validated instead
of measured on one split, on equally many points of either side.

The classifier is gradient boosting on histograms. It doesn't mind the columns' scales, works from one column to
hundreds, and finds both a slight shift of everything and a change inside many small clusters. It is not stopped early,
for a change inside clusters only shows after many trees.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from .score import Score, check_pair, mean_interval

__all__ = ["classifier_two_sample"]


def classifier_two_sample(
    real: NDArray[Any], generated: NDArray[Any], *, folds: int = 5, max_points: int = 10_000, seed: int = 0
) -> Score:
    """Cross-validated accuracy of telling real from generated points; 0.5 is chance.

    The accuracies of the J folds share training points, which their scatter doesn't show. The interval therefore is
    Student's with the variance (1/J + 1/(J − 1))·s² instead of s²/J (Nadeau and Bengio 2003, "Inference for the
    generalization error", Machine Learning 52; 1/(J − 1) is the ratio of test to training points). A binomial interval
    would be too narrow by more than a fifth (70 fresh pairs of 1,000 points a side).

    Args:
        real: shape (n, d); the larger side is drawn down to the smaller.
        generated: shape (m, d).
        folds: J, at least 2.
        max_points: points a side, at most.
        seed: of the draw, the folds and the classifier.

    Raises:
        InputError: fewer points than folds, NaN or infinity, or different numbers of columns.

    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # slow to import, and only this needs it
    from sklearn.model_selection import StratifiedKFold

    x, y = check_pair(real, generated, at_least=folds)
    N = min(len(x), len(y), max_points)
    rng = np.random.default_rng(seed)
    random_state = seed % 2**32  # scikit-learn takes no larger ones
    points = np.concatenate([side[rng.permutation(len(side))[:N]] for side in (x, y)])
    is_real = np.arange(2 * N) < N
    accuracies = []
    # One thread: the trees are too small to gain from more, and lose badly where the cores are shared.
    with threadpool_limits(limits=1, user_api="openmp"):
        for train, test in StratifiedKFold(folds, shuffle=True, random_state=random_state).split(points, is_real):
            classifier = HistGradientBoostingClassifier(early_stopping=False, random_state=random_state)
            classifier.fit(points[train], is_real[train])
            accuracies.append(float(classifier.score(points[test], is_real[test])))
    interval = mean_interval(accuracies, inflation=1 + folds / (folds - 1))
    return Score(
        value=float(np.mean(accuracies)),
        unit="accuracy",
        ci95=None if interval is None else (max(interval[0], 0.0), min(interval[1], 1.0)),
        n_real=N,
        n_generated=N,
        counts={"folds": folds},
    )
