"""What holds for every metric of the registry: its names, its units, and what few rows get."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from dualdiff_cli.metrics import METRICS, STANDARDISED, ColumnPart, Score, score_generated

SIZES = {"training": 240, "real": 120, "published_real": 120, "generated": 150}
MODES = (np.array([[0.0, 0.0], [1.0, 1.0]]), np.full((2, 2), 1.5), np.array([0.5, 0.5]))

# Added to multiples of 2^-10 without rounding: a large number, times of day in seconds since 1970, Julian dates.
FAR = {"1e9": 1e9, "timestamps": 1.7e9, "Julian dates": 2_400_000.5}


@cache
def scores(*, shift: float = 0.0, units: tuple[float, ...] = (1.0, 1.0), unit: str = "cm") -> dict[str, Score]:
    rng = np.random.default_rng(0)
    stretched = np.array(units)
    # Correlated columns, a generated sample that is wider than the data, and a few copies of training rows.
    points = {
        name: np.round(1024 * rng.standard_normal((n, 2)) @ [[1.0, 0.5], [0.0, 0.5]])
        / 1024
        * (1.25 if name == "generated" else 1)
        for name, n in SIZES.items()
    }
    points["generated"][:20] = points["training"][:20]
    moved = {name: (side + shift) * stretched for name, side in points.items()}
    centres, radii, weights = MODES
    modes = ((centres + shift) * stretched, radii * stretched, weights)
    parts = [ColumnPart("x", 0, 1, False), ColumnPart("y", 1, 1, False)]
    return score_generated(**moved, perfect=[moved["real"]], modes=modes, parts=parts, target="y", unit=unit)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("where", FAR)
@pytest.mark.parametrize("unit", ["cm", STANDARDISED])
def test_a_shift_of_the_columns_changes_no_score(name: str, where: str, unit: str) -> None:
    assert scores(shift=FAR[where], unit=unit)[name] == scores(unit=unit)[name]


@pytest.mark.parametrize("name", METRICS)
def test_in_standard_deviations_the_units_of_the_columns_change_no_score(name: str) -> None:
    assert scores(units=(2.0**30, 2.0**-10), unit=STANDARDISED)[name] == scores(unit=STANDARDISED)[name]


@pytest.mark.parametrize("name", [name for name in METRICS if "wasserstein" not in name])
def test_without_standardising_a_unit_of_all_columns_changes_only_distances(name: str) -> None:
    # Equal but for rounding: the logarithms of larger distances have fewer decimals.
    far, near = scores(units=(2.0**20, 2.0**20))[name], scores()[name]
    assert far.value == pytest.approx(near.value, rel=1e-12)
    assert far.ci95 == pytest.approx(near.ci95, rel=1e-12)
    assert far.floor == pytest.approx(near.floor, rel=1e-12)


@pytest.mark.parametrize("name", ["sliced_wasserstein", "wasserstein2"])
def test_distances_grow_with_the_unit(name: str) -> None:
    assert scores(units=(8.0, 8.0))[name].value == 8 * scores()[name].value


def test_every_metric_gives_the_scores_that_the_registry_names_in_that_order() -> None:
    assert list(scores()) == list(METRICS)
    assert all(score.floor is not None and np.isfinite(score.value) for score in scores().values())


@pytest.mark.parametrize("target", ["x", "c"])
def test_every_score_has_the_unit_that_the_registry_names(target: str) -> None:
    parts = [ColumnPart("x", 0, 1, False), ColumnPart("c", 1, 1, True)]
    rng = np.random.default_rng(2)
    points = {name: np.column_stack([rng.normal(size=n), rng.integers(2, size=n)]) for name, n in SIZES.items()}
    few = {**points, "real": points["real"][:5]}
    known, unknown = (score_generated(**p, modes=MODES, parts=parts, target=target, unit="cm") for p in (points, few))
    assert [(name, score.unit) for name, score in unknown.items()] == [(name, known[name].unit) for name in METRICS]


def test_no_score_of_sixty_rows_and_eighty_columns_is_a_number_without_an_interval_and_the_unreadable_say_why() -> None:
    rng = np.random.default_rng(1)
    training, real = rng.standard_normal((54, 80)), rng.standard_normal((6, 80))
    found = score_generated(
        real=real,
        generated=training[rng.integers(54, size=10_000)],
        perfect=[training],
        training=training,
        unit=STANDARDISED,
    )
    for name in ("kl_real_generated", "kl_generated_real", "wasserstein2", "classifier_two_sample", "classifier_auc"):
        assert np.isnan(found[name].value), name
        assert found[name].floor is None
        assert found[name].to_dict()["value"] is None
        assert "too few for this score" in found[name].notes[-1]
    for name in ("sliced_wasserstein", "memorisation", "copies"):
        score = found[name]
        assert score.ci95 is not None, name
        assert score.ci95[0] <= score.value <= score.ci95[1]
    assert found["copies"].value == 1
    assert found["memorisation"].value == 1
