from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import ks_2samp, norm, sem, spearmanr, t

from dualdiff_cli import seeding
from dualdiff_cli.metrics import ColumnPart, column_distances, manifold_scores, score_generated

NUMBER, OTHER = ColumnPart("x", 0, 1, False), ColumnPart("y", 1, 1, False)


def normal(n: int, d: int, role: str = "test") -> np.ndarray:
    return seeding.stream(0, role).standard_normal((n, d))


def one_hot(place: np.ndarray, width: int) -> np.ndarray:
    return np.eye(width)[place]


def test_the_distance_of_a_column_of_numbers_is_that_of_kolmogorov_and_smirnov() -> None:
    x, y = normal(300, 1, "x"), normal(200, 1, "y") + 0.4
    assert_allclose(column_distances(x, y, [NUMBER])["x"], ks_2samp(x[:, 0], y[:, 0]).statistic)


def test_the_distance_of_shifted_gaussians_is_the_known_one() -> None:
    x, y = normal(200_000, 1, "x"), normal(200_000, 1, "y") + 1
    assert_allclose(column_distances(x, y, [NUMBER])["x"], 2 * norm.cdf(0.5) - 1, atol=0.005)


def test_the_distance_of_a_category_is_the_total_variation_of_its_shares() -> None:
    x = one_hot(np.repeat([0, 1, 2], [50, 30, 20]), 3)
    y = one_hot(np.repeat([0, 1], [40, 60]), 3)
    assert_allclose(column_distances(x, y, [ColumnPart("c", 0, 3, True)])["c"], 0.3)


def test_a_column_of_several_parts_has_the_distance_of_its_worst_part() -> None:
    x = np.column_stack([normal(100, 1)[:, 0], np.repeat([0.0, 1.0], 50)])
    y = np.column_stack([x[:, 0], np.repeat([0.0, 1.0], [90, 10])])
    parts = [ColumnPart("a", 0, 1, False), ColumnPart("a", 1, 1, True)]
    assert_allclose(column_distances(x, y, parts)["a"], 0.4)


def test_the_association_is_the_difference_of_spearmans_correlations() -> None:
    x, y = normal(500, 2, "x"), normal(500, 2, "y")
    x[:, 1] += x[:, 0]
    score = score_generated(real=x, generated=y, parts=[NUMBER, OTHER], only=["association"])["association"]
    assert_allclose(score.value, abs(spearmanr(*x.T).statistic - spearmanr(*y.T).statistic))
    assert score.ci95 is not None
    assert score.ci95[0] < score.value < score.ci95[1]


def test_features_of_one_column_are_no_pair() -> None:
    x = one_hot(seeding.stream(0, "c").integers(3, size=400), 3)
    y = one_hot(seeding.stream(1, "c").integers(3, size=400), 3)
    parts = [ColumnPart("c", 0, 3, True)]
    score = score_generated(real=x, generated=y, parts=parts, only=["association"])["association"]
    assert math.isnan(score.value)
    assert score.notes


def test_scores_of_columns_do_not_depend_on_units() -> None:
    x, y = normal(400, 2, "x"), 1.3 * normal(400, 2, "y")
    names = ["column_distance", "worst_column", "association"]
    plain = score_generated(real=x, generated=y, parts=[NUMBER, OTHER], only=names)
    moved = score_generated(real=1e9 + 50 * x, generated=1e9 + 50 * y, parts=[NUMBER, OTHER], only=names)
    for name in names:
        assert_allclose(moved[name].value, plain[name].value, atol=2e-3)


def test_the_worst_column_is_named() -> None:
    x, y = normal(400, 2, "x"), normal(400, 2, "y") + np.array([0.0, 2.0])
    score = score_generated(real=x, generated=y, parts=[NUMBER, OTHER], only=["worst_column"])["worst_column"]
    assert "'y'" in " ".join(score.notes)
    assert_allclose(score.value, ks_2samp(x[:, 1], y[:, 1]).statistic)


def test_many_perfect_rows_are_at_the_floor_of_few() -> None:
    parts = [ColumnPart(f"column {k}", k, 1, False) for k in range(8)]
    names = ("column_distance", "worst_column", "association")
    above: dict[str, list[float]] = {name: [] for name in names}
    for k in range(8):
        real, perfect, generated = (
            normal(n, 8, f"{role} {k}") for n, role in ((100, "real"), (200, "perfect"), (2_000, "generated"))
        )
        scores = score_generated(real=real, generated=generated, perfect=[perfect], parts=parts, only=names)
        for name, score in scores.items():
            assert score.floor is not None
            above[name].append(score.value - score.floor)
    for name, excess in above.items():
        assert abs(np.mean(excess)) < 2.5 * sem(excess), name


def test_a_table_with_a_category_has_no_divergence_and_says_so() -> None:
    place = seeding.stream(0, "c").integers(2, size=300)
    x = np.column_stack([normal(300, 1)[:, 0], place])
    parts = [NUMBER, ColumnPart("c", 1, 1, True)]
    score = score_generated(real=x, generated=x[::-1], parts=parts, only=["kl_real_generated"])["kl_real_generated"]
    assert math.isnan(score.value)
    assert "categories" in " ".join(score.notes)


def test_perfect_samples_have_density_one_and_the_known_coverage() -> None:
    scores = manifold_scores(normal(2000, 3, "x"), normal(2000, 3, "y"))
    k, N = 5, 2000
    uncovered = math.comb(N - 1, k) / math.comb(2 * N - 1, k)
    assert_allclose(scores["coverage"].value, 1 - uncovered, atol=0.02)
    assert_allclose(scores["density"].value, 1, atol=0.1)
    assert_allclose(scores["precision"].value, scores["recall"].value, atol=0.05)


def test_few_perfect_rows_have_the_known_coverage() -> None:
    N, k, draws = 8, 5, 500
    x, y = (seeding.stream(0, role).standard_normal((draws, N, 1)) for role in ("x", "y"))
    coverage = [manifold_scores(a, b, intervals=False)["coverage"].value for a, b in zip(x, y, strict=True)]
    assert_allclose(np.mean(coverage), 1 - math.comb(N - 1, k) / math.comb(2 * N - 1, k), atol=0.005)


def test_of_six_rows_the_scores_of_manifolds_are_unknown_in_their_own_units() -> None:
    known, unknown = (manifold_scores(normal(n, 2, "x"), normal(n, 2, "y")) for n in (7, 6))
    assert all(math.isnan(score.value) and score.notes for score in unknown.values())
    assert [(name, score.unit) for name, score in unknown.items()] == [(name, known[name].unit) for name in known]


@pytest.mark.parametrize("n", [7, 9, 10])
def test_of_few_rows_the_interval_of_density_is_students_interval_of_a_mean(n: int) -> None:
    """Where each row is a group, the jackknife of a mean is the mean's standard error."""
    x, y = normal(n, 1, "x"), normal(n, 1, "y")
    radius = np.sort(np.abs(x - x.T), axis=1)[:, 5]
    balls = (np.abs(x - y.T) <= radius[:, None]).sum(axis=0) / 5
    score = manifold_scores(x, y)["density"]
    assert_allclose(score.value, balls.mean())
    assert_allclose(score.ci95, t.interval(0.95, n - 1, balls.mean(), sem(balls)))


@pytest.mark.parametrize(
    ("shift", "precision", "recall"), [(100.0, 0.0, 0.0), (0.0, 1.0, 1.0)], ids=["far away", "the same"]
)
def test_precision_and_recall_of_disjoint_and_of_equal_samples(shift: float, precision: float, recall: float) -> None:
    x = normal(500, 2)
    scores = manifold_scores(x, x + shift)
    assert scores["precision"].value == precision
    assert scores["recall"].value == recall


def test_a_missing_mode_lowers_recall_and_not_precision() -> None:
    x = normal(1000, 2, "x")
    x[::2, 0] += 10
    y = normal(1000, 2, "y")
    scores = manifold_scores(x, y)
    assert scores["recall"].value < 0.6
    assert scores["precision"].value > 0.9
