"""Does every mode get its share? These scores are for distributions whose probability sits in known, separate parts.

A mode has a centre c_i, a radius r_ia for each axis a, and a weight w_i, which is the share of the samples that the
mode should hold. A sample belongs to the mode whose centre is nearest in units of the radii of that mode,
argmin_i max_a |x_a − c_ia| / r_ia, wherever the sample lies. A sample is *off-mode* where that distance exceeds 1. With
p_i the share of the samples that mode i holds:

    mode_coverage   share of the modes that hold at least a fifth of their weight, p_i ≥ 0.2·w_i
    off_mode_share  share of the samples that lie outside the radii of every mode
    mode_share_tv   total variation between held shares and weights, ½ Σ_i |p_i − w_i|; 0 is perfect, 1 the worst

A divergence hardly changes when a mode is missing, which is why these scores stand beside the divergences. Perfect
samples have an off-mode share and a total variation above zero too; the floor says how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..seeding import stream
from .score import Points, Reference, Score, as_points, wilson_interval

if TYPE_CHECKING:
    from ..data import Modes

__all__ = ["COVERED_FROM", "mode_scores", "scores_of_modes"]

COVERED_FROM = 0.2
"""A mode counts as covered where its share of the samples is at least this part of its weight."""

# Samples × modes that are compared at a time, which bounds memory at about 8 MB an axis.
_CHUNK = 1_000_000


def mode_scores(samples: NDArray[Any], modes: Modes, *, resamples: int = 1000, seed: int = 0) -> dict[str, Score]:
    """Give the three scores by name, each of unit "fraction".

    The share of covered modes and the total variation get 95 % intervals from multinomial resamples of the counts:
    percentiles for the share, which moves in steps, and ±1.96 standard deviations for the total variation, whose
    resamples are biased upwards. The off-mode share gets Wilson's binomial interval.

    Args:
        samples: shape (m, d).
        modes: centres (k, d), radii (k, d) and weights (k,), also as a plain tuple; the weights are scaled to sum to
            one.
        resamples: number of resamples of the bootstrap.
        seed: seed of the bootstrap.

    Raises:
        InputError: no samples, NaN or infinity, or modes whose shapes or values do not fit.

    """
    points = as_points(samples, name="generated", at_least=1)
    centres, radii, w = _checked(modes, d=points.shape[1])
    m, k = len(points), len(w)
    nearest, distance = _nearest(points, centres, radii)
    counts = np.bincount(nearest, minlength=k)
    off = int(np.count_nonzero(distance > 1))
    p = counts / m
    # (resamples, k): the shares that other samples of this size would have held
    redrawn = stream(seed, "modes-bootstrap").multinomial(m, p, size=resamples) / m

    enough = COVERED_FROM * w * (1 - 1e-9)  # rounding must not leave a mode uncovered that holds a fifth
    covered = int(np.count_nonzero(p >= enough))
    low, high = np.quantile(np.mean(redrawn >= enough, axis=1), [0.025, 0.975])
    tv = float(np.abs(p - w).sum() / 2)
    half = 1.96 * float(np.std(np.abs(redrawn - w).sum(axis=1) / 2))

    def fraction(value: float, lower: float, upper: float, **found: int) -> Score:
        interval = (max(float(lower), 0.0), min(float(upper), 1.0))
        return Score(value=value, unit="fraction", ci95=interval, n_real=0, n_generated=m, counts=found)

    return {
        "mode_coverage": fraction(covered / k, low, high, modes=k, covered=covered),
        "off_mode_share": fraction(off / m, *wilson_interval(off / m, m), off_mode=off),
        "mode_share_tv": fraction(tv, tv - half, tv + half, modes=k),
    }


def _checked(modes: Modes, *, d: int) -> tuple[Points, Points, Points]:
    centres, radii, weights = (np.asarray(part, dtype=np.float64) for part in modes)
    k = len(weights) if weights.ndim == 1 else 0
    if k == 0 or centres.shape != (k, d) or radii.shape != (k, d):
        raise InputError(
            f"The modes have centres {centres.shape}, radii {radii.shape} and weights {weights.shape} "
            f"for samples of {d} columns.",
            f"Give centres and radii of shape (k, {d}) and weights of shape (k,).",
        )
    if not (np.isfinite(centres).all() and (radii > 0).all() and (weights > 0).all()):
        raise InputError(
            "The centre of a mode is not finite, or a radius or weight is not positive.", "Correct the modes."
        )
    return centres, radii, weights / weights.sum()


def _nearest(points: Points, centres: Points, radii: Points) -> tuple[NDArray[np.intp], Points]:
    """Find the nearest centre of each sample and the distance in units of the radii of that mode, each (m,)."""
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


def scores_of_modes(reference: Reference, generated: Points, *, intervals: bool) -> Mapping[str, Score]:
    """Score how generated points are spread over the known modes; the intervals cost nothing."""
    del intervals
    assert reference.modes is not None
    return mode_scores(generated, reference.modes, seed=reference.seed)
