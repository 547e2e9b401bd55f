"""Wasserstein-2 distances: how far the points have to be moved to turn one sample into the other.

    W₂(P, Q)² = min over couplings of E|x − y|²

in the units of the columns, which therefore have to be comparable. Unlike a divergence it says how *far away* wrong
points are, and it needs no densities. Two forms:

* `wasserstein2`, exact, by optimal transport between subsamples (the network simplex grows too slow for all points).
* `sliced_wasserstein`, the root mean square of W₂ between the samples projected on random directions θ (Rabin, Peyré,
  Delon and Bernot 2011, "Wasserstein barycenter and its application to texture mixing"):  SW₂² = E_θ W₂(θᵀP, θᵀQ)².
  On a line the optimal coupling pairs equal ranks, so that it takes one sort.

Both are biased upwards at finite size, by about as much as their floor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .score import Interval, Points, Score, check_pair, jackknife_interval, mean_interval

__all__ = ["sliced_wasserstein", "wasserstein2"]

# The simplex stops by itself long before; the library's own limit warns on samples this large.
_MAX_PIVOTS = 100_000_000


def wasserstein2(
    real: NDArray[Any], generated: NDArray[Any], *, size: int = 2000, subsamples: int = 5, seed: int = 0
) -> Score:
    """Mean exact W₂ over disjoint pairs of random subsamples, with Student's interval of that mean.

    Smaller samples are cut into `subsamples` parts of less than `size` points. The bias goes with the size of a
    subsample, so that values are comparable only where that, reported in `counts`, is equal.

    Args:
        real: shape (n, d).
        generated: shape (m, d).
        size: points of a subsample, at most.
        subsamples: pairs of subsamples.
        seed: of the draw.

    Raises:
        InputError: fewer than `subsamples` points, NaN or infinity, or different numbers of columns.

    """
    import ot  # imports torch where that is installed; whoever only needs another metric should not wait for it

    x, y = check_pair(real, generated, at_least=subsamples)
    size = min(size, len(x) // subsamples, len(y) // subsamples)
    rng = np.random.default_rng(seed)
    drawn_x, drawn_y = (rng.permutation(len(side))[: subsamples * size].reshape(subsamples, size) for side in (x, y))
    distances = [
        float(np.sqrt(ot.emd2([], [], ot.dist(x[rows_x], y[rows_y]), numItermax=_MAX_PIVOTS)))
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
    """Sliced Wasserstein distance of order 2 between equally many points, with a delete-a-group jackknife interval.

    The directions are the columns of random orthogonal matrices: each is uniform on the sphere, and together they
    average a quadratic exactly, so that a translation by v scores |v|/√d to rounding, whatever the draw.

    Args:
        real: shape (n, d); the larger side is drawn down to the smaller.
        generated: shape (m, d).
        projections: directions, rounded up to a multiple of d; one suffices for d = 1.
        groups: groups of the jackknife; 0 for no interval.
        max_points: points a side, at most.
        seed: of the directions, the draw and the groups.

    Raises:
        InputError: fewer than 2 points, NaN or infinity, or different numbers of columns.

    """
    x, y = check_pair(real, generated, at_least=2)
    N, d = min(len(x), len(y), max_points), x.shape[1]
    rng = np.random.default_rng(seed)
    theta = _directions(1 if d == 1 else projections, d, rng)
    groups = groups if 2 * groups <= N else 0
    # Groups of equal size leave equally many ranks to be paired; the few points over belong to none that is left out.
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
    """Columns of ⌈at_least / d⌉ orthogonal matrices drawn from the Haar measure (up to signs), shape (d, L)."""
    blocks = np.linalg.qr(rng.standard_normal((-(-at_least // d), d, d))).Q
    return np.concatenate(list(blocks), axis=1)


def _root_mean_square(difference: Points) -> float:
    return float(np.sqrt(np.mean(difference**2)))


def _not_negative(interval: Interval | None) -> Interval | None:
    return None if interval is None else (max(interval[0], 0.0), interval[1])
