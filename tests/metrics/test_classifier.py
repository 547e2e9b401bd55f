"""The classifier two-sample test against chance, Bayes accuracy and perfect separation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from dualdiff_cli.errors import InputError
from dualdiff_cli.metrics import classifier_two_sample


def test_equal_distributions_score_chance() -> None:
    rng = np.random.default_rng(0)
    score = classifier_two_sample(rng.standard_normal((1_500, 2)), rng.standard_normal((1_500, 2)))
    assert score.value == pytest.approx(0.5, abs=0.03)
    assert score.unit == "accuracy"
    assert score.ci95 is not None
    assert score.ci95[0] < 0.5 < score.ci95[1]


def test_separated_distributions_score_one() -> None:
    rng = np.random.default_rng(1)
    score = classifier_two_sample(rng.standard_normal((500, 2)), rng.standard_normal((500, 2)) + 10)
    assert score.value == pytest.approx(1, abs=0.005)
    assert score.ci95 is not None
    assert score.ci95[1] <= 1


def test_shifted_gaussians_score_nearly_the_bayes_accuracy() -> None:
    # The best boundary halves the way between the means: Φ(δ/2).
    rng = np.random.default_rng(2)
    delta = 2.0
    score = classifier_two_sample(rng.standard_normal((2_000, 2)), rng.normal([delta, 0], 1, (2_000, 2)))
    assert norm.cdf(delta / 2) - 0.03 < score.value < norm.cdf(delta / 2) + 0.015


def test_a_difference_inside_small_clusters_is_found() -> None:
    # The marginals on a scale larger than a cluster are equal; at best (1 + TV) / 2 = 0.66.
    rng = np.random.default_rng(3)
    centres = rng.uniform(-3, 3, (8, 2))
    x, y = (centres[rng.integers(0, 8, 2_000)] + std * rng.standard_normal((2_000, 2)) for std in (0.02, 0.04))
    assert classifier_two_sample(x, y).value > 0.6


def test_larger_side_is_drawn_down_so_that_chance_stays_one_half() -> None:
    rng = np.random.default_rng(4)
    score = classifier_two_sample(rng.standard_normal((5_000, 1)), rng.standard_normal((400, 1)))
    assert (score.n_real, score.n_generated) == (400, 400)
    assert score.value == pytest.approx(0.5, abs=0.08)


def test_units_of_the_columns_do_not_matter() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((300, 2)), rng.standard_normal((300, 2)) + 0.5
    units = np.array([2.0**20, 2.0**-20])
    assert classifier_two_sample(x * units, y * units) == classifier_two_sample(x, y)


def test_few_points_are_scored_and_too_few_refused() -> None:
    rng = np.random.default_rng(6)
    assert 0 <= classifier_two_sample(rng.standard_normal((6, 1)), rng.standard_normal((6, 1))).value <= 1
    with pytest.raises(InputError, match="too few"):
        classifier_two_sample(np.zeros((4, 1)), np.zeros((40, 1)))
