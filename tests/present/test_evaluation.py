"""What `evaluate` shows: the scores and the diagnosis of a record."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from dualdiff_cli.present.evaluation import evaluation_tables
from dualdiff_cli.present.fitting import fitted

SCORE: dict[str, Any] = {
    "value": 0.123456,
    "unit": "bits",
    "ci95": [0.1, 0.2],
    "floor": 0.01,
    "floor_spread": 0.002,
    "n_real": 1000,
    "n_generated": 0,
    "notes": ["Some coincide."],
}


def test_a_score_has_value_interval_floor_unit_sizes_and_notes() -> None:
    (scores,) = evaluation_tables({"metrics": {"kl": SCORE}}, title="dino")
    assert scores.title == "dino"
    assert scores.texts() == [["kl", "0.1235", "0.1 … 0.2", "0.01 ± 0.002", "◐ not yet", "bits", "1,000", "–"]]
    assert scores.notes[0] == "kl: Some coincide."
    assert "not yet" in scores.notes[1]
    assert "0 of 1" in scores.notes[1]


def test_a_note_of_several_scores_is_shown_once_with_their_names() -> None:
    (scores,) = evaluation_tables({"metrics": {"kl": SCORE, "other": SCORE}}, title="")
    assert [note for note in scores.notes if "coincide" in note] == ["kl, other: Some coincide."]


def test_a_score_without_interval_or_floor_has_dashes_there() -> None:
    bare = {**SCORE, "ci95": None, "floor": None, "floor_spread": None, "notes": []}
    (scores,) = evaluation_tables({"metrics": {"kl": bare}}, title="")
    assert scores.texts() == [["kl", "0.1235", "–", "–", "? unknown", "bits", "1,000", "–"]]


def test_an_interval_without_finite_ends_is_a_dash_in_scores_and_in_a_diagnosis() -> None:
    infinite = {**SCORE, "value": None, "ci95": [None, None], "notes": []}
    scores, diagnosis = evaluation_tables(
        {"metrics": {"nll": infinite}, "diagnosis": {"kl": {"floor": infinite}}}, title=""
    )
    assert scores.texts()[0][1:3] == ["–", "–"]
    assert diagnosis.texts() == [["kl", "–"]]


def test_a_diagnosis_has_a_column_for_each_part_and_their_sum() -> None:
    parts = {"floor": 0.25, "schedule_and_sampler": 0.5, "network": 1.0, "total": 1.75}
    diagnosis = {"kl": {name: {"value": value, "ci95": [value - 0.1, value + 0.1]} for name, value in parts.items()}}
    _, table = evaluation_tables({"metrics": {"kl": SCORE}, "diagnosis": diagnosis}, title="")
    assert [column.head for column in table.columns] == ["metric", "floor", "schedule and sampler", "network", "total"]
    assert table.texts()[0][1:3] == ["0.25 (0.15 … 0.35)", "0.5 (0.4 … 0.6)"]


def test_the_verdict_of_a_score_has_a_colour_beside_its_word_and_sign() -> None:
    at_floor = {**SCORE, "value": 0.01, "ci95": [0.0, 0.02]}
    far = {**SCORE, "value": 5.0, "ci95": [4.9, 5.1]}
    (table,) = evaluation_tables({"metrics": {"near": at_floor, "far": far}}, title="")
    shown = Console(file=io.StringIO(), width=120, force_terminal=True, color_system="standard")
    with shown.capture() as text:
        shown.print(*fitted(table, 120))
    assert "\x1b[32m✓ good" in text.get()
    assert "\x1b[1;31m✕ bad" in text.get()
