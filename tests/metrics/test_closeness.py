"""Memorisation and copies on rows whose scores are known."""

from __future__ import annotations

import numpy as np
import pytest

from dualdiff_cli.errors import InputError
from dualdiff_cli.metrics import Score, closeness_scores


def rows(n: int, d: int = 3, *, seed: int) -> np.ndarray:
    return np.random.default_rng([n, d, seed]).standard_normal((n, d))


def again(training: np.ndarray, n: int, *, seed: int = 0) -> np.ndarray:
    return training[np.random.default_rng(seed).integers(len(training), size=n)]


def held(score: Score, value: float) -> bool:
    assert score.ci95 is not None
    return score.ci95[0] <= value <= score.ci95[1]


@pytest.mark.parametrize("held_out", [500, 60])
@pytest.mark.parametrize("d", [1, 3, 12])
def test_training_rows_drawn_again_are_all_memorised_and_copies(held_out: int, d: int) -> None:
    training = rows(500, d, seed=0)
    scores = closeness_scores(rows(held_out, d, seed=1), again(training, 2_000), training=training)
    assert scores["memorisation"].value == 1
    assert scores["copies"].value == 1
    assert scores["copies"].counts["equal"] == 2_000


def test_half_of_the_rows_copied_is_halfway_to_full_memorisation_whatever_the_share_held_out() -> None:
    training, fresh = rows(900, seed=2), rows(2_000, seed=3)
    mixed = np.where(np.arange(2_000)[:, None] % 2, fresh, again(training, 2_000))
    for held_out in (900, 100):
        score = closeness_scores(rows(held_out, seed=4), mixed, training=training)["memorisation"]
        assert held(score, 0.75)
        assert score.value == pytest.approx(0.75, abs=0.06)


@pytest.mark.parametrize("whole", [False, True], ids=["real numbers", "whole numbers"])
@pytest.mark.parametrize("held_out", [400, 50])
def test_fresh_rows_score_one_half_and_the_interval_says_so(held_out: int, whole: bool) -> None:
    # With three values in units of 2/3 of a standard deviation, training and held-out rows are mostly equally near.
    def drawn(n: int, seed: int) -> np.ndarray:
        return np.round(1.5 * rows(n, 2, seed=seed)) if whole else rows(n, 2, seed=seed)

    found = [
        closeness_scores(drawn(held_out, 10 + k), drawn(1_500, 50 + k), training=drawn(400, 90 + k), seed=k)
        for k in range(30)
    ]
    values = [scores["memorisation"].value for scores in found]
    assert abs(np.mean(values) - 0.5) < 4 * np.std(values) / np.sqrt(len(values))
    assert np.mean([held(scores["memorisation"], 0.5) for scores in found]) >= 0.9
    assert {scores["memorisation"].floor for scores in found} == {0.5}


def test_fresh_rows_are_copies_as_often_as_held_out_rows() -> None:
    scores = closeness_scores(rows(4_000, 2, seed=5), rows(4_000, 2, seed=6), training=rows(1_000, 2, seed=7))
    assert scores["copies"].floor == pytest.approx(0.11, abs=0.03)
    assert scores["copies"].value == pytest.approx(scores["copies"].floor, abs=0.03)


def test_equal_counts_score_the_share_of_rows_nearer_to_training_than_to_held_out_rows() -> None:
    training, real = rows(80, seed=8), rows(80, seed=9)
    generated = again(training, 200) + 0.3 * rows(200, seed=10)
    scale = training.std(axis=0)
    to_training, to_real = (
        np.linalg.norm((generated[:, None] - side) / scale, axis=2).min(axis=1) for side in (training, real)
    )
    score = closeness_scores(real, generated, training=training)["memorisation"]
    assert score.value == pytest.approx(np.mean(to_training < to_real))


def test_a_copy_is_less_than_a_third_as_far_from_the_nearest_row_as_from_the_second() -> None:
    # Two training rows at distance 4 on the first axis; 0.9 of 3.1 is below a third, 1.1 of 2.9 is not.
    training = np.array([[0.0], [4.0], [400.0]])
    for position, copies in ((0.9, 2), (1.1, 0), (0.0, 2)):
        score = closeness_scores(np.array([[2.0], [2.0]]), np.full((2, 1), position), training=training)["copies"]
        assert score.counts["copies"] == copies
        assert score.floor == 0


def test_repeated_training_rows_do_not_hide_their_copies() -> None:
    training = np.repeat(rows(50, seed=11), 2, axis=0)
    assert closeness_scores(rows(50, seed=12), training, training=training)["copies"].value == 1


def test_training_rows_that_are_all_equal_are_copied_only_by_equal_rows() -> None:
    generated = np.concatenate([np.full((30, 2), 7.0), rows(10, 2, seed=13)])
    score = closeness_scores(rows(20, 2, seed=14), generated, training=np.full((40, 2), 7.0))["copies"]
    assert score.value == 0.75


def test_few_generated_rows_widen_the_interval_although_none_is_nearest_to_a_held_out_row() -> None:
    training = rows(900, seed=15)
    score = closeness_scores(rows(100, seed=16), again(training, 8), training=training)["memorisation"]
    assert score.value == 1
    assert score.ci95 is not None
    assert score.ci95[0] < 0.6


def test_many_columns_and_many_rows_use_a_part_of_the_generated_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualdiff_cli.metrics.closeness._COORDINATES_IN_MANY_COLUMNS", 1)
    monkeypatch.setattr("dualdiff_cli.metrics.closeness._FEWEST_ROWS", 40)
    scores = closeness_scores(rows(50, 6, seed=17), rows(300, 6, seed=18), training=rows(60, 6, seed=19))
    assert {score.n_generated for score in scores.values()} == {40}


def test_different_columns_are_refused() -> None:
    with pytest.raises(InputError, match="columns"):
        closeness_scores(rows(10, 2, seed=20), rows(10, 2, seed=21), training=rows(10, 3, seed=22))
