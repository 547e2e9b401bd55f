"""The points that a run's configuration names: the same ones every time they are asked for."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from ..config.schema import LARGEST_SIGMA_MIN, RunConfig, SettledConfig
from ..data import Data, Scaler, dequantise, load_data
from ..errors import InputError
from ..store.atomic import replaced, write_json
from ..store.run import Run

__all__ = ["fit_scaler", "held_out_points", "load_run_data", "record_data", "reload_data", "settle", "training_points"]

NEIGHBOUR_QUERIES = 20_000
"""At most so many points have their neighbours looked for: enough for a median."""
DEFAULT_FREQUENCY = 100.0
"""Finest frequency under a schedule that has no σ_min of its own, in radians per standard deviation."""


def load_run_data(config: RunConfig) -> Data:
    """Draw or read training and held-out points."""
    return load_data(
        config.dataset,
        seed=config.seed,
        n_train=config.data.points,
        n_held_out=config.data.held_out_points,
        columns=config.data.columns,
        missing=config.data.missing,
        held_out_fraction=config.data.held_out_fraction,
    )


def reload_data(run: Run) -> Data:
    """Draw or read the points that a run was begun on.

    Raises:
        InputError: its file has changed since, so that points it trained on could be taken for held-out ones.

    """
    data = load_run_data(run.config)
    path = run.path / "data.json"
    try:
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else data.provenance
        changed = before.get("sha256") != data.provenance.get("sha256")
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged.", "Restore it, or start a new run.") from error
    if changed:
        raise InputError(
            f"The file {data.name} has changed since the run {run} was begun.", "Restore it, or start a new run."
        )
    return data


def training_points(config: RunConfig, data: Data) -> np.ndarray:
    """Give the points that training sees, (n, d) in data units: whole numbers are spread over their unit interval."""
    return dequantise(data.train, data.columns, np.random.default_rng([config.seed, 0]))


def held_out_points(data: Data, *, seed: int) -> np.ndarray:
    """Give the points that the held-out loss is taken on, (m, d), likewise."""
    return dequantise(data.held_out, data.columns, np.random.default_rng([seed, 2]))


def settle(config: RunConfig, data: Data) -> RunConfig:
    """Fill in what a configuration leaves to the data, so that nothing of a run is left open.

    The least noise level σ_min is the median distance to the fifth-nearest of the scaled training points, within
    [10⁻⁴, 0.02]: below it there is nothing between the points to learn, and more would blur what there is. What is
    filled in is noted as settled; if the configuration came from another run, it is decided anew.
    """
    schedule, model = config.schedule, config.model
    if schedule.sigma_min == config.settled.sigma_min:
        schedule = schedule.model_copy(update={"sigma_min": None})
    if model.finest_frequency == config.settled.finest_frequency:
        model = model.model_copy(update={"finest_frequency": None})
    open_sigma_min, open_frequency = schedule.sigma_min is None, model.finest_frequency is None
    if schedule.sigma_min is None and schedule.name in ("variance-exploding", "log-snr-uniform", "learned"):
        points = training_points(config, data)
        scaled = fit_scaler(config, data, points).transform(points)
        # from all over the table, whose rows may be in order of something
        asked = scaled[:: math.ceil(len(scaled) / NEIGHBOUR_QUERIES)]
        distances, _ = cKDTree(scaled).query(asked, k=6, workers=-1)
        sigma_min = float(np.clip(np.median(distances[:, 5]), 1e-4, LARGEST_SIGMA_MIN))
        schedule = schedule.model_copy(update={"sigma_min": sigma_min})
    if model.embedding == "multiscale" and model.finest_frequency is None:
        finest = 1 / schedule.sigma_min if schedule.sigma_min is not None else DEFAULT_FREQUENCY
        model = model.model_copy(update={"finest_frequency": finest})
    # A file is found again from wherever the run is used.
    dataset = config.dataset if data.density else str(Path(config.dataset).resolve())
    settled = SettledConfig(
        sigma_min=schedule.sigma_min if open_sigma_min else None,
        finest_frequency=model.finest_frequency if open_frequency else None,
    )
    return config.model_copy(update={"dataset": dataset, "schedule": schedule, "model": model, "settled": settled})


def fit_scaler(config: RunConfig, data: Data, points: np.ndarray) -> Scaler:
    """Fit the standardisation to the training points (n, d), or leave data units alone where the recipe says so."""
    if config.data.standardise == "always" or data.density is None:
        return Scaler.fit(points)
    return Scaler.identity(points.shape[1])


def record_data(run: Run, data: Data) -> None:
    """Leave in the run where its points came from and which rows of a file it never trains on."""
    write_json(run.path / "data.json", data.provenance)
    if data.held_out_rows is not None:
        with replaced(run.path / "held_out_rows.npy") as temporary:
            np.save(temporary, data.held_out_rows)
