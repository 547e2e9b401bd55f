"""The points that a run's configuration names: the same ones every time they are asked for."""

from __future__ import annotations

import json

import numpy as np

from ..atomic import replaced, write_json
from ..config import RunConfig
from ..data import Data, Scaler, dequantise, load_data
from ..errors import InputError
from ..runs import Run

__all__ = ["fit_scaler", "load_run_data", "record_data", "training_points"]


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


def training_points(config: RunConfig, data: Data) -> np.ndarray:
    """Give the points that training sees, (n, d) in data units: whole numbers are spread over their unit interval."""
    return dequantise(data.train, data.columns, np.random.default_rng([config.seed, 0]))


def fit_scaler(config: RunConfig, data: Data, points: np.ndarray) -> Scaler:
    """Fit the standardisation to the training points (n, d), or leave data units alone where the recipe says so."""
    if config.data.standardise == "always" or data.density is None:
        return Scaler.fit(points)
    return Scaler.identity(points.shape[1])


def record_data(run: Run, data: Data) -> None:
    """Leave in the run where its points came from and which rows of a file it never trains on.

    Raises:
        InputError: the run was begun on a file with other content.

    """
    path = run.path / "data.json"
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8")).get("sha256")
        if before != data.provenance.get("sha256"):
            raise InputError(
                f"The file {data.name} has changed since the run {run} was begun.", "Restore it, or start a new run."
            )
    write_json(path, data.provenance)
    if data.held_out_rows is not None:
        with replaced(run.path / "held_out_rows.npy") as temporary:
            np.save(temporary, data.held_out_rows)
