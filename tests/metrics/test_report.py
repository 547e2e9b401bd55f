"""All scores together: names, floors, sizes, and the record that scripts read."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dualdiff_cli import seeding
from dualdiff_cli.errors import InputError
from dualdiff_cli.metrics import Score, classifier_scores, kl_divergence, score_generated, sliced_wasserstein
from dualdiff_cli.metrics.score import jackknife_interval, mean_interval

ALWAYS = [
    "kl_real_generated",
    "kl_generated_real",
    "sliced_wasserstein",
    "wasserstein2",
    "classifier_two_sample",
    "classifier_auc",
]
MODES = (np.zeros((1, 2)), np.full((1, 2), 2.0), np.ones(1))


def normal(n: int, d: int = 2, *, seed: int) -> np.ndarray:
    return np.random.default_rng([n, d, seed]).standard_normal((n, d))


@pytest.fixture(scope="module")
def announced() -> list[str]:
    return []


@pytest.fixture(scope="module")
def scores(announced: list[str]) -> dict[str, Score]:
    return score_generated(
        real=normal(600, seed=0),
        generated=normal(300, seed=1) + 1,
        perfect=np.stack([normal(300, seed=2), normal(300, seed=3)]),
        published_real=normal(700, seed=4),
        training=normal(700, seed=4),
        modes=MODES,
        unit="cm",
        progress=announced.append,
    )


def test_every_metric_is_there_and_was_announced(scores: dict[str, Score], announced: list[str]) -> None:
    modes = ["mode_coverage", "off_mode_share", "mode_share_tv"]
    assert set(scores) == {*ALWAYS, "kl_published", "memorisation", "copies", *modes}
    assert ", ".join(announced) == ", ".join(scores)


def test_divergences_use_all_points_and_their_own_definition(scores: dict[str, Score]) -> None:
    real, generated, training = normal(600, seed=0), normal(300, seed=1) + 1, normal(700, seed=4)
    for name, (p, q) in {
        "kl_real_generated": (real, generated),
        "kl_generated_real": (generated, real),
        "kl_published": (training, generated),
    }.items():
        assert scores[name].value == pytest.approx(kl_divergence(p, q).value, rel=1e-12)
    sizes = {name: (scores[name].n_real, scores[name].n_generated) for name in scores if name.startswith("kl")}
    assert sizes == {
        "kl_real_generated": (600, 300),
        "kl_generated_real": (600, 300),
        "kl_published": (700, 300),
    }


def test_floor_is_the_mean_of_the_metric_over_the_perfect_draws(scores: dict[str, Score]) -> None:
    real, draws = normal(600, seed=0), [normal(300, seed=2), normal(300, seed=3)]
    for name, metric in (
        ("kl_real_generated", kl_divergence),
        ("sliced_wasserstein", sliced_wasserstein),
        ("classifier_two_sample", lambda x, y: classifier_scores(x, y)["classifier_two_sample"]),
    ):
        values = [metric(real, draw).value for draw in draws]
        assert scores[name].floor == pytest.approx(np.mean(values))
        assert scores[name].floor_spread == pytest.approx(np.std(values, ddof=1))


def test_shifted_points_score_worse_than_their_floor(scores: dict[str, Score]) -> None:
    for name in [*ALWAYS, "kl_published", "off_mode_share"]:
        floor = scores[name].floor
        assert floor is not None
        assert scores[name].value > floor


def test_transport_is_in_the_unit_of_the_columns(scores: dict[str, Score]) -> None:
    units = {name: score.unit for name, score in scores.items()}
    assert units["sliced_wasserstein"] == units["wasserstein2"] == "cm"
    assert units["kl_real_generated"] == units["kl_published"] == "bits"


def test_record_is_plain_json_with_the_promised_keys(scores: dict[str, Score]) -> None:
    record = {name: score.to_dict() for name, score in scores.items()}
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    for score in record.values():
        assert {"value", "unit", "ci95", "floor", "floor_spread", "n_real", "n_generated", "counts"} <= set(score)


def test_what_is_not_finite_becomes_null_in_the_record() -> None:
    score = Score(value=float("nan"), unit="bits", ci95=(float("-inf"), 1.0), n_real=1, n_generated=1)
    assert score.to_dict()["value"] is None
    assert score.to_dict()["ci95"] == [None, 1.0]
    assert score.to_dict()["floor"] is None


def test_without_perfect_samples_there_is_no_floor_and_one_of_them_scatters_as_the_value_does() -> None:
    real, generated = normal(60, seed=5), normal(50, seed=6)
    bare = score_generated(real=real, generated=generated)
    assert set(bare) == set(ALWAYS)
    assert all(score.floor is None and score.floor_spread is None for score in bare.values())
    once = score_generated(real=real, generated=generated, perfect=[normal(50, seed=7)])
    assert all(score.floor is not None for score in once.values())
    known = [score for score in once.values() if score.ci95 is not None]
    assert known
    assert all(score.floor_spread == pytest.approx((score.ci95[1] - score.ci95[0]) / 3.92, rel=1e-3) for score in known)
    assert not any(score.notes for score in once.values())


def test_a_score_and_its_floor_are_of_equally_many_points() -> None:
    real, generated, perfect = normal(60, seed=5), normal(400, seed=6), normal(200, seed=7)
    scores = score_generated(real=real, generated=generated, perfect=[perfect], training=normal(200, seed=8))
    drawn = seeding.subsample(generated, 200, seed=0, role="generated points")
    score = scores["kl_real_generated"]
    assert (score.n_generated, score.notes) == (200, ())
    assert score.value == pytest.approx(kl_divergence(real, drawn).value, rel=1e-12)
    assert score.floor == pytest.approx(kl_divergence(real, perfect).value, rel=1e-12)
    assert scores["memorisation"].n_generated == scores["copies"].n_generated == 400


def test_perfect_samples_too_few_for_a_floor_leave_none() -> None:
    scores = score_generated(real=normal(60, seed=5), generated=normal(60, seed=6), perfect=[normal(6, seed=7)])
    assert scores["kl_real_generated"].floor is None
    assert "too few for a floor" in scores["kl_real_generated"].notes[0]
    assert scores["kl_real_generated"].n_generated == 60


def test_closeness_has_its_own_floor_even_where_the_perfect_samples_are_training_rows() -> None:
    training = normal(200, seed=15)
    scores = score_generated(
        real=normal(60, seed=5), generated=normal(60, seed=6), perfect=[training[:60]], training=training
    )
    assert scores["memorisation"].floor == 0.5
    assert scores["copies"].floor is not None
    assert scores["copies"].floor < 0.5


def test_only_the_scores_that_are_asked_for_are_computed() -> None:
    scores = score_generated(real=normal(60, seed=5), generated=normal(60, seed=6), only=["wasserstein2", "copies"])
    assert list(scores) == ["wasserstein2"]
    with pytest.raises(InputError, match="wasserstein2"):
        score_generated(real=normal(60, seed=5), generated=normal(60, seed=6), only=["waserstein2"])


def test_fewer_points_than_any_metric_takes_are_refused() -> None:
    with pytest.raises(InputError, match="5 generated points"):
        score_generated(real=normal(6, 1, seed=8), generated=normal(5, 1, seed=9))
    with pytest.raises(InputError, match="5 perfect points"):
        score_generated(real=normal(6, 1, seed=8), generated=normal(6, 1, seed=9), perfect=[normal(5, 1, seed=9)])
    with pytest.raises(InputError, match=r"training points 3"):
        score_generated(real=normal(6, 1, seed=8), generated=normal(6, 1, seed=9), training=normal(6, 3, seed=9))


@pytest.mark.parametrize(("held_out", "learnt", "few"), [(5, 60, "5 held-out rows"), (60, 1, "1 training row is")])
def test_of_too_few_true_rows_every_score_is_unknown_and_says_so(held_out: int, learnt: int, few: str) -> None:
    training = normal(learnt, seed=16)
    scores = score_generated(
        real=normal(held_out, seed=5), generated=normal(60, seed=6), perfect=[training], training=training, unit="cm"
    )
    assert list(scores) == [*ALWAYS, "memorisation", "copies"]
    assert scores["wasserstein2"].unit == "cm"
    for score in scores.values():
        assert (score.to_dict()["value"], score.ci95, score.floor) == (None, None, None)
        assert score.notes[0].startswith(few)
        assert score.notes[0].endswith("too few for any score: at least 6 are needed.")


def test_many_columns_draw_the_divergences_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualdiff_cli.metrics.neighbours._COMPARED_IN_MANY_COLUMNS", 50 * 50 * 6)
    scores = score_generated(real=normal(90, 6, seed=11), generated=normal(70, 6, seed=12))
    assert (scores["kl_real_generated"].n_real, scores["kl_generated_real"].n_generated) == (50, 50)


def test_in_many_columns_both_sides_of_a_divergence_are_equally_many_so_that_perfect_samples_score_zero() -> None:
    scores = score_generated(real=normal(400, 40, seed=11), generated=normal(2_000, 40, seed=12))
    for name in ("kl_real_generated", "kl_generated_real"):
        assert (scores[name].n_real, scores[name].n_generated) == (400, 400)
        assert scores[name].ci95 is not None
        assert scores[name].ci95[0] < 0 < scores[name].ci95[1]


def test_a_resolution_spreads_whole_numbers_for_the_divergences_alone() -> None:
    real, generated, training = (np.round(3 * normal(300, seed=seed)) for seed in (16, 17, 18))
    spread = score_generated(real=real, generated=generated, training=training, resolution=[1, 1])
    plain = score_generated(real=real, generated=generated, training=training)
    assert plain["kl_real_generated"].counts["atoms"] > 0
    assert spread["kl_real_generated"].counts["atoms"] == 0
    assert {name for name in plain if plain[name] != spread[name]} == {"kl_real_generated", "kl_generated_real"}


def test_seed_fixes_every_score() -> None:
    first, second = (score_generated(real=normal(60, seed=13), generated=normal(50, seed=14), seed=3) for _ in range(2))
    assert first == second


def test_mean_interval_is_students() -> None:
    # mean 2, s = 1, t_{0.975, 2} = 4.302653
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-5)
    assert mean_interval([1.0]) is None


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    # For the mean of g groups, deleting groups gives back s²/g exactly.
    groups = np.array([1.0, 4.0, 2.0, 7.0, 3.0])
    left_out = [float(np.delete(groups, j).mean()) for j in range(5)]
    assert jackknife_interval(float(groups.mean()), left_out) == pytest.approx(mean_interval(list(groups)))
    assert jackknife_interval(1.0, [1.0]) is None
