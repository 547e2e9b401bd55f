"""Which model is the best, read off scores that are written down here."""

from __future__ import annotations

from typing import Any

import pytest

from dualdiff_cli.jobs.ranking import as_good, best_by_metric, best_overall, excess, in_one_unit


def score(value: float | None, *, half: float | None = 0.1, floor: float | None = 0.0) -> dict[str, Any]:
    ci95 = None if half is None or value is None else [value - half, value + half]
    return {"value": value, "floor": floor, "ci95": ci95}


def model(forward: float | None, backward: float = 0.0, **metrics: Any) -> dict[str, Any]:
    """The record of a model with these two divergences."""
    scores = {"kl_real_generated": score(forward), "kl_generated_real": score(backward), **metrics}
    return {"metrics": scores, "excess": excess(scores)}


def test_the_excess_is_the_sum_of_both_divergences_above_their_floors() -> None:
    found = excess(
        {"kl_real_generated": score(0.5, half=0.3, floor=0.1), "kl_generated_real": score(0.2, half=0.4, floor=-0.1)}
    )
    assert found is not None
    assert found["value"] == pytest.approx(0.7)
    assert found["ci95"] == pytest.approx([0.2, 1.2])  # √(0.3² + 0.4²) to either side


@pytest.mark.parametrize("lacking", [score(None), score(0.1, floor=None)])
def test_without_a_value_or_a_floor_there_is_no_excess(lacking: dict[str, Any]) -> None:
    assert excess({"kl_real_generated": score(0.1), "kl_generated_real": lacking}) is None
    assert excess({"kl_real_generated": score(0.1)}) is None


def test_an_excess_without_an_interval_is_still_an_excess() -> None:
    found = excess({"kl_real_generated": score(0.1, half=None), "kl_generated_real": score(0.2)})
    assert found is not None
    assert found["ci95"] is None


def test_the_best_model_has_the_least_excess() -> None:
    models = {"far": model(1.0), "near": model(0.1), "unknown": model(None), "failed": {"error": "No."}}
    assert best_overall(models) == "near"
    assert best_overall({"unknown": model(None), "failed": {"error": "No."}}) is None


def test_the_classifier_decides_where_one_model_has_no_divergences() -> None:
    far, near = (model(None, classifier_auc=score(auc, floor=0.5, half=0.02)) for auc in (0.7, 0.55))
    assert far["excess"] == {"value": pytest.approx(0.2), "unit": "AUC", "ci95": pytest.approx([0.18, 0.22])}
    assert best_overall({"far": far, "near": near, "failed": {"error": "No."}}) == "near"
    assert as_good(near, far)
    assert not as_good(far, near)
    in_bits = model(5.0, classifier_auc=score(0.9, floor=0.5))
    alike = in_one_unit({"near": near, "in bits": in_bits, "failed": {"error": "No."}})
    assert alike["in bits"]["excess"]["value"] == pytest.approx(0.4)
    assert best_overall(alike) == "near"
    assert in_one_unit({"alone": in_bits}) == {"alone": in_bits}
    assert "kl_generated_real" in best_by_metric(alike)
    assert "kl_real_generated" not in best_by_metric(alike)


def test_a_metric_names_the_least_worse_than_its_floor_first_and_then_those_within_the_intervals() -> None:
    near, far = (model(0.0, memorisation=score(value, floor=0.5, half=0.02)) for value in (0.51, 0.6))
    close = model(0.0, memorisation=score(0.53, floor=0.5, half=0.02))
    found = best_by_metric({"far": far, "close": close, "near": near, "failed": {"error": "No."}})
    assert found["memorisation"] == ["near", "close"]
    assert set(found) == {"kl_real_generated", "kl_generated_real", "memorisation"}


def test_a_score_beyond_its_floor_is_as_good_as_one_at_its_floor_and_no_better() -> None:
    below, less, at = (model(0.0, association=score(value, floor=0.1, half=0.0)) for value in (0.06, 0.09, 0.11))
    found = best_by_metric({"below": below, "at": at, "less": less})
    assert found["association"] == ["less", "below"]


def test_where_more_is_better_less_is_worse() -> None:
    models = {
        name: model(0.0, tstr=score(value, floor=0.8, half=0.01)) for name, value in (("low", 0.7), ("high", 0.9))
    }
    assert best_by_metric(models)["tstr"] == ["high"]


def test_a_model_is_as_good_where_it_is_better_or_the_intervals_overlap() -> None:
    assert as_good(model(0.1), model(0.9))
    assert as_good(model(0.3), model(0.1))
    assert not as_good(model(0.9), model(0.1))
    assert not as_good({"error": "No."}, model(0.1))
    assert not as_good(model(None), model(0.1))
