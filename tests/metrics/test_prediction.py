"""Trees that have learnt from generated rows, asked about real ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dualdiff_cli import seeding
from dualdiff_cli.metrics import ColumnPart, Score, score_generated, verdict

N = 2000
NUMBER = [ColumnPart("x", 0, 1, False), ColumnPart("y", 1, 1, False)]
CLASSES = [ColumnPart("x", 0, 1, False), ColumnPart("y", 1, 2, True)]


def rows(role: str, *, noise: float = 0.5, slope: float = 2.0) -> np.ndarray:
    """Give rows of x and y = slope·x + noise."""
    x, e = seeding.stream(0, role).normal(size=(2, N))
    return np.stack([x, slope * x + noise * e], axis=1)


def with_classes(role: str, *, wrong: float) -> np.ndarray:
    """Give rows of x and the sign of x as two features, wrong in a share of the rows."""
    rng = seeding.stream(0, role)
    x = rng.normal(size=N)
    positive = (x > 0) ^ (rng.random(N) < wrong)
    return np.stack([x, positive, ~positive], axis=1).astype(float)


def tstr(real: np.ndarray, generated: np.ndarray, parts: list[ColumnPart], perfect: str = "perfect") -> Score:
    fresh = rows(perfect) if parts is NUMBER else with_classes(perfect, wrong=0.1)
    return score_generated(
        real=real, generated=generated, perfect=[fresh], parts=parts, target="y", only=["tstr"], seed=1
    )["tstr"]


def test_rows_of_the_same_distribution_teach_what_the_noise_allows() -> None:
    score = tstr(rows("real"), rows("generated"), NUMBER)
    best = 1 - 0.25 / 4.25
    assert score.unit == "R²"
    assert best - 0.04 < score.value < best + 0.005
    assert score.ci95 is not None
    assert score.ci95[0] < score.value < score.ci95[1] <= 1
    assert score.floor is not None
    assert abs(score.value - score.floor) < 0.01
    assert verdict("tstr", score.to_dict()).level == "good"


def test_rows_whose_columns_are_unrelated_teach_nothing() -> None:
    generated = rows("generated")
    generated[:, 1] = generated[::-1, 1]
    score = tstr(rows("real"), generated, NUMBER)
    assert score.value < 0.05
    assert verdict("tstr", score.to_dict()).level == "bad"


def test_classes_are_predicted_as_often_as_their_labels_are_right() -> None:
    real = with_classes("real", wrong=0.1)
    score = tstr(real, with_classes("generated", wrong=0.1), CLASSES)
    assert score.unit == "fraction"
    assert 0.82 < score.value < 0.93
    assert tstr(real, with_classes("generated", wrong=0.9), CLASSES).value < 0.18


def test_generated_rows_of_one_class_teach_that_class() -> None:
    generated = with_classes("generated", wrong=0.0)
    generated[:, 1:] = [1.0, 0.0]
    real = with_classes("real", wrong=0.0)
    assert tstr(real, generated, CLASSES).value == real[:, 1].mean()


def test_a_value_of_several_digits_is_right_only_as_a_whole() -> None:
    """The first digit is the sign of x, and the second one is random."""
    digits = [ColumnPart("x", 0, 1, False), ColumnPart("y", 1, 1, True), ColumnPart("y", 2, 1, True)]

    def with_digits(role: str) -> np.ndarray:
        rng = seeding.stream(0, role)
        x = rng.normal(size=N)
        return np.stack([x, x > 0, rng.random(N) < 0.5], axis=1).astype(float)

    score = score_generated(
        real=with_digits("real"), generated=with_digits("generated"), parts=digits, target="y", only=["tstr"]
    )["tstr"]
    assert (score.unit, score.value) == ("fraction", pytest.approx(0.5, abs=0.05))


def test_only_the_most_frequent_values_are_ever_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualdiff_cli.metrics.prediction.MOST_CLASSES", 2)

    def with_three(role: str) -> np.ndarray:
        x = seeding.stream(0, role).random(N)
        return np.column_stack([x, np.eye(3)[np.digitize(x, [0.2, 0.7])]])

    parts = [ColumnPart("x", 0, 1, False), ColumnPart("y", 1, 3, True)]
    real, generated = with_three("real"), with_three("generated")
    score = score_generated(real=real, generated=generated, parts=parts, target="y", only=["tstr"])["tstr"]
    assert score.value == pytest.approx(1 - real[:, 1].mean(), abs=0.01)


def test_all_features_of_a_number_count() -> None:
    """The cosine of an angle is given, and the sign of its sine is random."""

    def with_angle(role: str) -> np.ndarray:
        angle = seeding.stream(0, role).uniform(0, 2 * math.pi, N)
        return np.stack([np.cos(angle), np.cos(angle), np.sin(angle)], axis=1)

    parts = [ColumnPart("x", 0, 1, False), ColumnPart("y", 1, 1, False), ColumnPart("y", 2, 1, False)]
    score = score_generated(
        real=with_angle("real"), generated=with_angle("generated"), parts=parts, target="y", only=["tstr"]
    )["tstr"]
    assert (score.unit, score.value) == ("R²", pytest.approx(0.5, abs=0.07))


def test_a_target_that_does_not_vary_has_no_score_and_says_why() -> None:
    real = rows("real")
    real[:, 1] = 2.0
    score = tstr(real, rows("generated"), NUMBER)
    assert math.isnan(score.value)
    assert "one value" in score.notes[0]


def test_too_few_rows_and_a_single_column_have_no_score() -> None:
    few = tstr(rows("real"), rows("generated")[:20], NUMBER)
    alone = score_generated(
        real=rows("real")[:, 1:],
        generated=rows("generated")[:, 1:],
        parts=[ColumnPart("y", 0, 1, False)],
        target="y",
        only=["tstr"],
    )["tstr"]
    for score in (few, alone):
        assert math.isnan(score.value)
        assert score.notes
