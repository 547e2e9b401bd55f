"""Cells that train and score in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dualdiff_cli.paper.cells import Cell

__all__ = ["TINY", "cell", "few_points", "scores"]

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


def cell(runs: Path, **changes: Any) -> Cell:
    values = {"model": "baseline", "seed": 0, "steps": 5, "settings": TINY, "metrics": ("kl_published",), **changes}
    return Cell(**{"dataset": "line", "recipe": "paper", "runs": str(runs), **values})


def scores(result: dict[str, Any]) -> list[dict[str, float]]:
    """What a result says that is not of a clock: the scores of each evaluation."""
    return [{name: score["value"] for name, score in e["metrics"].items()} for e in result["evaluations"]]


@pytest.fixture
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Score few samples, in this process."""
    monkeypatch.setattr("dualdiff_cli.paper.cells.GENERATED", 300)
