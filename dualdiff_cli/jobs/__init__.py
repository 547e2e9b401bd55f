"""What the commands do, without a terminal: each takes a request, reports through callbacks and returns a record."""

from __future__ import annotations

from .evaluate import evaluate, evaluate_files
from .plot import plot
from .sample import sample
from .train import Callbacks, resume, train

__all__ = ["Callbacks", "evaluate", "evaluate_files", "plot", "resume", "sample", "train"]
