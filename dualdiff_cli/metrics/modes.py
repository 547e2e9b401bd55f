"""Does every mode get its share? For distributions whose probability sits in known, separate parts.

A mode is a centre c_i with a radius r_ia for each axis a and a weight w_i, its due share. A sample belongs to the mode
whose centre is nearest in units of that mode's radii, argmin_i max_a |x_a − c_ia| / r_ia, wherever it lies; it is
*off-mode* where that distance exceeds 1. With p_i the share of samples that mode i holds:

    mode_coverage   share of the modes that hold at least a fifth of their due share, p_i ≥ 0.2·w_i
    off_mode_share  share of the samples that lie outside every mode's radii
    mode_share_tv   total variation between the shares held and due, ½ Σ_i |p_i − w_i|; 0 is perfect, 1 the worst

A mode can be missed while a divergence hardly moves, which is why these stand beside it. Perfect samples score an
off-mode share and a total variation above zero too; the floor says how much.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .score import Points, Score, as_points

__all__ = ["COVERED_FROM", "ModesLike", "mode_scores"]

COVERED_FROM = 0.2
"""Part of its due share from which on a mode counts as covered."""

# Samples × modes compared at a time, so that memory stays bounded (about 8 MB an axis).
_CHUNK = 1_000_000


ModesLike: TypeAlias = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
"""Centres (k, d), positive radii (k, d) and positive weights (k,), in this order; a named tuple will do."""


def mode_scores(samples: NDArray[Any], modes: ModesLike, *, resamples: int = 1000, seed: int = 0) -> dict[str, Score]:
    """The three scores by name, each of unit "fraction".

    The share of modes and the total variation get 95 % intervals from multinomial resamples of the counts (percentiles
    for the former, which moves in steps; ±1.96 standard deviations for the latter, whose resamples are biased upwards),
    the off-mode share Wilson's binomial interval.

    Args:
        samples: shape (m, d).
        modes: centres (k, d), radii (k, d) and weights (k,); the weights are scaled to sum to one.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        InputError: no samples, NaN or infinity, or modes whose shapes or values do not fit.

    """
    from scipy.stats import binomtest  # slow to import, and only this needs it

    points = as_points(samples, name="generated", at_least=1)
    centres, radii, w = _checked(modes, d=points.shape[1])
    m, k = len(points), len(w)
    nearest, distance = _nearest(points, centres, radii)
    counts = np.bincount(nearest, minlength=k)
    off = int(np.count_nonzero(distance > 1))
    p = counts / m
    # (resamples, k): what other samples of this size would have held
    redrawn = np.random.default_rng(seed).multinomial(m, p, size=resamples) / m

    enough = COVERED_FROM * w * (1 - 1e-9)  # a mode that holds a fifth to rounding is covered
    covered = int(np.count_nonzero(p >= enough))
    low, high = np.quantile(np.mean(redrawn >= enough, axis=1), [0.025, 0.975])
    tv = float(np.abs(p - w).sum() / 2)
    half = 1.96 * float(np.std(np.abs(redrawn - w).sum(axis=1) / 2))
    wilson = binomtest(off, m).proportion_ci(method="wilson")

    def fraction(value: float, lower: float, upper: float, **found: int) -> Score:
        interval = (max(float(lower), 0.0), min(float(upper), 1.0))
        return Score(value=value, unit="fraction", ci95=interval, n_real=0, n_generated=m, counts=found)

    return {
        "mode_coverage": fraction(covered / k, low, high, modes=k, covered=covered),
        "off_mode_share": fraction(off / m, wilson.low, wilson.high, off_mode=off),
        "mode_share_tv": fraction(tv, tv - half, tv + half, modes=k),
    }


def _checked(modes: ModesLike, *, d: int) -> tuple[Points, Points, Points]:
    centres, radii, weights = (np.asarray(part, dtype=np.float64) for part in modes)
    k = len(weights) if weights.ndim == 1 else 0
    if k == 0 or centres.shape != (k, d) or radii.shape != (k, d):
        raise InputError(
            f"The modes have centres {centres.shape}, radii {radii.shape} and weights {weights.shape} "
            f"for samples of {d} columns.",
            f"Give centres and radii of shape (k, {d}) and weights of shape (k,).",
        )
    if not (np.isfinite(centres).all() and (radii > 0).all() and (weights > 0).all()):
        raise InputError("A mode's centre is not finite, or its radius or weight not positive.", "Mend the modes.")
    return centres, radii, weights / weights.sum()


def _nearest(points: Points, centres: Points, radii: Points) -> tuple[NDArray[np.intp], Points]:
    """Index of the nearest centre and its distance, in units of that mode's radii, each of shape (m,)."""
    nearest = np.empty(len(points), dtype=np.intp)
    distance = np.empty(len(points))
    step = max(_CHUNK // len(centres), 1)
    for start in range(0, len(points), step):
        part = slice(start, start + step)
        scaled = np.zeros((len(points[part]), len(centres)))
        for x, c, r in zip(points[part].T, centres.T, radii.T, strict=True):
            np.maximum(scaled, np.abs(x[:, None] - c) / r, out=scaled)
        nearest[part] = scaled.argmin(axis=1)
        distance[part] = scaled.min(axis=1)
    return nearest, distance
