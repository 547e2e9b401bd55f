"""How well each column, and each pair of columns, is reproduced.

*Columns.* For a column of numbers the distance of two samples is the Kolmogorov-Smirnov statistic, the largest
difference of the two distribution functions; for a column with few values it is the total variation, half the sum of
the differences of the shares. Both are 0 for equal and 1 for disjoint distributions, and neither depends on units. A
column of several parts, such as a gap and a value, has the largest distance of its parts.

*Pairs.* Spearman's correlation of two features is the correlation of their ranks. The association of two samples
differs by the mean over all pairs of features of different columns of the absolute difference of the correlations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..seeding import shuffled, stream
from .score import ColumnPart, Points, Reference, Score, group_count, jackknife_interval

__all__ = ["association", "column_distances", "distances_of_columns"]

GROUPS = 10
MOST_ROWS = 20_000
"""The number of rows of a side that are compared; more would hardly change the scores."""


def column_distances(real: Points, generated: Points, parts: Sequence[ColumnPart]) -> dict[str, float]:
    """Give the distance of each column between two samples, (n, d) and (m, d), by name."""
    distances: dict[str, float] = {}
    for part in parts:
        x, y = real[:, part.features], generated[:, part.features]
        distance = _total_variation(x, y) if part.discrete else _kolmogorov_smirnov(x[:, 0], y[:, 0])
        distances[part.column] = max(distance, distances.get(part.column, 0.0))
    return distances


def _kolmogorov_smirnov(x: Points, y: Points) -> float:
    """Give sup |F_x − F_y| for values (n,) and (m,)."""
    x, y = np.sort(x), np.sort(y)
    places = np.concatenate([x, y])
    F_x, F_y = (np.searchsorted(side, places, side="right") / len(side) for side in (x, y))
    return float(np.abs(F_x - F_y).max())


def _total_variation(x: Points, y: Points) -> float:
    """Give ½ Σ |p − q| over the distinct rows of x (n, w) and y (m, w)."""
    _, place = np.unique(np.concatenate([x, y]).round(6), axis=0, return_inverse=True)
    place = place.reshape(-1)
    p, q = (np.bincount(side, minlength=place.max() + 1) / len(side) for side in (place[: len(x)], place[len(x) :]))
    return float(0.5 * np.abs(p - q).sum())


def _association_difference(real: Points, generated: Points, parts: Sequence[ColumnPart]) -> float:
    """Give the mean absolute difference of the rank correlations over pairs of different columns."""
    owner = np.empty(real.shape[1], dtype=np.int64)
    numbers = {name: k for k, name in enumerate(dict.fromkeys(part.column for part in parts))}
    for part in parts:
        owner[part.features] = numbers[part.column]
    apart = owner[:, None] != owner[None, :]
    difference = np.abs(_rank_correlation(real) - _rank_correlation(generated))
    return float(difference[apart].mean())


def _rank_correlation(x: Points) -> Points:
    """Give Spearman's correlations of the features, (d, d); 0 for a feature that does not vary."""
    from scipy.stats import rankdata  # slow to import

    ranks = rankdata(x, axis=0)
    centred = ranks - ranks.mean(axis=0)
    scale = np.sqrt((centred**2).sum(axis=0))
    unit = centred / np.where(scale > 0, scale, 1.0)
    correlation: Points = unit.T @ unit
    return correlation


def distances_of_columns(reference: Reference, generated: Points, *, intervals: bool) -> Mapping[str, Score]:
    """Score the mean and the largest distance of the columns."""
    parts = reference.parts
    assert parts is not None
    x, y = _drawn(reference.real, generated, reference.seed)
    by_column = column_distances(x, y, parts)
    worst = max(by_column, key=lambda name: by_column[name])

    def mean(a: Points, b: Points) -> float:
        return float(np.mean([*column_distances(a, b, parts).values()]))

    def largest(a: Points, b: Points) -> float:
        return column_distances(a, b, parts)[worst]

    notes = (f"The column with the largest distance is '{worst}'.",)
    return {
        "column_distance": _score(mean, x, y, unit="fraction", intervals=intervals, seed=reference.seed),
        "worst_column": _score(largest, x, y, unit="fraction", intervals=intervals, seed=reference.seed, notes=notes),
    }


def association(reference: Reference, generated: Points, *, intervals: bool) -> Mapping[str, Score]:
    """Score the difference of the associations of all pairs of columns."""
    parts = reference.parts
    assert parts is not None
    if len({part.column for part in parts}) < 2:
        return {
            "association": Score(
                value=float("nan"),
                unit="correlation",
                ci95=None,
                n_real=0,
                n_generated=0,
                notes=("One column alone has no association.",),
            )
        }
    x, y = _drawn(reference.real, generated, reference.seed)

    def difference(a: Points, b: Points) -> float:
        return _association_difference(a, b, parts)

    return {"association": _score(difference, x, y, unit="correlation", intervals=intervals, seed=reference.seed)}


def _drawn(real: Points, generated: Points, seed: int) -> tuple[Points, Points]:
    x, y = (
        shuffled(side, MOST_ROWS, stream(seed, f"columns-{role}"))
        for role, side in (("real", real), ("generated", generated))
    )
    return x, y


def _score(
    metric: Callable[[Points, Points], float],
    x: Points,
    y: Points,
    *,
    unit: str,
    intervals: bool,
    seed: int,
    notes: tuple[str, ...] = (),
) -> Score:
    """Compute a metric of two samples, with the interval of a jackknife that leaves out groups of both sides."""
    value = metric(x, y)
    groups = group_count(min(len(x), len(y)), at_most=GROUPS, leaving=2) if intervals else 0
    rng = stream(seed, "columns-groups")
    group_x, group_y = (rng.permutation(np.arange(len(side)) % max(groups, 1)) for side in (x, y))
    left_out = [metric(x[group_x != j], y[group_y != j]) for j in range(groups)]
    interval = jackknife_interval(value, left_out)
    if interval is not None:
        interval = max(interval[0], 0.0), interval[1]
    return Score(value=value, unit=unit, ci95=interval, n_real=len(x), n_generated=len(y), notes=notes)
