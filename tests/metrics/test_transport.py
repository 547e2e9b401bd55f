"""Wasserstein distances against closed forms and against an independent implementation."""

from __future__ import annotations

import numpy as np
import ot
import pytest

from dualdiff_cli.errors import InputError
from dualdiff_cli.metrics import sliced_wasserstein, wasserstein2
from dualdiff_cli.metrics.score import jackknife_interval
from dualdiff_cli.seeding import stream


@pytest.mark.parametrize("d", [1, 2, 3, 7])
def test_sliced_distance_of_a_translation_is_its_length_over_root_d(d: int) -> None:
    rng = np.random.default_rng(d)
    x, v = rng.standard_normal((500, d)), rng.standard_normal(d)
    # As sets: the draw permutes the two sides differently, which must not matter.
    score = sliced_wasserstein(x, x + v, projections=20)
    assert score.value == pytest.approx(np.linalg.norm(v) / np.sqrt(d), rel=1e-9)
    assert score.unit == "data units"


def test_sliced_distance_of_two_gaussians_is_the_closed_form() -> None:
    # Projections are N(0, θᵀΣθ); for Σ = s²·I each has W₂ = |s − 1|.
    rng = np.random.default_rng(1)
    score = sliced_wasserstein(rng.standard_normal((10_000, 3)), 1.5 * rng.standard_normal((10_000, 3)))
    assert score.value == pytest.approx(0.5, abs=0.02)


def test_sliced_distance_equals_an_independent_implementation_on_average_directions() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((300, 2)), rng.standard_normal((300, 2)) * [1.5, 0.7] + 0.3
    theirs = ot.sliced_wasserstein_distance(x, y, n_projections=4_000, seed=0)
    assert sliced_wasserstein(x, y, projections=1_000).value == pytest.approx(theirs, rel=0.02)


def test_sliced_jackknife_equals_estimating_again_without_each_group() -> None:
    # In one dimension there is one direction, and the distance is that of the sorted values.
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((103, 1)), rng.standard_normal((103, 1)) + 1
    score = sliced_wasserstein(x, y, seed=4)
    replay = stream(4, "sliced-wasserstein")
    replay.standard_normal((1, 1, 1))
    shuffled = [side[replay.permutation(103)][:, 0] for side in (x, y)]

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sqrt(np.mean((np.sort(a) - np.sort(b)) ** 2)))

    left_out = [distance(*(np.delete(side, np.s_[10 * j : 10 * j + 10]) for side in shuffled)) for j in range(10)]
    assert score.ci95 == pytest.approx(jackknife_interval(distance(*shuffled), left_out), abs=1e-12)


def test_sliced_interval_covers_the_scatter_of_fresh_samples() -> None:
    scores = []
    for seed in range(60):
        rng = np.random.default_rng([5, seed])
        scores.append(sliced_wasserstein(rng.standard_normal((400, 2)), rng.standard_normal((400, 2)) + 1, seed=seed))
    mean = np.mean([score.value for score in scores])
    assert np.mean([score.ci95[0] <= mean <= score.ci95[1] for score in scores if score.ci95]) >= 0.85


def test_sliced_uses_as_many_points_of_the_larger_side_as_the_smaller_has() -> None:
    rng = np.random.default_rng(6)
    score = sliced_wasserstein(rng.standard_normal((900, 2)), rng.standard_normal((50, 2)))
    assert (score.n_real, score.n_generated) == (50, 50)


def test_sliced_of_very_few_points_has_an_interval_that_never_ends_below_zero() -> None:
    rng = np.random.default_rng(7)
    for n in (4, 25):
        interval = sliced_wasserstein(rng.standard_normal((n, 2)), rng.standard_normal((n, 2))).ci95
        assert interval is not None
        assert 0 <= interval[0] < interval[1]


def test_exact_distance_of_too_few_points_has_no_value_and_says_how_many_it_needs() -> None:
    rng = np.random.default_rng(7)
    score = wasserstein2(rng.standard_normal((49, 2)), rng.standard_normal((900, 2)))
    assert np.isnan(score.value)
    assert "at least 50 rows" in score.notes[0]


@pytest.mark.parametrize("offset", [1e8, 1e9])
def test_exact_distance_far_from_zero_is_the_distance_near_zero(offset: float) -> None:
    # Two columns that differ by a standard deviation scored 0 at 1e9 when squares were taken before the difference.
    rng = np.random.default_rng(12)
    x, y = (np.round(1024 * rng.standard_normal((500, 2))) / 1024 for _ in range(2))
    y = y + 1
    assert wasserstein2(x + offset, y + offset).value == wasserstein2(x, y).value > 1.3


def test_exact_distance_of_a_far_translation_is_its_length() -> None:
    rng = np.random.default_rng(8)
    x = rng.standard_normal((1_000, 2))
    score = wasserstein2(x, rng.permutation(x) + np.array([300.0, 400.0]), size=100)
    assert score.value == pytest.approx(500, rel=1e-3)
    assert score.counts == {"subsamples": 5, "subsample_size": 100}


def test_exact_distance_of_one_subsample_of_everything_is_exactly_the_translation() -> None:
    rng = np.random.default_rng(9)
    x = rng.standard_normal((200, 3))
    score = wasserstein2(x, x + np.array([0.3, -0.4, 1.2]), size=200, subsamples=1)
    assert score.value == pytest.approx(1.3, rel=1e-9)
    assert score.ci95 is None


def test_exact_distance_of_two_gaussians_is_the_closed_form() -> None:
    # W₂² = |μ|² + Σ_a (s_a − t_a)² for Gaussians with diagonal covariances.
    rng = np.random.default_rng(10)
    x, y = rng.standard_normal((2_000, 2)), rng.normal([0, 4], [3, 1], (2_000, 2))
    score = wasserstein2(x, y, size=400)
    assert score.value == pytest.approx(np.sqrt(20), rel=0.04)
    assert score.ci95 is not None
    assert score.ci95[0] < score.value < score.ci95[1]


def test_exact_distance_is_the_mean_of_the_best_matchings() -> None:
    # Ten points a side in one dimension: the best matching pairs equal ranks.
    x = np.arange(10.0)[:, None]
    y = np.random.default_rng(0).permutation(x) + 0.5
    assert wasserstein2(x, y, subsamples=1).value == pytest.approx(0.5)


def test_seed_fixes_both_distances() -> None:
    rng = np.random.default_rng(11)
    x, y = rng.standard_normal((300, 2)), rng.standard_normal((200, 2))
    for metric in (sliced_wasserstein, wasserstein2):
        assert metric(x, y, seed=1) == metric(x, y, seed=1)
        assert metric(x, y, seed=1).value != metric(x, y, seed=2).value


@pytest.mark.parametrize("metric", [sliced_wasserstein, wasserstein2])
def test_different_columns_are_refused(metric: type) -> None:
    with pytest.raises(InputError, match="columns"):
        metric(np.zeros((20, 2)), np.zeros((20, 3)))
