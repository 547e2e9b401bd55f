"""Are generated rows closer to the training rows than new rows would be? Memorisation and copies.

Distances are Euclidean, in units of the standard deviation of each column of the training rows.

**Memorisation.** For a generated row, let T be the number of training rows and H the number of held-out rows, which the
model has never seen. Fresh rows, training rows and held-out rows come from one distribution and can be exchanged with
each other. The row nearest to a fresh row therefore is a held-out row with probability H/(T + H), whatever the
distribution. With h the share of generated rows to which a held-out row is nearest,

    memorisation = 1 − h·(T + H)/(2H)

is 1/2 for fresh rows, exactly in expectation, and 1 for copies of training rows. For H = T the score is the share of
generated rows that are nearer to a training row than to any of as many unseen rows; the factor carries this share over
to other numbers of held-out rows. Comparing with H of the training rows instead would not do: a copy of a training row
would count only where the H drawn rows contain its original, and with a tenth of the rows held out a model that copies
every row would score 0.55. Where training and held-out rows are equally near, as happens among whole numbers, each of
them is the nearest with equal probability.

**Copies.** A generated row is a copy where it equals a training row or lies less than a third as far from the nearest
training row as from the second nearest (Yoon, Choi, Kwon and Ryu 2023, "Diffusion probabilistic models generalize when
they fail to memorize", ICML workshop on structured probabilistic inference). Fresh rows meet this by chance too; the
floor is the share of the held-out rows that meet it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..seeding import shuffled, stream
from .neighbours import MANY_COLUMNS, Distances, Labels, kth_distances, search_tree
from .score import (
    Points,
    Reference,
    Score,
    as_points,
    column_scale,
    group_count,
    jackknife_interval,
    median_rows,
    wilson_interval,
)

__all__ = ["closeness_scores", "closeness_to_training"]

_COPY = 1 / 3
_TIE = 1e-9
"""Relative difference up to which two distances are equal but for rounding."""
_COORDINATES_IN_MANY_COLUMNS = 2_000_000_000
"""Coordinates that are compared when the columns are many, which bounds the number of generated rows that are used."""
_FEWEST_ROWS = 1_000
"""Generated rows that are used however many the columns are."""


def closeness_scores(
    real: NDArray[Any],
    generated: NDArray[Any],
    *,
    training: NDArray[Any],
    groups: int = 10,
    max_points: int = 10_000,
    seed: int = 0,
) -> dict[str, Score]:
    """Give the scores "memorisation" and "copies", each of unit "fraction".

    The 95 % interval of memorisation is that of a jackknife which leaves out a group of generated and a group of
    held-out rows together, widened to Wilson's binomial interval of h where that is wider. The interval of copies is
    Wilson's. The training rows are taken as given in both: the scores are about these very rows.

    Args:
        real: held-out rows, (H, d), which the model has never seen.
        generated: shape (m, d); at most `max_points` are used, and fewer in many columns.
        training: all training rows, (T, d). A score of a part of them would miss the copies of the others.
        groups: number of groups of the jackknife, at most; 0 for no interval.
        max_points: largest number of generated rows, and of held-out rows behind the floor of copies.
        seed: seed of the draws and groups.

    Raises:
        InputError: fewer than 2 rows on a side, NaN or infinity, or different numbers of columns.

    """
    h = as_points(real, name="real", at_least=2)
    t = as_points(training, name="training", at_least=2, columns=h.shape[1])
    g = as_points(generated, name="generated", at_least=2, columns=h.shape[1])
    origin = median_rows(t)
    scale = column_scale(t - origin)
    t, h, g = ((side - origin) / scale for side in (t, h, g))
    if t.shape[1] > MANY_COLUMNS:
        max_points = min(max_points, max(_COORDINATES_IN_MANY_COLUMNS // max(t.size, h.size), _FEWEST_ROWS))
    g = shuffled(g, max_points, stream(seed, "closeness-generated"))
    behind_floor = shuffled(h, max_points, stream(seed, "closeness-held-out"))
    places, repeats = np.unique(t, axis=0, return_counts=True)
    tree = search_tree(places)
    nearest = _two_nearest(tree, g)
    return {
        "memorisation": _memorisation(tree, repeats, nearest[:, 0], h, g, groups=groups, seed=seed),
        "copies": _copies(nearest, _two_nearest(tree, behind_floor), T=len(t)),
    }


def _two_nearest(tree: cKDTree, rows: Points) -> Distances:
    """Find the distances of each row to the two nearest places, (n, 2); infinite where there is one place only."""
    distances: Distances = tree.query(rows, k=2, workers=-1)[0]
    return distances


def _copies(nearest: Distances, of_held_out: Distances, *, T: int) -> Score:
    """Score the generated rows from their two nearest distances, (m, 2), and those of the held-out rows, (H, 2)."""
    # Where all training rows are equal there is no second place, and only equal rows are copies.
    copied, by_chance = (
        int(np.count_nonzero((d[:, 0] == 0) | (np.isfinite(d[:, 1]) & (d[:, 0] < _COPY * d[:, 1]))))
        for d in (nearest, of_held_out)
    )
    m, H = len(nearest), len(of_held_out)
    return Score(
        value=copied / m,
        unit="fraction",
        ci95=wilson_interval(copied / m, m),
        n_real=H,
        n_generated=m,
        floor=by_chance / H,
        counts={"training": T, "copies": copied, "equal": int(np.count_nonzero(nearest[:, 0] == 0))},
        notes=("The floor is the share of copies among the held-out rows.",),
    )


def _memorisation(
    tree: cKDTree, repeats: Labels, to_training: Distances, held_out: Points, rows: Points, *, groups: int, seed: int
) -> Score:
    """Score the rows, (m, d), from their distances to the nearest training row, (m,).

    `tree` holds the distinct training rows and `repeats` how many training rows there are at each of them.
    """
    T, H, m = int(repeats.sum()), len(held_out), len(rows)
    groups = group_count(min(H, m), at_most=groups, leaving=1)
    rng = stream(seed, "closeness-groups")
    group_h, group_g = (rng.permutation(np.arange(n) % max(groups, 1)) for n in (H, m))
    to_held_out = kth_distances(held_out, rows, group_h, k=1, p=2, groups=groups)
    unseen = np.where(to_held_out < to_training, 1.0, 0.0)  # (groups + 1, m): probability that the nearest is unseen
    tied = np.abs(to_held_out - to_training) <= _TIE * to_training
    some = np.flatnonzero(tied.any(axis=0))
    if some.size:
        reach = to_training[some] * (1 + _TIE)
        seen_near = _number_within(tree, repeats[:, None], rows[some], reach)
        near = _number_within(*_by_place(held_out, group_h, groups=max(groups, 1)), rows[some], reach)
        total = near.sum(axis=1)
        remaining = np.vstack([*(total - near[:, j] for j in range(groups)), total])
        share = remaining / (remaining + seen_near.sum(axis=1))
        unseen[:, some] = np.where(tied[:, some], share, unseen[:, some])

    def score(h: float, H: int) -> float:
        return 1 - h * (T + H) / (2 * H)

    h = float(unseen[-1].mean())
    left_out = [
        score(float(unseen[j, group_g != j].mean()), int(np.count_nonzero(group_h != j))) for j in range(groups)
    ]
    jackknife = jackknife_interval(score(h, H), left_out)
    interval = None
    if jackknife is not None:
        low, high = (score(end, H) for end in reversed(wilson_interval(h, m)))
        interval = max(min(jackknife[0], low), 0.0), min(max(jackknife[1], high), 1.0)
    return Score(
        value=max(score(h, H), 0.0),
        unit="fraction",
        ci95=interval,
        n_real=H,
        n_generated=m,
        floor=0.5,
        counts={"training": T},
    )


def _number_within(tree: cKDTree, weights: Labels, queries: Points, radius: Distances) -> Labels:
    """Sum the weights, (n, w), of the points within a radius of each query, (q, w); each query has such a point."""
    found = tree.query_ball_point(queries, radius, workers=-1)
    starts = np.cumsum([0, *(len(rows) for rows in found[:-1])])
    sums: Labels = np.add.reduceat(weights[np.concatenate(found).astype(np.intp)], starts, axis=0)
    return sums


def _by_place(rows: Points, group: Labels, *, groups: int) -> tuple[cKDTree, Labels]:
    """Give a tree of the distinct rows, and the number of rows at each by group, (places, groups)."""
    places, place = np.unique(rows, axis=0, return_inverse=True)
    counts = np.bincount(place.reshape(-1) * groups + group, minlength=len(places) * groups)
    return search_tree(places), counts.reshape(-1, groups)


def closeness_to_training(reference: Reference, generated: Points, *, intervals: bool) -> Mapping[str, Score]:
    """Score how close generated rows are to the training rows, beside the held-out rows."""
    assert reference.training is not None
    groups = 10 if intervals else 0
    return closeness_scores(reference.real, generated, training=reference.training, groups=groups, seed=reference.seed)
