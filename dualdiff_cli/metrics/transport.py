"""Wasserstein-2 distances: how far the points of one sample have to be moved to turn it into the other sample.

    W₂(P, Q)² = min over couplings of E|x − y|²

The distance is in the units of the columns, which therefore have to be comparable. Unlike a divergence, the distance
says how far away wrong points are, and it needs no densities. There are two forms:

* `wasserstein2` is exact, by optimal transport between subsamples (the network simplex is too slow for all points).
* `sliced_wasserstein` is the root mean square of W₂ between the samples projected on random directions θ (Rabin, Peyré,
  Delon and Bernot 2011, "Wasserstein barycenter and its application to texture mixing"):  SW₂² = E_θ W₂(θᵀP, θᵀQ)².
  On a line the optimal coupling pairs equal ranks, so one sort gives the distance.

Both forms are biased upwards at finite size, by about as much as their floor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..seeding import stream
from .score import Interval, Points, Reference, Score, check_pair, group_count, jackknife_interval, mean_interval

__all__ = ["exact_transport", "sliced_transport", "sliced_wasserstein", "wasserstein2"]

# The simplex stops by itself long before this; the library's own limit warns on samples this large.
_MAX_PIVOTS = 100_000_000
_SMALLEST_SUBSAMPLE = 10
"""Points of a subsample below which W₂ is hardly more than the distance of two random points."""


def wasserstein2(
    real: NDArray[Any], generated: NDArray[Any], *, size: int = 2000, subsamples: int = 5, seed: int = 0
) -> Score:
    """Give the mean exact W₂ over disjoint pairs of random subsamples, with Student's interval of that mean.

    Samples too small for `subsamples` parts of `size` points are cut into `subsamples` smaller parts. The bias depends
    on the size of a subsample, so two values can be compared only where this size, reported in `counts`, is equal.

    Args:
        real: shape (n, d).
        generated: shape (m, d).
        size: largest number of points of a subsample.
        subsamples: number of pairs of subsamples.
        seed: seed of the draw.

    Returns:
        The score; its value is nan where a subsample would hold fewer than 10 points.

    Raises:
        InputError: fewer than 2 points, NaN or infinity, or different numbers of columns.

    """
    x, y = check_pair(real, generated, at_least=2)
    size = min(size, len(x) // subsamples, len(y) // subsamples)
    if size < _SMALLEST_SUBSAMPLE:
        needed = subsamples * _SMALLEST_SUBSAMPLE
        note = f"{min(len(x), len(y))} rows are too few for this score: give at least {needed} rows a side."
        return Score(value=math.nan, unit="data units", ci95=None, n_real=len(x), n_generated=len(y), notes=(note,))
    import ot  # imports torch where torch is installed, for which nobody should wait who needs another metric
    from scipy.spatial.distance import cdist  # subtracts before it squares; ot.dist expands the square and cancels

    rng = stream(seed, "wasserstein2")
    drawn_x, drawn_y = (rng.permutation(len(side))[: subsamples * size].reshape(subsamples, size) for side in (x, y))
    distances = [
        float(np.sqrt(ot.emd2([], [], cdist(x[rows_x], y[rows_y], "sqeuclidean"), numItermax=_MAX_PIVOTS)))
        for rows_x, rows_y in zip(drawn_x, drawn_y, strict=True)
    ]
    return Score(
        value=float(np.mean(distances)),
        unit="data units",
        ci95=_not_negative(mean_interval(distances)),
        n_real=subsamples * size,
        n_generated=subsamples * size,
        counts={"subsamples": subsamples, "subsample_size": size},
    )


def sliced_wasserstein(
    real: NDArray[Any],
    generated: NDArray[Any],
    *,
    projections: int = 200,
    groups: int = 10,
    max_points: int = 10_000,
    seed: int = 0,
) -> Score:
    """Give the sliced Wasserstein distance of order 2 between equally many points, with a jackknife interval.

    The directions are the columns of random orthogonal matrices. Each direction is uniform on the sphere, and the
    columns of one matrix average a quadratic form exactly, so a translation by v scores |v|/√d up to rounding, whatever
    the draw.

    Args:
        real: shape (n, d); the larger side is drawn down to the size of the smaller.
        generated: shape (m, d).
        projections: number of directions, rounded up to a multiple of d; for d = 1 there is one direction.
        groups: number of groups of the jackknife, at most; 0 for no interval.
        max_points: largest number of points a side.
        seed: seed of the directions, the draw and the groups.

    Raises:
        InputError: fewer than 2 points, NaN or infinity, or different numbers of columns.

    """
    x, y = check_pair(real, generated, at_least=2)
    N, d = min(len(x), len(y), max_points), x.shape[1]
    rng = stream(seed, "sliced-wasserstein")
    theta = _directions(1 if d == 1 else projections, d, rng)
    groups = group_count(N, at_most=groups, leaving=1)
    # Groups of equal size leave equally many ranks to be paired; the few points beyond them are never left out.
    group = np.arange(N) // max(N // max(groups, 1), 1)
    projected = []
    for side in (x, y):
        values = np.ascontiguousarray((side[rng.permutation(len(side))[:N]] @ theta).T)
        order = values.argsort(axis=1)
        projected.append((np.take_along_axis(values, order, axis=1), group[order]))
    (sorted_x, group_x), (sorted_y, group_y) = projected

    left_out = []
    for j in range(groups):
        kept_x, kept_y = (
            values[label != j].reshape(len(values), -1) for values, label in ((sorted_x, group_x), (sorted_y, group_y))
        )
        left_out.append(_root_mean_square(kept_x - kept_y))
    value = _root_mean_square(sorted_x - sorted_y)
    return Score(
        value=value,
        unit="data units",
        ci95=_not_negative(jackknife_interval(value, left_out)),
        n_real=N,
        n_generated=N,
        counts={"projections": theta.shape[1]},
    )


def _directions(at_least: int, d: int, rng: np.random.Generator) -> Points:
    """Draw the columns of ⌈at_least / d⌉ orthogonal matrices from the Haar measure (up to signs), shape (d, L)."""
    blocks = np.linalg.qr(rng.standard_normal((-(-at_least // d), d, d))).Q
    return np.concatenate(list(blocks), axis=1)


def _root_mean_square(difference: Points) -> float:
    return float(np.sqrt(np.mean(difference**2)))


def _not_negative(interval: Interval | None) -> Interval | None:
    return None if interval is None else (max(interval[0], 0.0), interval[1])


def sliced_transport(reference: Reference, generated: Points, *, intervals: bool) -> Mapping[str, Score]:
    """Score the sliced distance between held-out and generated points."""
    groups = 10 if intervals else 0
    score = sliced_wasserstein(reference.real, generated, groups=groups, seed=reference.seed)
    return {"sliced_wasserstein": replace(score, unit=reference.unit)}


def exact_transport(reference: Reference, generated: Points, *, intervals: bool) -> Mapping[str, Score]:
    """Score the exact distance between held-out and generated points; its interval costs nothing."""
    del intervals
    return {"wasserstein2": replace(wasserstein2(reference.real, generated, seed=reference.seed), unit=reference.unit)}
