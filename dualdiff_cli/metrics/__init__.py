"""Scores of generated points against real ones, each with an interval and with the floor that perfect samples get."""

from __future__ import annotations

from .classifier import classifier_two_sample
from .divergence import kl_divergence
from .modes import ModesLike, mode_scores
from .report import METRICS, score_samples
from .score import Points, Score
from .transport import sliced_wasserstein, wasserstein2

__all__ = [
    "METRICS",
    "ModesLike",
    "Points",
    "Score",
    "classifier_two_sample",
    "kl_divergence",
    "mode_scores",
    "score_samples",
    "sliced_wasserstein",
    "wasserstein2",
]
