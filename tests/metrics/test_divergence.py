"""The nearest-neighbour divergence against closed forms, brute force and an independent implementation."""

from __future__ import annotations

import numpy as np
import pytest
from universal_divergence import estimate

from dualdiff_cli.errors import InputError
from dualdiff_cli.metrics import kl_divergence
from dualdiff_cli.metrics.score import jackknife_interval
from dualdiff_cli.seeding import stream


def gaussian_kl_bits(mean: np.ndarray, std: float, d: int) -> float:
    """D(N(0, I) ‖ N(mean, std²·I))."""
    return float((d / std**2 + mean @ mean / std**2 - d + 2 * d * np.log(std)) / 2 / np.log(2))


def brute_force(x: np.ndarray, y: np.ndarray, k: int = 5) -> float:
    """The estimator from all pairs, for points that are all different."""
    n, m, d = len(x), len(y), x.shape[1]
    among_x = np.abs(x[:, None] - x).max(axis=2) + np.diag(np.full(n, np.inf))
    among_y = np.abs(x[:, None] - y).max(axis=2)
    rho, nu = np.sort(among_x)[:, k - 1], np.sort(among_y)[:, k - 1]
    return float(d * np.mean(np.log2(nu / rho)) + np.log2(m / (n - 1)))


def groups_of(n: int, m: int, *, seed: int, groups: int = 10) -> tuple[np.ndarray, np.ndarray]:
    rng = stream(seed, "divergence-groups")
    return rng.permutation(np.arange(n) % groups), rng.permutation(np.arange(m) % groups)


@pytest.mark.parametrize(("d", "tolerance"), [(1, 0.08), (2, 0.08), (4, 0.15)])
def test_divergence_of_two_gaussians_is_the_known_one(d: int, tolerance: float) -> None:
    rng = np.random.default_rng(d)
    mean, std = np.full(d, 0.5), 1.3
    x, y = rng.standard_normal((20_000, d)), mean + std * rng.standard_normal((20_000, d))
    score = kl_divergence(x, y)
    assert score.value == pytest.approx(gaussian_kl_bits(mean, std, d), abs=tolerance)
    assert score.unit == "bits"
    assert (score.n_real, score.n_generated) == (20_000, 20_000)


def test_equal_distributions_score_near_zero_in_both_directions() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((20_000, 2)), rng.standard_normal((5_000, 2))
    for reverse in (False, True):
        assert abs(kl_divergence(x, y, reverse=reverse).value) < 0.05


def test_reverse_swaps_the_roles_but_not_the_sides() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((400, 2)), 2 * rng.standard_normal((300, 2))
    x[1] = x[0]
    reverse, swapped = kl_divergence(x, y, reverse=True), kl_divergence(y, x)
    assert reverse.value == swapped.value
    assert (reverse.n_real, reverse.n_generated) == (400, 300)
    assert reverse.counts["repeated_real"] == 2
    assert reverse.counts["repeated_generated"] == 0


@pytest.mark.parametrize(("d", "k"), [(1, 1), (2, 5), (3, 2)])
def test_value_equals_brute_force_over_all_pairs(d: int, k: int) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((300, d)), rng.standard_normal((170, d)) + 0.4
    assert kl_divergence(x, y, k=k).value == pytest.approx(brute_force(x, y, k), abs=1e-10)


def test_value_equals_an_independent_implementation() -> None:
    # In one dimension its Euclidean distance and our Chebyshev distance are the same; it counts in nats.
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((200, 1)), 1.5 * rng.standard_normal((150, 1)) + 0.3
    nats = float(estimate(x, y, k=5))
    assert kl_divergence(x, y, k=5).value == pytest.approx(nats / np.log(2), abs=1e-10)


def test_joint_shift_and_scale_change_nothing() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((500, 3)), rng.standard_normal((400, 3)) * 1.2
    moved = kl_divergence(1 + 4 * x, 1 + 4 * y)
    still = kl_divergence(x, y)
    assert moved.value == pytest.approx(still.value, abs=1e-9)
    assert moved.ci95 == pytest.approx(still.ci95, abs=1e-9)


def test_jackknife_equals_estimating_again_without_each_group() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((230, 2)), rng.standard_normal((125, 2)) + 0.5
    group_x, group_y = groups_of(230, 125, seed=7)
    left_out = [brute_force(x[group_x != j], y[group_y != j]) for j in range(10)]
    score = kl_divergence(x, y, seed=7)
    assert score.ci95 == pytest.approx(jackknife_interval(brute_force(x, y), left_out), abs=1e-9)


def test_jackknife_stays_exact_where_a_whole_neighbourhood_is_left_out() -> None:
    # Tight clumps, each of one group: the first query returns nothing but neighbours that are left out.
    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((400, 2)), rng.standard_normal((400, 2))
    group_x, group_y = groups_of(400, 400, seed=9)
    for j in range(10):
        x[group_x == j] = 10 * j + 1e-3 * rng.standard_normal((40, 2))
        y[group_y == j] = 10 * j + 1e-3 * rng.standard_normal((40, 2))
    left_out = [brute_force(x[group_x != j], y[group_y != j]) for j in range(10)]
    score = kl_divergence(x, y, seed=9)
    assert score.ci95 == pytest.approx(jackknife_interval(brute_force(x, y), left_out), abs=1e-9)
    # And with y's clumps where x's were left: every query then has to reach past its own clump.
    y_elsewhere = y[np.argsort(group_y, kind="stable")]
    shuffled = np.empty_like(y)
    shuffled[np.argsort((group_y + 1) % 10, kind="stable")] = y_elsewhere
    left_out = [brute_force(x[group_x != j], shuffled[group_y != j]) for j in range(10)]
    score = kl_divergence(x, shuffled, seed=9)
    assert score.ci95 == pytest.approx(jackknife_interval(brute_force(x, shuffled), left_out), abs=1e-9)


def test_interval_covers_the_scatter_of_fresh_samples() -> None:
    values, held = [], []
    intervals = []
    for seed in range(40):
        rng = np.random.default_rng([10, seed])
        score = kl_divergence(rng.standard_normal((600, 2)), rng.standard_normal((300, 2)) + 0.5, seed=seed, workers=1)
        values.append(score.value)
        intervals.append(score.ci95)
    mean = np.mean(values)
    held = [low <= mean <= high for low, high in intervals]
    half = np.mean([high - low for low, high in intervals]) / 2
    assert np.mean(held) >= 0.85
    assert half < 4.5 * np.std(values)


def test_fewer_points_than_groups_have_an_interval_from_leaving_out_one_at_a_time() -> None:
    rng = np.random.default_rng(11)
    x, y = rng.standard_normal((8, 1)), rng.standard_normal((8, 1)) + 30
    group_x, group_y = groups_of(8, 8, seed=12, groups=8)
    left_out = [brute_force(x[group_x != j], y[group_y != j]) for j in range(8)]
    score = kl_divergence(x, y, seed=12)
    assert score.value == pytest.approx(brute_force(x, y))
    assert score.ci95 == pytest.approx(jackknife_interval(score.value, left_out))


def test_points_too_few_for_a_jackknife_get_no_value() -> None:
    rng = np.random.default_rng(11)
    score = kl_divergence(rng.standard_normal((6, 1)), rng.standard_normal((600, 1)))
    assert np.isnan(score.value)
    assert "too few" in score.notes[-1]


def test_an_interval_wider_than_a_bit_that_reaches_zero_gets_no_value_but_a_clear_difference_does() -> None:
    rng = np.random.default_rng(17)
    x, y = rng.standard_normal((14, 5)), rng.standard_normal((14, 5))
    unclear, clear = kl_divergence(x, y), kl_divergence(x, y + 100)
    assert np.isnan(unclear.value)
    assert unclear.ci95 is None
    assert "uncertain by ±" in unclear.notes[-1]
    assert clear.value > 20
    assert not clear.notes


def test_an_impossible_negative_divergence_gets_no_value_with_or_without_an_interval() -> None:
    # In 80 columns the neighbours are so far away that unequal sizes alone shift the estimate by −5 bits.
    rng = np.random.default_rng(18)
    x, y = rng.standard_normal((400, 80)), rng.standard_normal((2_000, 80))
    for groups in (10, 0):
        score = kl_divergence(x, y, groups=groups)
        assert np.isnan(score.value)
        assert "no divergence is negative" in score.notes[-1]


def test_discrete_points_score_the_plug_in_divergence() -> None:
    x, y = np.repeat([[0.0], [1.0]], [600, 400], axis=0), np.repeat([[0.0], [1.0]], [150, 150], axis=0)
    score = kl_divergence(x, y)
    assert score.value == pytest.approx(0.6 * np.log2(0.6 / 0.5) + 0.4 * np.log2(0.4 / 0.5), abs=1e-12)
    assert score.counts == {"repeated_real": 1000, "repeated_generated": 300, "copied": 300, "atoms": 1000}
    assert "1000 of 1000" in score.notes[0]


def test_jackknife_of_discrete_points_leaves_out_their_shares() -> None:
    rng = np.random.default_rng(12)
    x, y = rng.integers(0, 3, (300, 1)).astype(float), rng.integers(0, 3, (200, 1)).astype(float)
    group_x, group_y = groups_of(300, 200, seed=13)

    def plug_in(a: np.ndarray, b: np.ndarray) -> float:
        p, q = (np.bincount(side[:, 0].astype(int)) / len(side) for side in (a, b))
        return float((p * np.log2(p / q)).sum())

    left_out = [plug_in(x[group_x != j], y[group_y != j]) for j in range(10)]
    assert kl_divergence(x, y, seed=13).ci95 == pytest.approx(jackknife_interval(plug_in(x, y), left_out), abs=1e-12)


def test_an_atom_in_continuous_points_adds_its_share_of_divergence() -> None:
    rng = np.random.default_rng(14)
    x, y = rng.standard_normal((4_000, 1)), rng.standard_normal((4_000, 1))
    x[:2_400], y[:1_200] = 0, -0.0
    expected = 0.6 * np.log2(0.6 / 0.3) + 0.4 * np.log2(0.4 / 0.7)
    score = kl_divergence(x, y)
    assert score.value == pytest.approx(expected, abs=0.06)
    assert score.counts["repeated_real"] == 2_400
    assert score.counts["repeated_generated"] == 1_200


@pytest.mark.parametrize("which", ["real", "generated", "both apart"])
def test_points_that_are_all_equal_score_a_finite_value(which: str) -> None:
    rng = np.random.default_rng(15)
    x, y = rng.standard_normal((200, 2)), rng.standard_normal((100, 2))
    if which != "generated":
        x[:] = 5
    if which != "real":
        y[:] = 7
    for reverse in (False, True):
        score = kl_divergence(x, y, reverse=reverse)
        assert np.isfinite(score.value)
        assert score.ci95 is not None
        assert np.isfinite(score.ci95).all()


def test_copies_of_real_points_are_counted() -> None:
    rng = np.random.default_rng(16)
    x, y = rng.standard_normal((200, 2)), rng.standard_normal((100, 2))
    y[:7] = x[:7]
    score = kl_divergence(x, y, k=1)
    assert score.counts["copied"] == 7
    assert score.counts["atoms"] == 7
    assert np.isfinite(score.value)


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (np.zeros((20, 2)), np.zeros((20, 3)), "2 columns"),
        (np.zeros((5, 2)), np.zeros((20, 2)), "5 real points"),
        (np.zeros((20, 2)), np.zeros((3, 2)), "3 generated points"),
        (np.zeros(20), np.zeros((20, 1)), "shape"),
        (np.zeros((20, 1)), np.full((20, 1), np.nan), "20 of the 20 generated"),
    ],
)
def test_unusable_points_are_named(x: np.ndarray, y: np.ndarray, says: str) -> None:
    with pytest.raises(InputError, match=says):
        kl_divergence(x, y)
