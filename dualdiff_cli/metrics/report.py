"""All scores of one set of generated points, each beside its floor.

A floor is the same metric, computed in the same way, with fresh true points in place of the generated ones. The real
points are the same in the value and in its floor, so that comparing the two cancels their share of the scatter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import unknown_name
from .classifier import classifier_two_sample
from .divergence import kl_divergence
from .modes import ModesLike, mode_scores
from .score import Points, Score, as_points, check_pair
from .transport import sliced_wasserstein, wasserstein2

__all__ = ["METRICS", "score_samples"]

Metric = Callable[[Points, int], Mapping[str, Score]]
"""Samples and the number of jackknife groups, 0 for no interval, → scores by name."""

METRICS = (
    "kl_real_generated",
    "kl_generated_real",
    "kl_published",
    "sliced_wasserstein",
    "wasserstein2",
    "classifier_two_sample",
    "mode_coverage",
    "off_mode_share",
    "mode_share_tv",
)
"""All names of scores of points, in order."""
_OF_MODES = METRICS[-3:]

_GROUPS = 10
_MIN_POINTS = 6
"""What the most demanding metric needs: k + 1 points for k = 5 neighbours."""

# Nearest-neighbour search in a tree turns into comparing all pairs as d grows: 100,000 points take a second or two up
# to d = 5 and would take minutes for d = 20. Beyond d = 5, N²·d coordinates at most are compared.
_MANY_COLUMNS = 5
_COMPARED_IN_MANY_COLUMNS = 500_000_000


def score_samples(
    *,
    real: NDArray[Any],
    generated: NDArray[Any],
    perfect: Sequence[NDArray[Any]] | NDArray[Any] = (),
    modes: ModesLike | None = None,
    published_real: NDArray[Any] | None = None,
    only: Collection[str] | None = None,
    unit: str = "data units",
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Score]:
    """Score generated points against real ones that the model never saw.

    Only the divergences use all points; in more than five columns they too are drawn down, to 5,000 a side for d = 20
    and in proportion to 1/√d. The `n_real` and `n_generated` of each score say what it used.

    Args:
        real: true points that took no part in the training, shape (n, d).
        generated: shape (m, d).
        perfect: true points in place of the generated ones, for the floors: arrays of shape (m, d), or one (R, m, d).
            They have to be independent of `real` and of `published_real`.
        modes: centres, radii and weights, where the distribution has modes that are known.
        published_real: the training points, where the divergence by the paper's definition is wanted too.
        only: names of the scores that are wanted, of those that the other arguments allow; None takes all of them.
        unit: what the columns are measured in; the unit of the transport distances.
        seed: of everything random here.
        progress: told the name of each metric before it is computed.

    Returns:
        Scores named kl_real_generated and kl_generated_real (bits), kl_published (bits; D(training points ‖
        generated), with `published_real`), sliced_wasserstein, wasserstein2, classifier_two_sample and, with `modes`,
        mode_coverage, off_mode_share and mode_share_tv.

    Raises:
        InputError: fewer than 6 points on a side, NaN or infinity, different numbers of columns, unfit modes, or an
            unknown name in `only`.

    """
    for name in only or ():
        if name not in METRICS:
            raise unknown_name("metric", name, METRICS)
    x, y = check_pair(real, generated, at_least=_MIN_POINTS)
    # Checked here, so that a message names the right side.
    draws = [as_points(draw, name="perfect", at_least=_MIN_POINTS) for draw in perfect]

    metrics: dict[str, Metric] = {
        "kl_real_generated": _divergence("kl_real_generated", x, seed=seed),
        "kl_generated_real": _divergence("kl_generated_real", x, seed=seed, reverse=True),
    }
    if published_real is not None:
        training = as_points(published_real, name="training", at_least=_MIN_POINTS)
        metrics["kl_published"] = _divergence("kl_published", training, seed=seed)
    metrics["sliced_wasserstein"] = lambda points, groups: {
        "sliced_wasserstein": replace(sliced_wasserstein(x, points, groups=groups, seed=seed), unit=unit)
    }
    metrics["wasserstein2"] = lambda points, groups: {
        "wasserstein2": replace(wasserstein2(x, points, seed=seed), unit=unit)
    }
    metrics["classifier_two_sample"] = lambda points, groups: {
        "classifier_two_sample": classifier_two_sample(x, points, seed=seed)
    }
    if modes is not None:
        metrics["modes"] = lambda points, groups: mode_scores(points, modes, seed=seed)

    scores: dict[str, Score] = {}
    for label, metric in metrics.items():
        wanted = only is None or not {label, *(_OF_MODES if label == "modes" else ())}.isdisjoint(only)
        if not wanted:
            continue
        if progress is not None:
            progress(label)
        found = metric(y, _GROUPS)
        floors = [metric(draw, 0) for draw in draws]
        scores |= {
            name: _with_floor(score, [floor[name] for floor in floors])
            for name, score in found.items()
            if only is None or name in only
        }
    return scores


def _divergence(name: str, truth: Points, *, seed: int, reverse: bool = False) -> Metric:
    def metric(points: Points, groups: int) -> Mapping[str, Score]:
        p, q = _searchable(truth, seed=seed), _searchable(points, seed=seed)
        return {name: kl_divergence(p, q, reverse=reverse, groups=groups, seed=seed)}

    return metric


def _searchable(points: Points, *, seed: int) -> Points:
    """All points, or as many as a tree can search when the columns are many."""
    d = points.shape[1]
    N = math.isqrt(_COMPARED_IN_MANY_COLUMNS // d)
    if d <= _MANY_COLUMNS or len(points) <= N:
        return points
    return np.random.default_rng(seed).permutation(points)[:N]


def _with_floor(score: Score, perfect: Sequence[Score]) -> Score:
    if not perfect:
        return score
    values = [draw.value for draw in perfect]
    notes = score.notes
    used = min(draw.n_generated for draw in perfect)
    if used != score.n_generated:
        notes += (f"The floor is that of {used} points, not of {score.n_generated}.",)
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return replace(score, floor=float(np.mean(values)), floor_spread=spread, notes=notes)
