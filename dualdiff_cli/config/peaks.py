"""Narrow peaks: ranges of one feature that hold many more rows than their neighbourhood.

A measurement that often has nearly the same value makes such a peak. It is much narrower than the feature, so that
neither the distances of rows in all features nor a mixture that is started from clusters of rows finds it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Peak", "find_peaks"]

LEAST_SHARE = 0.01
"""A peak holds at least this share of the different values of its feature, …"""
LEAST_VALUES = 20
"""… and at least so many: fewer stand close together by chance somewhere."""
OF_TWICE = 0.8
"""A range that is twice as wide holds so few more values that this share is inside the peak, …"""
AT_AN_END = 2 / 3
"""… and clearly more than this share, which is that of a smooth distribution next to its end."""
STANDARD_ERRORS = 3.0
"""Clearly more is so many standard errors more."""
WIDEST = 0.1
"""The largest half-width of a narrow peak, in feature units."""
NARROWEST = 1e-4
"""The smallest half-width that is looked for, in feature units."""


class Peak(NamedTuple):
    """A range of one feature.

    Attributes:
        feature: its number.
        centre, half_width: the range is centre ± half_width.

    """

    feature: int
    centre: float
    half_width: float

    def holds(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Say which rows (n, width) are inside, (n,)."""
        inside: npt.NDArray[np.bool_] = np.abs(features[:, self.feature] - self.centre) <= self.half_width
        return inside


def find_peaks(features: npt.NDArray[np.float64]) -> list[Peak]:
    """Find the narrow peaks of each feature, (n, width); those of a feature do not overlap.

    Equal values count once, because a value that repeats is a mass and no peak.
    """
    return [Peak(k, *found) for k, feature in enumerate(features.T) for found in _peaks_of(np.unique(feature))]


def _peaks_of(values: npt.NDArray[np.float64]) -> list[tuple[float, float]]:
    """Give (centre, half-width) of the peaks of ascending values (n,), the narrowest first."""
    least = max(LEAST_VALUES, LEAST_SHARE * len(values))
    found: list[tuple[float, float]] = []
    steps = int(2 * np.log2(WIDEST / NARROWEST)) + 1
    for half in WIDEST * 2.0 ** (-0.5 * np.arange(steps)[::-1]):
        inside, twice = _held(values, half), _held(values, 2 * half)
        by_chance = AT_AN_END * twice + STANDARD_ERRORS * np.sqrt(AT_AN_END * (1 - AT_AN_END) * twice)
        is_peak = (inside >= least) & (inside >= np.maximum(OF_TWICE * twice, by_chance))
        for place in np.flatnonzero(is_peak)[np.argsort(-inside[is_peak], kind="stable")]:
            centre = float(values[place])
            if all(abs(centre - other) > half + width for other, width in found):
                found.append((centre, float(half)))
    return found


def _held(values: npt.NDArray[np.float64], half: float) -> npt.NDArray[np.int64]:
    """Count the values within ±half of each of the ascending values, (n,)."""
    beyond = np.searchsorted(values, values + half, side="right")
    counts: npt.NDArray[np.int64] = beyond - np.searchsorted(values, values - half, side="left")
    return counts
