"""Precision and recall of samples, and density and coverage: what part lies inside the data, and what part is reached.

Each point of a sample carries a ball that reaches to its k-th nearest neighbour in the same sample. *Precision* is the
share of generated points inside at least one ball of the real points, and *recall* is the share of real points inside
at least one ball of the generated points (Kynkäänniemi et al. 2019, "Improved precision and recall metric", eq. 2). An
outlier has a large ball, so the next two are more robust: *density* is the mean number of balls of real points that a
generated point lies in, divided by k, and *coverage* is the share of real points whose ball holds a generated point
(Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models", eq. 4 and 5). For perfect samples
the expectation of density is 1, and that of coverage 1 − (n − 1 choose k)/(n + m − 1 choose k), nearly 1 − 2^−k for
n = m: a ball is empty where the k nearest of the n − 1 other real and the m generated points, which can be exchanged
with each other, are all real.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.spatial.distance import cdist

from ..seeding import shuffled, stream
from .neighbours import search_tree
from .score import Points, Reference, Score, group_count, jackknife_interval, wilson_interval

__all__ = ["manifold_scores", "shares_of_manifolds"]

NEIGHBOURS = 5
"""k."""
MOST_POINTS = 2_000
"""The number of points of each side that are compared, which bounds the time: all pairs are compared."""
GROUPS = 10


def manifold_scores(real: Points, generated: Points, *, seed: int = 0, intervals: bool = True) -> dict[str, Score]:
    """Give precision, recall, density and coverage, from equally many points of both sides.

    The intervals of the shares are Wilson's, and that of density is a jackknife over generated points; both take the
    balls as given.

    Args:
        real, generated: (n, d) and (m, d).
        seed: of the points that are drawn where there are many.
        intervals: whether intervals are computed.

    """
    N = min(len(real), len(generated), MOST_POINTS)
    x, y = (
        shuffled(side, N, stream(seed, f"manifold-{role}")) for role, side in (("real", real), ("generated", generated))
    )
    units = {"precision": "fraction", "recall": "fraction", "density": "balls", "coverage": "fraction"}
    if N <= NEIGHBOURS + 1:
        note = (f"{N} rows a side are too few for this score: give at least {NEIGHBOURS + 2}.",)
        return {
            name: Score(value=float("nan"), unit=unit, ci95=None, n_real=N, n_generated=N, notes=note)
            for name, unit in units.items()
        }
    radius_x, radius_y = (search_tree(side).query(side, k=[NEIGHBOURS + 1], workers=-1)[0][:, 0] for side in (x, y))
    distance = cdist(x, y)
    in_real, in_generated = distance <= radius_x[:, None], distance <= radius_y[None, :]
    shares = {"precision": in_real.any(0), "recall": in_generated.any(1), "coverage": in_real.any(1)}
    scores = {}
    for name, inside in shares.items():
        share = float(inside.mean())
        scores[name] = Score(
            value=share,
            unit=units[name],
            ci95=wilson_interval(share, N) if intervals else None,
            n_real=N,
            n_generated=N,
        )
    balls = in_real.sum(0) / NEIGHBOURS
    groups = group_count(N, at_most=GROUPS, leaving=1) if intervals else 0
    group = np.arange(N) % max(groups, 1)
    left_out = [float(balls[group != j].mean()) for j in range(groups)]
    density = float(balls.mean())
    scores["density"] = Score(
        value=density, unit=units["density"], ci95=jackknife_interval(density, left_out), n_real=N, n_generated=N
    )
    return {name: scores[name] for name in units}


def shares_of_manifolds(reference: Reference, generated: Points, *, intervals: bool) -> Mapping[str, Score]:
    """Score precision, recall, density and coverage."""
    return manifold_scores(reference.real, generated, seed=reference.seed, intervals=intervals)
