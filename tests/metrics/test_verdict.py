"""The rules by which a score is judged against its floor."""

from __future__ import annotations

from typing import Any

import pytest

from dualdiff_cli import seeding
from dualdiff_cli.metrics import METRICS, ColumnPart, overall_verdict, score_generated, verdict
from dualdiff_cli.metrics.verdict import RELATIVE, THRESHOLDS
from dualdiff_cli.present.meanings import MEANINGS, meaning_of


def score(value: float | None, ci95: Any = None, floor: float | None = 0.0, **more: Any) -> dict[str, Any]:
    return {"value": value, "ci95": ci95, "floor": floor, "floor_spread": None, "unit": "bits", **more}


@pytest.mark.parametrize(
    ("given", "level"),
    [
        (score(0.015), "good"),
        (score(-0.5), "good"),
        (score(0.1, [-0.01, 0.21]), "good"),
        (score(0.1, [0.05, 0.15]), "not yet"),
        (score(0.1, [0.05, 0.15], floor_spread=0.06), "good"),
        (score(0.1, [0.02, 0.18]), "good"),  # of a dozen scores one or the other lies beyond its interval by chance
        (score(0.4, [0.15, 0.65]), "not yet"),
        (score(0.4, [0.1, 0.7]), "unknown"),
        (score(0.4, [0.3, 0.5]), "bad"),
        (score(0.4), "bad"),
        (score(0.4, [-0.1, 0.9]), "unknown"),
        (score(0.1, [-0.4, 0.6]), "unknown"),
        (score(-0.1, [-0.6, 0.4]), "unknown"),
        (score(None), "unknown"),
        (score(0.1, floor=None), "unknown"),
        (score(0.1, unit="mean squared error of the velocity"), "unknown"),
    ],
)
def test_a_score_is_judged_by_its_excess_and_the_interval_of_the_excess(given: dict[str, Any], level: str) -> None:
    assert verdict("kl_real_generated", given).level == level


def test_more_modes_are_better_and_fewer_are_worse() -> None:
    assert verdict("mode_coverage", score(0.5, [0.5, 0.5], 1.0, unit="fraction")).level == "bad"
    assert verdict("off_mode_share", score(0.5, [0.4, 0.6], 1.0, unit="fraction")).level == "good"


def test_an_interval_that_ends_at_zero_or_one_counts_with_its_long_side() -> None:
    copies = score(0.0, [0.0, 0.161], 0.0, unit="fraction", n_real=20)  # none of 20 rows, and Wilson's interval
    precision = score(1.0, [0.839, 1.0], 1.0, unit="fraction")
    assert (verdict("copies", copies).level, verdict("precision", precision).level) == ("unknown", "unknown")
    far = score(0.12, [0.11, 0.4], 0.0, unit="fraction")
    assert (verdict("off_mode_share", far).level, verdict("precision", far).level) == ("bad", "good")


def test_the_floor_of_copies_is_itself_a_share_of_few_rows() -> None:
    few, many = (score(0.14, [0.13, 0.15], 0.11, unit="fraction", n_real=n) for n in (200, 100_000))
    assert (verdict("copies", few).level, verdict("copies", many).level) == ("good", "not yet")


@pytest.mark.parametrize("floor", [-1.0, 2.0**63, 1e308])
def test_a_floor_of_copies_that_is_no_share_is_judged_as_the_nearest_one(floor: float) -> None:
    assert verdict("copies", score(0.1, [0.05, 0.15], floor, n_real=100)).level in ("good", "bad")


def test_perfect_samples_are_hardly_ever_told_from_the_truth() -> None:
    only = ("precision", "recall", "density", "coverage", "column_distance", "association", "memorisation", "copies")
    parts = [ColumnPart(column=name, start=k, width=1, discrete=False) for k, name in enumerate("abc")]
    missed, trials = 0, 30
    for seed in range(trials):
        rng = seeding.stream(seed, "perfect samples")
        real, training, generated = (rng.normal(size=(n, 3)) for n in (100, 400, 300))
        scores = score_generated(
            real=real, generated=generated, perfect=[training[:300]], training=training, parts=parts, only=only
        )
        found = overall_verdict({name: each.to_dict() for name, each in scores.items()})
        missed += found.level in ("not yet", "bad")
    assert missed <= 0.1 * trials


def test_a_classifier_that_guesses_is_good_news_however_low_its_floor_is() -> None:
    for name, unit in (("classifier_auc", "AUC"), ("classifier_two_sample", "accuracy")):
        assert verdict(name, score(0.505, [0.495, 0.515], 0.45, unit=unit)).level == "good"
        assert verdict(name, score(0.56, [0.55, 0.57], 0.45, unit=unit)).level == "not yet"


def test_distances_in_data_units_are_judged_in_multiples_of_their_floor() -> None:
    for unit in (1.0, 1000.0):
        levels = [
            verdict("wasserstein2", score(k * unit, [k * unit] * 2, unit, unit="data units")).level for k in (1.2, 2, 4)
        ]
        assert levels == ["good", "not yet", "bad"]


def test_a_model_is_as_good_as_its_worst_score_and_the_sentence_names_it() -> None:
    good, far = score(0.0, [-0.1, 0.1]), score(1.0, [0.9, 1.1])
    assert overall_verdict({"a": good, "b": good}).level == "good"
    judged = overall_verdict({"a": good, "b": far, "c": score(0.1, [0.05, 0.15]), "d": score(None)})
    assert (judged.level, "b" in judged.sentence, "1 of 3" in judged.sentence) == ("bad", True, True)
    assert overall_verdict({"d": score(None)}).level == "unknown"


def test_a_verdict_says_how_many_scores_the_rows_are_too_few_to_judge() -> None:
    good, wide = score(0.0, [-0.1, 0.1]), score(0.0, [-0.5, 0.5])
    judged = overall_verdict({"a": good, "b": wide, "c": wide, "d": score(None)})
    assert (judged.level, "2 more" in judged.sentence, "too few" in judged.sentence) == ("good", True, True)
    only_wide = overall_verdict({"b": wide, "c": wide})
    assert (only_wide.level, "too few" in only_wide.sentence) == ("unknown", True)


def test_where_nothing_can_be_judged_the_reason_that_all_scores_share_is_the_verdict() -> None:
    few, other = (score(None, notes=notes) for notes in (["Also this.", "Too few rows."], ["Too few rows."]))
    loss = score(0.3, floor=None)
    assert overall_verdict({"a": few, "b": other, "loss": loss}).sentence == "Too few rows."
    assert "no score" in overall_verdict({"a": few, "b": score(None)}).sentence.lower()
    assert overall_verdict({"a": few, "b": score(0.0)}).level == "good"


def test_every_metric_has_words_and_every_unit_of_a_metric_has_thresholds() -> None:
    assert set(METRICS) <= set(MEANINGS)
    assert {"bits", "standard deviations", "accuracy", "AUC", "fraction"} <= set(THRESHOLDS)
    assert set(RELATIVE) == {"data units"}
    assert meaning_of("some_new_score").title == "some new score"
