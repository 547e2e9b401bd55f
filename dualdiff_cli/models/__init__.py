"""Models: whatever can be fitted, sampled, saved and loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..config.registry import MODEL_KINDS
from .base import AS_DRAWN, Drawing, DrawingOptions, Model
from .noise import FromNoise
from .trainable import Plan, TrainableModel

if TYPE_CHECKING:
    import torch

    from ..store.run import Run

__all__ = [
    "AS_DRAWN",
    "Drawing",
    "DrawingOptions",
    "FromNoise",
    "Model",
    "Plan",
    "TrainableModel",
    "kind_of",
    "load_model",
]


def kind_of(run: Run) -> type[TrainableModel[Any]]:
    """Give the class of a run's model."""
    kind: type[TrainableModel[Any]] = MODEL_KINDS[run.config.model.kind]
    return kind


def load_model(run: Run, *, device: torch.device) -> TrainableModel[Any]:
    """Read a finished run's model, of whatever kind.

    Raises:
        InputError: the run is not finished, or its files are damaged.

    """
    return kind_of(run).load(run, device=device)
