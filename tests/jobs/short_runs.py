"""Configurations of runs that take a fraction of a second, and what the tests of the jobs do with a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tiny import tiny

from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.config.schema import RunConfig
from dualdiff_cli.store.run import Run

__all__ = ["QUICK", "copy_of", "run_of", "short", "simple"]

SHORT_SCHEDULE = ["schedule.length=8", "schedule.beta_max=0.9"]
"""The paper's schedule in eight steps that end in noise."""


QUICK = {
    "mixture": ["model.components=8", "model.covariance='full'"],
    "kernel-density": ["model.folds=2"],
    "spline-flow": ["model.steps=200", "model.transforms=1", "model.hidden=[16]"],
}
"""The settings with which each model that is no diffusion model is fitted in a moment."""


def short(dataset: str = "line", *, recipe: str = "paper", settings: tuple[str, ...] = (), **changes: Any) -> RunConfig:
    """A training of a few steps, sampled in eight."""
    own = [*(SHORT_SCHEDULE if recipe == "paper" else []), "sampling.steps=8", "training.learning_rate=0.01"]
    return tiny(recipe, dataset=dataset, settings=[*own, *settings], **changes)


def simple(model: str, dataset: str = "moons") -> RunConfig:
    """A model that is no diffusion model."""
    quick = QUICK[model]
    sizes = ["data.points=300", "data.held_out_points=200"]
    return resolve(dataset=dataset, model=model, settings=[*sizes, *quick])


def run_of(record: dict[str, Any]) -> Run:
    """The run that a record is about."""
    return Run.open(record["run"])


def copy_of(record: dict[str, Any], path: Path) -> Run:
    """A copy of the run that a record is about, as training left it, which a test may change."""
    return Run.open(shutil.copytree(record["run"], path, ignore=shutil.ignore_patterns("evaluation.json")))
