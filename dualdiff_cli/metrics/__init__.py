"""Scores of generated points against real ones, each with an interval and with the floor that perfect samples get."""

from __future__ import annotations

from .classifier import classifier_scores
from .closeness import closeness_scores
from .columns import column_distances
from .divergence import kl_divergence
from .manifold import manifold_scores
from .modes import mode_scores
from .registry import METRICS, Metric
from .report import SCORED_FROM, STANDARDISED, score_generated
from .score import ColumnPart, Interval, Points, Reference, Score
from .transport import sliced_wasserstein, wasserstein2
from .verdict import Verdict, overall_verdict, verdict

__all__ = [
    "METRICS",
    "SCORED_FROM",
    "STANDARDISED",
    "ColumnPart",
    "Interval",
    "Metric",
    "Points",
    "Reference",
    "Score",
    "Verdict",
    "classifier_scores",
    "closeness_scores",
    "column_distances",
    "kl_divergence",
    "manifold_scores",
    "mode_scores",
    "overall_verdict",
    "score_generated",
    "sliced_wasserstein",
    "verdict",
    "wasserstein2",
]
