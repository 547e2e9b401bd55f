"""Kullback-Leibler divergence between two samples, from nearest-neighbour distances.

For x_1…x_n ~ P and y_1…y_m ~ Q in d dimensions, let ρ_k(i) be the distance from x_i to its k-th neighbour among the
other x, and ν_k(i) the distance from x_i to its k-th neighbour among the y. In Chebyshev distance the two densities at
x_i are about k / ((n − 1)(2ρ_k)^d) and k / (m (2ν_k)^d). The mean logarithm of their ratio estimates D(P‖Q) (Wang,
Kulkarni and Verdú 2009, "Divergence estimation for multidimensional densities via k-nearest-neighbor distances", IEEE
Trans. Inf. Theory 55(5), eq. (5)):

    D(P‖Q) ≈ (d/n) Σ_i log2(ν_k(i) / ρ_k(i)) + log2(m / (n − 1))

Where points coincide, a distance is zero and there is no density. Such an x_i sits on an atom, where the ratio of the
densities is the ratio of the two shares of points at that place (Gao, Kannan, Oh and Viswanath 2017, "Estimating mutual
information for discrete-continuous mixtures"). The term of such an x_i is log2((c_x/n) / (c_y/m)), with c_x and c_y the
number of points of each side that equal x_i. On purely discrete data the estimate becomes the plug-in divergence. An
atom that y misses altogether makes the true divergence infinite; c_y is taken as 1 there to keep the value finite.

Few rows or many columns make the estimate worthless in two ways, and `kl_divergence` then gives nan and says why:

* The interval is wider than ±1 bit and does not lie above zero. One bit is the divergence of a model that spreads its
  samples over twice the volume of the data, so such a score cannot tell a good model from one that is half wrong.
* The whole interval lies below zero by more than 1 + |log2(m/n)| bits. A divergence is never negative. Where the
  distances hardly depend on the number of points, as between narrow and far clusters, ν_k ≈ ρ_k and the term log2(m/n)
  is all that is left of the estimate. An error beyond that says that the neighbours are too far away for the density to
  be constant among them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..seeding import stream, subsample
from .neighbours import MANY_COLUMNS, Distances, Labels, kth_distances, searchable_count
from .score import Interval, Points, Reference, Score, check_pair, group_count, jackknife_interval

__all__ = ["kl_divergence", "kl_generated_real", "kl_published", "kl_real_generated"]

Counts = NDArray[np.int64]

_GROUPS = 10
_RESOLVED = 1.0
"""Bits that a score has to resolve: it says nothing beyond half the width of an interval or an error as large."""


def kl_divergence(
    real: NDArray[Any],
    generated: NDArray[Any],
    *,
    reverse: bool = False,
    k: int = 5,
    groups: int = _GROUPS,
    seed: int = 0,
    workers: int = -1,
) -> Score:
    """Estimate D(real ‖ generated) in bits, with a delete-a-group jackknife interval.

    Both sides are split at random into groups. Group j of both sides is left out together, so that the interval
    contains the scatter of either side. All left-out estimates come from the neighbours of one query. Over 200 fresh
    pairs of samples from each of seven pairs of distributions in one to five dimensions (n = 4,000, m = 1,000) the
    intervals contained the estimator's mean in 96 to 100 % of the cases. The intervals are about right where the
    distributions differ clearly and up to 1.6 times as wide as necessary where they hardly differ.

    Args:
        real: shape (n, d); P, or Q with `reverse`.
        generated: shape (m, d); Q, or P with `reverse`.
        reverse: estimate D(generated ‖ real) instead.
        k: the neighbour whose distance is used.
        groups: number of groups of the jackknife, at most; 0 for no interval.
        seed: seed of the split into groups; the value does not depend on the seed.
        workers: threads of the neighbour search; −1 for all cores.

    Returns:
        The score; its value is nan where the points are too few, see the text at the head of this module. `counts`
        holds "repeated_real" and "repeated_generated", the points that equal another point of their own side, "copied",
        the generated points that equal a real one, and "atoms", the points of P whose term is a ratio of shares.

    Raises:
        InputError: fewer than k + 1 points, NaN or infinity, or different numbers of columns.

    """
    x, y = check_pair(real, generated, at_least=k + 1)
    if reverse:
        x, y = y, x
    x, y = x + 0.0, y + 0.0  # −0.0 and 0.0 are the same place
    n, m, d = len(x), len(y), x.shape[1]
    possible = group_count(min(n, m), at_most=groups or _GROUPS, leaving=k + 1)
    groups = possible if groups else 0
    rng = stream(seed, "divergence-groups")
    group_x, group_y = (rng.permutation(np.arange(size) % max(groups, 1)) for size in (n, m))
    at_x, at_y, place = _places(x, y, group_x, group_y, groups=max(groups, 1))
    equal_x, equal_y = at_x[place[:n]], at_y[place[:n]]  # (n, groups): points that equal x_i, by group
    c_x, c_y = equal_x.sum(axis=1), equal_y.sum(axis=1)

    # Inside a large atom ρ_k is 0 whichever group is left out; a search there would be slow and find nothing else.
    searched = np.flatnonzero(c_x - (equal_x.max(axis=1) if groups else 0) <= k)
    rho, nu = np.zeros((groups + 1, n)), np.zeros((groups + 1, n))
    if searched.size:
        how: dict[str, Any] = {"k": k, "p": np.inf, "groups": groups, "workers": workers}
        rho[:, searched] = kth_distances(x, x[searched], group_x, own=searched, **how)
        nu[:, searched] = kth_distances(y, x[searched], group_y, **how)

    estimates = [_mean_term(rho[-1], nu[-1], c_x, c_y, n=n, m=m, d=d)]
    for j in range(groups):
        kept = group_x != j
        c_x_kept, c_y_kept = (c_x - equal_x[:, j])[kept], (c_y - equal_y[:, j])[kept]
        n_kept, m_kept = int(kept.sum()), int((group_y != j).sum())
        estimates.append(_mean_term(rho[j, kept], nu[j, kept], c_x_kept, c_y_kept, n=n_kept, m=m_kept, d=d))

    atoms = int(np.count_nonzero((rho[-1] == 0) | (nu[-1] == 0)))
    at_real, at_generated = (at_y, at_x) if reverse else (at_x, at_y)
    interval = jackknife_interval(estimates[0], estimates[1:])
    notes = [f"{atoms} of {n} points coincide with others; their share replaces a density there."] if atoms else []
    fault = _fault(estimates[0], interval, possible=possible > 0, from_sizes=abs(math.log2(m / n)))
    if fault:
        notes.append(
            f"{min(n, m)} rows a side are too few for this score in {d} column{'s' if d > 1 else ''}: {fault}. "
            "Hold out more rows, or read the other scores."
        )
    return Score(
        value=math.nan if fault else estimates[0],
        unit="bits",
        ci95=None if fault else interval,
        n_real=len(real),
        n_generated=len(generated),
        counts={**_coincidences(at_real.sum(axis=1), at_generated.sum(axis=1)), "atoms": atoms},
        notes=tuple(notes),
    )


def _fault(value: float, interval: Interval | None, *, possible: bool, from_sizes: float) -> str | None:
    """Say why an estimate means nothing; None for an estimate that can be read.

    `from_sizes` are the bits by which unequal sizes alone may shift the estimate, |log2(m/n)|.
    """
    if not possible:
        return "the scatter of the estimate cannot be determined"
    low, high = interval or (value, value)
    if high < -_RESOLVED - from_sizes:
        return "the estimate is far below zero, and no divergence is negative"
    if low <= 0 and (high - low) / 2 > _RESOLVED:
        return f"the estimate is uncertain by ±{(high - low) / 2:.2g} bits"
    return None


def _coincidences(real: Counts, generated: Counts) -> dict[str, int]:
    """Count the points that are not alone at their place, from the points of each side at each place."""
    return {
        "repeated_real": int(real[real > 1].sum()),
        "repeated_generated": int(generated[generated > 1].sum()),
        "copied": int(generated[real > 0].sum()),
    }


def _places(x: Points, y: Points, group_x: Labels, group_y: Labels, *, groups: int) -> tuple[Counts, Counts, Labels]:
    """Count the points of x and of y at each distinct place, by group.

    Returns:
        Two tables of shape (places, groups), and the place of each point of x and then of y, (n + m,).

    """
    unique, place = np.unique(np.concatenate([x, y]), axis=0, return_inverse=True)
    place = place.reshape(-1)
    cells = len(unique) * groups
    at_x = np.bincount(place[: len(x)] * groups + group_x, minlength=cells).reshape(-1, groups)
    at_y = np.bincount(place[len(x) :] * groups + group_y, minlength=cells).reshape(-1, groups)
    return at_x, at_y, place


def _mean_term(rho: Distances, nu: Distances, c_x: Counts, c_y: Counts, *, n: int, m: int, d: int) -> float:
    """Give the estimate in bits from the distances and counts of the points of x, each of shape (n,)."""
    atom = (rho == 0) | (nu == 0)
    log_nu_rho = np.log2(nu[~atom]) - np.log2(rho[~atom])
    from_distances = d * float(log_nu_rho.sum()) + len(log_nu_rho) * float(np.log2(m / (n - 1)))
    from_shares = float(np.log2((c_x[atom] / n) / (np.maximum(c_y[atom], 1) / m)).sum())
    return (from_distances + from_shares) / n


def kl_real_generated(reference: Reference, generated: Points, *, intervals: bool) -> Mapping[str, Score]:
    """Score D(held-out ‖ generated), which is large where the samples miss a part of the data."""
    return {"kl_real_generated": _divergence(reference.real, reference, generated, intervals=intervals)}


def kl_generated_real(reference: Reference, generated: Points, *, intervals: bool) -> Mapping[str, Score]:
    """Score D(generated ‖ held-out), which is large where the samples lie outside the data."""
    score = _divergence(reference.real, reference, generated, reverse=True, intervals=intervals)
    return {"kl_generated_real": score}


def kl_published(reference: Reference, generated: Points, *, intervals: bool) -> Mapping[str, Score]:
    """Score D(training points ‖ generated), the paper's definition."""
    assert reference.published_real is not None
    return {"kl_published": _divergence(reference.published_real, reference, generated, intervals=intervals)}


def _divergence(
    truth: Points, reference: Reference, generated: Points, *, reverse: bool = False, intervals: bool
) -> Score:
    """Estimate a divergence from as many points as the columns allow.

    In more than five columns both sides are drawn down to equal size. The estimator assumes that a distance to the k-th
    of N neighbours goes with N^(−1/d), which does not hold for the distances that occur in many columns. With equal
    sizes the error cancels: for two samples from one Gaussian in 80 columns the mean estimate is −5.3 bits from 400 and
    2,000 points, and 0.1 ± 0.1 bits from 400 and 400.
    """
    if any(part.discrete for part in reference.parts or ()):
        note = (
            "A table with categories, gaps, point masses, several roundings of a column or unequally frequent weekdays "
            "has no density, so this divergence is not computed."
        )
        return Score(
            value=math.nan, unit="bits", ci95=None, n_real=len(truth), n_generated=len(generated), notes=(note,)
        )
    rows = {"true": truth, "generated": generated}
    d = generated.shape[1]
    if d > MANY_COLUMNS:
        count = min(len(truth), len(generated), searchable_count(d) or len(truth))
        rows = {
            role: subsample(side, count, seed=reference.seed, role=f"divergence-{role}") for role, side in rows.items()
        }
    if reference.resolution is not None:
        # Distances between repeated whole numbers would be zero, so each value is spread over its unit interval.
        for role, side in rows.items():
            noise = stream(reference.seed, f"divergence-spread-{role}").uniform(-0.5, 0.5, side.shape)
            rows[role] = side + reference.resolution * noise
    groups = _GROUPS if intervals else 0
    return kl_divergence(rows["true"], rows["generated"], reverse=reverse, groups=groups, seed=reference.seed)
