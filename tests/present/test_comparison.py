"""What `compare` shows: one table with a row for each model, and sentences below it."""

from __future__ import annotations

from typing import Any

from dualdiff_cli.present.comparison import floor_of, models_table
from dualdiff_cli.present.fitting import fitted


def score(value: float | None, *notes: str) -> dict[str, Any]:
    ci95 = None if value is None else [value - 0.1, value + 0.1]
    return {"value": value, "floor": 0.05, "ci95": ci95, "notes": list(notes)}


def model(forward: float, **more: Any) -> dict[str, Any]:
    metrics = {"kl_real_generated": score(forward), "copies": score(None, "Too few rows.")}
    excess = {"value": forward - 0.05, "unit": "bits", "ci95": [forward - 0.15, forward + 0.05]}
    return {"metrics": metrics, "excess": excess, "train_seconds": 12.5, "sample_seconds": 0.25, **more}


RECORD: dict[str, Any] = {
    "dataset": "people.csv",
    "rows": 900,
    "held_out": 100,
    "n_generated": 2000,
    "models": {
        "dual-expert": model(0.4),
        "mixture": model(0.3, components=3),
        "arf": {"error": "The package arfpy is not installed. Install it."},
    },
    "best": "mixture",
    "as_good": ["dual-expert"],
    "best_by_metric": {"kl_real_generated": ["mixture", "dual-expert"]},
    "simpler": {"model": "mixture", "components": 3, "instead_of": "dual-expert"},
}


def test_every_model_has_a_row_below_the_floors_and_the_best_is_marked_in_words() -> None:
    table = models_table(RECORD)
    heads = [column.head for column in table.columns]
    assert heads == ["model", "excess", "kl_real_generated", "training, s", "sampling, s", "verdict"]
    floors, dual, mixture, arf = table.texts()
    assert floors[:3] == ["perfect samples", "–", "0.05"]
    assert dual[2:] == ["0.4 (0.3 … 0.5)", "12.5", "0.25", "as good as the best"]
    assert mixture[0] == "mixture"
    assert mixture[-1] == "best; best in kl real generated"
    assert arf == ["arf", "–", "–", "–", "–", "The package arfpy is not installed. Install it."]
    assert all(part in table.title for part in ("people.csv", "900", "100", "2,000"))


def test_the_notes_say_what_is_as_good_what_is_missing_and_that_a_simpler_model_would_do() -> None:
    notes = models_table(RECORD).notes
    assert "kl_real_generated: as good as the best within the intervals: dual-expert." in notes
    assert "copies of dual-expert, mixture: Too few rows." in notes
    assert "a mixture of 3 Gaussians is as good here: --model mixture" in notes[-1]


def test_a_mixture_of_one_is_called_a_single_gaussian() -> None:
    simpler = {**RECORD["simpler"], "components": 1}
    assert "a single Gaussian is as good here" in models_table({**RECORD, "simpler": simpler}).notes[-1]
    assert "as good here" not in models_table({**RECORD, "simpler": None}).notes[-1]


def test_a_comparison_of_failures_alone_is_still_a_table() -> None:
    failed = {"arf": RECORD["models"]["arf"]}
    nothing = {"models": failed, "best": None, "as_good": [], "best_by_metric": {}, "simpler": None}
    table = models_table({**RECORD, **nothing})
    assert [row[0] for row in table.rows] == ["perfect samples", "arf"]
    assert list(fitted(table, 80))


def test_the_floor_is_that_of_the_first_model_that_has_one() -> None:
    scored = [{}, {"copies": {"floor": None}}, {"copies": {"floor": 0.25}}]
    assert floor_of("copies", scored) == 0.25
    assert floor_of("kl_real_generated", scored) is None
