"""Exact distances to nearest neighbours, also with a group of the neighbours left out.

A delete-a-group jackknife needs each distance once among all points and once without each group. All of them come from
one query of one tree that asks for a few more neighbours than needed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .score import Points

__all__ = ["MANY_COLUMNS", "kth_distances", "search_tree", "searchable_count"]

Labels = NDArray[np.int64]
Distances = NDArray[np.float64]

# Neighbours that the first query asks for beyond the k-th. Each neighbour is in the left-out tenth with probability
# 1/10, so for k = 5 hardly any point needs a second query: P(Binomial(11, 0.1) > 6) = 2e-5.
_EXTRA_NEIGHBOURS = 6

MANY_COLUMNS = 5
"""Number of columns beyond which a search in a tree compares nearly all pairs of points.

100,000 points take a second or two in up to 5 columns and would take minutes in 20.
"""
_COMPARED_IN_MANY_COLUMNS = 500_000_000
"""Coordinates that one search may compare when the columns are many: N²·d for N queries among N points."""


_SCANNED_FROM = 10
"""Number of columns beyond which a scan of all points is faster than a descent of a tree."""


def search_tree(points: Points) -> cKDTree:
    """Build the tree in which neighbours among the points, (n, d), are searched.

    In more than 10 columns the tree is one leaf, so that a search is a scan: among 100,000 Gaussian points a scan takes
    1.1, 2.1 and 4.5 ms in 8, 20 and 50 columns and a descent 0.3, 26 and 59 ms.
    """
    n, d = points.shape
    return cKDTree(points, leafsize=n if d > _SCANNED_FROM else 16)


def searchable_count(d: int) -> int | None:
    """Give the largest number of points that are searched among as many points of d columns; None for no limit."""
    return math.isqrt(_COMPARED_IN_MANY_COLUMNS // d) if d > MANY_COLUMNS else None


def kth_distances(
    points: Points,
    queries: Points,
    group: Labels,
    *,
    own: NDArray[np.intp] | None = None,
    k: int,
    p: float,
    groups: int,
    workers: int = -1,
) -> Distances:
    """Find the distance of each query to its k-th neighbour among the points.

    Args:
        points: shape (n, d).
        queries: shape (q, d).
        group: the group of each point, 0 … groups − 1, (n,).
        own: for queries that are points themselves, the row of each query in `points`, (q,): a point is not its own
            neighbour.
        k: which neighbour; at least k points have to remain without any one group.
        p: 2 for the Euclidean distance, infinity for the Chebyshev distance.
        groups: number of groups; 0 for none.
        workers: threads of the search; −1 for all cores.

    Returns:
        Shape (groups + 1, q): first the distances without each group, last the distances among all points. A query
        that finds fewer than k remaining neighbours is asked again for more, so that every distance is exact.

    """
    tree = search_tree(points)
    distances = np.full((groups + 1, len(queries)), np.nan)
    missing = np.arange(len(queries))
    depth = k + (own is not None) + (_EXTRA_NEIGHBOURS if groups else 0)
    while missing.size:
        depth = min(depth, len(points))
        near, index = tree.query(queries[missing], k=range(1, depth + 1), p=p, workers=workers)
        eligible = index != own[missing, None] if own is not None else np.ones(index.shape, dtype=bool)
        distances[groups, missing] = _kth_eligible(near, eligible, k=k)
        for j in range(groups):
            distances[j, missing] = _kth_eligible(near, eligible & (group[index] != j), k=k)
        if depth == len(points):
            break
        missing = missing[np.isnan(distances[:, missing]).any(axis=0)]
        depth *= 2
    return distances


def _kth_eligible(near: Distances, eligible: NDArray[np.bool_], *, k: int) -> Distances:
    """Pick the k-th eligible distance in each ascending row of `near`; nan where fewer than k are eligible."""
    reached = np.cumsum(eligible, axis=1, dtype=np.int32) >= k
    column = reached.argmax(axis=1)[:, None]
    return np.where(reached[:, -1], np.take_along_axis(near, column, axis=1)[:, 0], np.nan)
