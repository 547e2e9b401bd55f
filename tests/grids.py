"""Experiments that train and score in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dualdiff_cli.paper.experiment import Experiment

__all__ = ["TINY", "experiment", "scores"]

TINY = (
    "data.points=200",
    "data.held_out_points=200",
    "model.width=8",
    "model.blocks=1",
    "model.gate_hidden=[8]",
    "schedule.length=8",
    "schedule.beta_max=0.9",
    "training.batch=16",
    "training.log_every=2",
    "training.checkpoint_every=3",
    "sampling.steps=4",
)


def experiment(runs: Path, **changes: Any) -> Experiment:
    named = {"dataset": "line", "recipe": "paper", "model": "baseline", "seed": 0, "runs": str(runs)}
    tiny = {"steps": 5, "settings": TINY, "generated": 300, "metrics": ("kl_published",)}
    return Experiment(**{**named, **tiny, **changes})


def scores(result: dict[str, Any]) -> list[dict[str, float]]:
    """Give the scores of each evaluation, which no clock influences."""
    return [{name: score["value"] for name, score in e["metrics"].items()} for e in result["evaluations"]]
