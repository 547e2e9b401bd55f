"""The classifier two-sample test against chance, Bayes accuracy and perfect separation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from dualdiff_cli.errors import InputError
from dualdiff_cli.metrics import Score, classifier_scores


def classifier_two_sample(real: np.ndarray, generated: np.ndarray) -> Score:
    return classifier_scores(real, generated)["classifier_two_sample"]


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


def test_auc_of_equal_distributions_is_one_half() -> None:
    rng = np.random.default_rng(7)
    score = classifier_scores(rng.standard_normal((1_500, 2)), rng.standard_normal((1_500, 2)))["classifier_auc"]
    assert score.value == pytest.approx(0.5, abs=0.04)
    assert score.unit == "AUC"
    assert score.ci95 is not None
    assert score.ci95[0] < 0.5 < score.ci95[1]


@pytest.mark.parametrize(("delta", "lost"), [(0.5, 0.08), (2.0, 0.03)])
def test_auc_of_shifted_gaussians_stays_a_little_below_that_of_the_likelihood_ratio(delta: float, lost: float) -> None:
    # The likelihood ratio ranks by x₁, and P(x₁ of one side > x₁ of the other) = Φ(δ/√2), which no classifier exceeds.
    # Trees learn a part of the noise too, which costs more where the difference is slight.
    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((2_000, 2)), rng.normal([delta, 0], 1, (2_000, 2))
    best = norm.cdf(delta / np.sqrt(2))
    assert best - lost < classifier_scores(x, y)["classifier_auc"].value < best + 0.015


def test_separated_distributions_have_auc_one() -> None:
    rng = np.random.default_rng(9)
    score = classifier_scores(rng.standard_normal((500, 1)), rng.standard_normal((500, 1)) + 10)["classifier_auc"]
    assert score.value == pytest.approx(1, abs=1e-3)


def test_so_few_points_that_no_tree_splits_get_no_value_and_say_so() -> None:
    rng = np.random.default_rng(6)
    for score in classifier_scores(rng.standard_normal((49, 1)), rng.standard_normal((900, 1)) + 10).values():
        assert np.isnan(score.value)
        assert score.ci95 is None
        assert "49 rows a side are too few" in score.notes[0]
    enough = classifier_scores(rng.standard_normal((50, 1)), rng.standard_normal((50, 1)) + 10)
    assert enough["classifier_two_sample"].value > 0.9
    with pytest.raises(InputError, match="too few"):
        classifier_scores(np.zeros((4, 1)), np.zeros((40, 1)))
