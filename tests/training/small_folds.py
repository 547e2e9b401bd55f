"""Trainings in folds that take a moment, for the tests of their steps and of their end."""

from __future__ import annotations

import torch
from torch import Tensor

from dualdiff_cli import seeding
from dualdiff_cli.compute.execution import PLAIN, Execution
from dualdiff_cli.config.recipes import resolve_diffusion
from dualdiff_cli.data import FeatureLayout
from dualdiff_cli.training.folds import CHECKPOINTS, FoldTrainer

__all__ = ["CPU", "FIRST", "ROWS", "points", "run", "trainer", "worse_later"]

FIRST = min(CHECKPOINTS)
ROWS = 90


def points(n: int = ROWS) -> Tensor:
    """Rows of a mixture of two Gaussians that lie apart, of about unit variance."""
    draws = seeding.stream(0, "rows of two Gaussians")
    sign = draws.choice([-1.0, 1.0], (n, 1))
    return torch.from_numpy(sign * [0.9, 0.6] + draws.normal(size=(n, 2)) * [0.2, 0.5]).float()


CPU = torch.device("cpu")


def trainer(
    *settings: str,
    steps: int = 30,
    rows: int = ROWS,
    seed: int = 0,
    device: torch.device = CPU,
    learnt: Tensor | None = None,
    layout: FeatureLayout | None = None,
    execution: Execution = PLAIN,
) -> FoldTrainer:
    sizes = ["model.width=8", "model.blocks=1", "training.batch=16", "training.log_every=7", "schedule.sigma_min=0.01"]
    folds = ["folds.number=3", "folds.bands=2", "folds.levels=4", f"training.steps={steps}", f"seed={seed}"]
    config = resolve_diffusion(dataset="line", recipe="few-rows", settings=[*sizes, *folds, *settings])
    learnt = points(rows) if learnt is None else learnt
    return FoldTrainer(config, learnt.unsqueeze(0), device=device, layout=layout, execution=execution)


def run(training: FoldTrainer, *, stop_at: int | None = None) -> FoldTrainer:
    for _ in training.run(lambda: training.step == stop_at):
        pass
    return training


def worse_later(rate: float = 0.3, *, bounded: str = "true") -> FoldTrainer:
    """A training whose checkpoints differ, with an average that follows the weights closely."""
    rates = [f"training.learning_rate={rate}", "training.ema_decay=0.5", "folds.patience=50"]
    return run(trainer(*rates, f"objective.bounded={bounded}", steps=sorted(CHECKPOINTS)[4]))
