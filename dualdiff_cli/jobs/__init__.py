"""What the commands do, without a terminal: each takes a request, reports through callbacks and returns a record."""

from __future__ import annotations

from .evaluate import evaluate, evaluate_exported, evaluate_files
from .export import export
from .plot import plot
from .sample import sample, sample_exported
from .train import Callbacks, resume, train

__all__ = [
    "Callbacks",
    "evaluate",
    "evaluate_exported",
    "evaluate_files",
    "export",
    "plot",
    "resume",
    "sample",
    "sample_exported",
    "train",
]
