from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from dualdiff_cli.config.recipes import MODELS, RECIPES, resolve
from dualdiff_cli.config.schema import RunConfig
from dualdiff_cli.data import Data
from dualdiff_cli.jobs import inputs
from dualdiff_cli.jobs.inputs import fit_scaler, load_run_data, settle, training_points
from dualdiff_cli.models.diffusion import build_denoiser
from dualdiff_cli.store.run import Run


def ask(dataset: str = "line", *settings: str, n: int = 300, **names: Any) -> RunConfig:
    sizes = [f"data.points={n}", "data.held_out_points=20", "model.width=8", "model.gate_hidden=[8]"]
    return resolve(dataset=dataset, settings=[*sizes, *settings], **{"recipe": "precise", **names})


def settled(config: RunConfig) -> RunConfig:
    return settle(config, load_run_data(config))


def fifth_neighbours(config: RunConfig, data: Data) -> np.ndarray:
    """Distance of every scaled training point to its fifth-nearest other, from all pairs."""
    points = training_points(config, data)
    points = fit_scaler(config, data, points).transform(points)
    distances = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    return np.sort(distances, axis=1)[:, 5]  # the nearest is the point itself


def sigma_min_of(points: np.ndarray, directory: Path) -> float:
    path = directory / "points.csv"
    pl.DataFrame(points, schema=[f"c{i}" for i in range(points.shape[1])], orient="row").write_csv(path)
    sigma_min = settled(ask(str(path))).schedule.sigma_min
    assert sigma_min is not None
    return sigma_min


@pytest.mark.parametrize("schedule", ["log-snr-uniform", "variance-exploding"])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_the_least_noise_is_the_median_distance_to_the_fifth_nearest_point(
    scale: float, schedule: str, tmp_path: Path
) -> None:
    # in three clusters, within the limits but far from the median distance of uniformly spread points
    rng = np.random.default_rng(0)
    points = scale * (rng.integers(3, size=(600, 1)) + rng.normal(size=(600, 2)) * 0.03)
    path = tmp_path / "clusters.csv"
    pl.DataFrame(points, schema=["x", "y"], orient="row").write_csv(path)
    config = ask(str(path), f"schedule.name={schedule}")
    data = load_run_data(config)
    expected = np.median(fifth_neighbours(config, data))
    result = settle(config, data)
    assert 1e-3 < expected < 0.02
    assert result.schedule.sigma_min == pytest.approx(expected, rel=1e-12)
    assert result.model.finest_frequency == pytest.approx(1 / expected, rel=1e-12)


def test_the_least_noise_is_kept_within_its_limits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    assert sigma_min_of(rng.normal(size=(50, 4)), tmp_path) == 0.02
    coincident = np.repeat(rng.normal(size=(20, 2)), 20, axis=0)
    assert sigma_min_of(coincident, tmp_path) == 1e-4


def test_a_sample_of_the_points_stands_for_all_even_of_a_sorted_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(size=(300, 2)) * 0.1, 3 + rng.normal(size=(600, 2)) * 0.01])
    whole = sigma_min_of(points, tmp_path)
    monkeypatch.setattr(inputs, "NEIGHBOUR_QUERIES", 200)
    assert whole < 0.015
    assert sigma_min_of(points, tmp_path) == pytest.approx(whole, rel=0.3)


def test_what_is_asked_for_is_not_asked_of_the_data() -> None:
    config = ask("line", "schedule.sigma_min=0.3")
    result = settled(config)
    assert result.schedule == config.schedule
    assert result.model.finest_frequency == pytest.approx(1 / 0.3)
    config = ask("line", "model.finest_frequency=7.0")
    assert settled(config).model == config.model


def test_a_schedule_without_a_least_noise_of_its_own_has_features_of_a_fixed_fineness() -> None:
    result = settled(ask("line", "schedule.name=cosine"))
    assert result.schedule.sigma_min is None
    assert result.model.finest_frequency == 100


def test_the_papers_recipe_leaves_nothing_to_the_data() -> None:
    config = ask(recipe="paper")
    assert settled(config) == config


@pytest.mark.parametrize("schedule", [None, "variance-exploding", "cosine", "straight-line"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_settled_configuration_is_complete_and_comes_back_from_its_file(
    recipe: str, model: str, schedule: str | None, tmp_path: Path
) -> None:
    named = [f"schedule.name={schedule}", "objective.prediction=velocity"] if schedule else []
    result = settled(ask("line", *named, model=model, recipe=recipe))
    if result.schedule.name in ("log-snr-uniform", "variance-exploding"):
        assert result.schedule.sigma_min is not None
    if result.model.embedding == "multiscale":
        assert result.model.finest_frequency is not None
    read = Run.create(result, tmp_path / "run").config
    assert read == result
    assert settled(read) == read
    first, again = (build_denoiser(config, 2).state_dict() for config in (result, read))
    for name in first:
        assert_allclose(first[name], again[name], rtol=0)


def test_settling_depends_on_the_training_points_and_their_seed_alone() -> None:
    first, again, other = (settled(ask("circle", f"seed={seed}", n=2000)) for seed in (0, 0, 1))
    assert first == again
    assert first.schedule.sigma_min != other.schedule.sigma_min


def test_what_one_data_set_decided_is_decided_anew_by_another(tmp_path: Path) -> None:
    first = Run.create(settled(ask("circle", n=2000)), tmp_path / "circle")
    moved = settled(resolve(dataset="moons", file=first.path / "config.toml"))
    fresh = settled(ask("moons", n=2000))
    assert moved.schedule == fresh.schedule != first.config.schedule
    assert moved == fresh


def test_what_was_asked_for_is_kept_with_another_data_set(tmp_path: Path) -> None:
    first = Run.create(settled(ask("circle", "schedule.sigma_min=0.01", n=2000)), tmp_path / "circle")
    moved = settled(resolve(dataset="moons", file=first.path / "config.toml"))
    assert moved.schedule.sigma_min == 0.01
    edited = settled(resolve(dataset="moons", file=first.path / "config.toml", settings=["model.finest_frequency=3.0"]))
    assert edited.model.finest_frequency == 3.0
