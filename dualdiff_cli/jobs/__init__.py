"""What the commands do, without a terminal: each takes a request, reports through callbacks and returns a record."""

from __future__ import annotations

from .bench import BenchRequest, bench, read_benchmark
from .bench import compare as compare_benchmarks
from .evaluate import evaluate, evaluate_exported, evaluate_files
from .export import export
from .grid import GridProgress
from .plot import plot
from .reproduce import ReproduceRequest, reproduce
from .sample import sample, sample_exported
from .train import Callbacks, resume, train

__all__ = [
    "BenchRequest",
    "Callbacks",
    "GridProgress",
    "ReproduceRequest",
    "bench",
    "compare_benchmarks",
    "evaluate",
    "evaluate_exported",
    "evaluate_files",
    "export",
    "plot",
    "read_benchmark",
    "reproduce",
    "resume",
    "sample",
    "sample_exported",
    "train",
]
