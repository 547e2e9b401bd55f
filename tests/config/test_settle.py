"""What the data decide: the least noise level, and the finest frequency that the network sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualdiff_cli import seeding
from dualdiff_cli.config import settle as settling
from dualdiff_cli.config.recipes import MODELS, resolve_diffusion
from dualdiff_cli.config.registry import MODEL_KINDS
from dualdiff_cli.config.schema import DiffusionConfig
from dualdiff_cli.config.settle import settle
from dualdiff_cli.data import get_density
from dualdiff_cli.store.run import Run

Features = np.ndarray[Any, np.dtype[np.float64]]


def ask(*settings: str, recipe: str = "precise", **request: Any) -> DiffusionConfig:
    sizes = ["model.width=8", "model.gate_hidden=[8]"]
    return resolve_diffusion(**{"dataset": "line", "recipe": recipe, "settings": [*sizes, *settings], **request})


def rows_of(density: str, n: int = 300, *, seed: int = 0) -> Features:
    return get_density(density).sample(n, seeding.stream(seed, "test"))


LINE = rows_of("line")


def sigma_min_of(features: Features) -> float:
    sigma_min = settle(ask(), features).schedule.sigma_min
    assert sigma_min is not None
    return sigma_min


def fifth_neighbours(features: Features) -> Features:
    """Distance of every row to its fifth-nearest other, from all pairs."""
    distances = np.sqrt(((features[:, None] - features[None]) ** 2).sum(-1))
    return np.sort(distances, axis=1)[:, 5]  # the nearest is the row itself


@pytest.mark.parametrize("schedule", ["log-snr-uniform", "variance-exploding"])
def test_the_least_noise_is_the_median_distance_to_the_fifth_nearest_row(schedule: str) -> None:
    # in three clusters, within the limits but far from the median distance of uniformly spread points
    rng = seeding.stream(0, "test")
    features = rng.integers(3, size=(1200, 1)) + rng.normal(size=(1200, 2)) * 0.04
    expected = np.median(fifth_neighbours(features))
    result = settle(ask(f"schedule.name={schedule}"), features)
    assert 1e-3 < expected < 0.02
    assert result.schedule.sigma_min == pytest.approx(expected, rel=1e-12)
    assert result.model.finest_frequency == pytest.approx(1 / expected, rel=1e-12)


@pytest.mark.parametrize("distances", [(0.015, 0.02), (0.018, 0.03), (0.001, 0.0389), (0.001, 0.041), (0.001, 5.0)])
def test_neighbours_that_are_too_far_to_be_looked_for_change_no_median(distances: tuple[float, float]) -> None:
    """The two middle distances of an even number of rows may lie on either side of the limit, 0.02."""
    groups = [50 * k + distance / np.sqrt(2) * np.eye(6) for k, distance in enumerate(distances)]
    features = np.concatenate(groups)  # the six rows of a group have this distance from each other
    assert sigma_min_of(features) == pytest.approx(min(np.mean(distances), 0.02), rel=1e-9)
    assert np.median(fifth_neighbours(features)) == pytest.approx(np.mean(distances))


def test_the_least_noise_is_kept_within_its_limits() -> None:
    rng = seeding.stream(0, "test")
    assert sigma_min_of(rng.normal(size=(50, 4))) == 0.02
    coincident = np.repeat(rng.normal(size=(20, 2)), 20, axis=0)
    assert sigma_min_of(coincident) == 1e-4


def test_a_sample_of_the_rows_stands_for_all_even_of_a_sorted_table(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = seeding.stream(0, "test")
    features = np.concatenate([rng.normal(size=(300, 2)) * 0.05, 3 + rng.normal(size=(600, 2)) * 0.005])
    whole = sigma_min_of(features)
    monkeypatch.setattr(settling, "NEIGHBOUR_QUERIES", 200)
    assert whole < 0.015
    assert sigma_min_of(features) != whole
    assert sigma_min_of(features) == pytest.approx(whole, rel=0.3)


def test_what_is_asked_for_is_not_asked_of_the_data() -> None:
    config = ask("schedule.sigma_min=0.3")
    result = settle(config, LINE)
    assert result.schedule == config.schedule
    assert result.model.finest_frequency == pytest.approx(1 / 0.3)
    config = ask("model.finest_frequency=7.0")
    assert settle(config, LINE).model == config.model


def test_a_schedule_without_a_least_noise_of_its_own_has_features_of_a_fixed_fineness() -> None:
    result = settle(ask("schedule.name=cosine"), LINE)
    assert result.schedule.sigma_min is None
    assert result.model.finest_frequency == settling.DEFAULT_FREQUENCY == 100


def test_the_papers_recipe_leaves_nothing_to_the_data() -> None:
    config = ask(recipe="paper")
    assert settle(config, LINE) == config


@pytest.mark.parametrize("schedule", [None, "variance-exploding", "cosine", "straight-line"])
@pytest.mark.parametrize("model", [name for name in MODELS if name not in MODEL_KINDS])
@pytest.mark.parametrize("recipe", ["paper", "precise"])
def test_a_settled_configuration_is_complete_and_comes_back_from_its_file(
    recipe: str, model: str, schedule: str | None, tmp_path: Path
) -> None:
    named = [f"schedule.name={schedule}", "objective.prediction=velocity"] if schedule else []
    result = settle(ask(*named, model=model, recipe=recipe), LINE)
    if result.schedule.name in ("log-snr-uniform", "variance-exploding"):
        assert result.schedule.sigma_min is not None
    if result.model.embedding == "multiscale":
        assert result.model.finest_frequency is not None
    read = Run.create(result, tmp_path / "run").config
    assert read == result
    assert settle(result, LINE) == result


def test_what_one_data_set_decided_is_decided_anew_by_another(tmp_path: Path) -> None:
    circle, moons = rows_of("circle", 2000), rows_of("moons", 2000)
    first = Run.create(settle(ask(dataset="circle"), circle), tmp_path / "circle")
    moved = settle(resolve_diffusion(dataset="moons", file=first.path / "config.toml"), moons)
    fresh = settle(ask(dataset="moons"), moons)
    assert isinstance(first.config, DiffusionConfig)
    assert moved.schedule == fresh.schedule != first.config.schedule
    assert moved == fresh


def test_what_was_asked_for_is_kept_with_another_data_set(tmp_path: Path) -> None:
    circle, moons = rows_of("circle", 2000), rows_of("moons", 2000)
    first = Run.create(settle(ask("schedule.sigma_min=0.01", dataset="circle"), circle), tmp_path / "circle")
    file = first.path / "config.toml"
    moved = settle(resolve_diffusion(dataset="moons", file=file), moons)
    assert moved.schedule.sigma_min == 0.01
    edited = settle(resolve_diffusion(dataset="moons", file=file, settings=["model.finest_frequency=3.0"]), moons)
    assert edited.model.finest_frequency == 3.0


@pytest.mark.parametrize("recipe", ["precise", "few-rows"])
def test_a_narrow_peak_of_one_feature_lowers_the_least_noise(recipe: str) -> None:
    rng = seeding.stream(0, "test")
    features = rng.normal(size=(3000, 3))
    sizes = [] if recipe == "precise" else ["folds.number=4"]
    plain = settle(ask(*sizes, recipe=recipe), features).schedule.sigma_min
    features[:100, 1] = 0.7 + 0.002 * rng.normal(size=100)
    peaked = settle(ask(*sizes, recipe=recipe), features).schedule.sigma_min
    assert plain == (0.005 if recipe == "few-rows" else 0.02)
    assert peaked is not None
    assert 0.0003 < peaked < 0.0012
    features[:, 1] *= 1e-6  # however narrow
    assert settle(ask(*sizes, recipe=recipe), features).schedule.sigma_min == 1e-4


def test_a_model_of_a_table_learns_conditional_distributions_and_that_of_a_density_does_not(tmp_path: Path) -> None:
    def share(config: DiffusionConfig, features: Features = LINE, *, table: bool = True) -> float | None:
        return settle(config, features, table=table).objective.conditional

    assert share(ask()) == 0.25
    assert share(ask(), table=False) == 0
    assert share(ask(), LINE[:, :1]) == 0
    assert share(ask(recipe="paper")) == 0
    assert share(ask("objective.conditional=0.5")) == 0.5
    assert share(ask("objective.references=0", "objective.coupling=optimal-transport")) == 0
    first = Run.create(settle(ask(), LINE), tmp_path / "density")
    assert share(resolve_diffusion(dataset="line", file=first.path / "config.toml")) == 0.25
