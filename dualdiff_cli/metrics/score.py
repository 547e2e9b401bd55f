"""What a metric hands back, how its interval is made, and what it asks of its points.

A score without an interval and a floor cannot be read. Its **interval** says how far the value would move if the points
were drawn again. Its **floor** is what perfect samples, fresh true points of the same number, get under the same
metric: finite samples differ even when their distributions do not. The floor is the value to aim for, not zero.

An interval is centred on the value and covers the scatter of the metric *at these sample sizes*. It does not contain
the metric's finite-sample bias; the floor shows that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # Student's t; scipy.stats is slow to import

from ..errors import InputError

__all__ = ["Interval", "Points", "Score", "as_points", "check_pair", "jackknife_interval", "mean_interval"]

Points: TypeAlias = NDArray[np.float64]
"""Points, one a row, shape (n, d)."""

Interval: TypeAlias = tuple[float, float]
"""Lower and upper end of a 95 % interval, in the unit of its score."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One metric's value with all that is needed to read it.

    Attributes:
        value: the metric; nan where the points do not determine it.
        unit: "bits", "data units", "accuracy" or "fraction".
        ci95: 95 % interval of the value; None where the points are too few for one.
        floor: mean of the metric over draws of perfect samples; None where none were given.
        floor_spread: standard deviation of the metric over those draws; None for fewer than two.
        n_real: real points that the metric used; 0 where it needs none.
        n_generated: generated points that the metric used.
        counts: further whole numbers worth reporting, such as repeated points.
        notes: sentences for the reader of the value.

    """

    value: float
    unit: str
    ci95: Interval | None
    n_real: int
    n_generated: int
    floor: float | None = None
    floor_spread: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values for JSON; what is not finite becomes None."""
        return {
            "value": _finite(self.value),
            "unit": self.unit,
            "ci95": None if self.ci95 is None else [_finite(end) for end in self.ci95],
            "floor": _finite(self.floor),
            "floor_spread": _finite(self.floor_spread),
            "n_real": self.n_real,
            "n_generated": self.n_generated,
            "counts": dict(self.counts),
            "notes": list(self.notes),
        }


def _finite(number: float | None) -> float | None:
    return None if number is None or not math.isfinite(number) else float(number)


def as_points(points: NDArray[Any], *, name: str, at_least: int) -> Points:
    """Points as float64 of shape (n, d).

    Raises:
        InputError: not two-dimensional, without columns, fewer than `at_least` rows, or not finite.

    """
    array = np.ascontiguousarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] == 0:
        raise InputError(
            f"The {name} points have shape {array.shape}.", "Give one point a row and at least one column."
        )
    if len(array) < at_least:
        raise InputError(f"There are {len(array)} {name} points, too few to score.", f"Give at least {at_least}.")
    unusable = int(np.count_nonzero(~np.isfinite(array).all(axis=1)))
    if unusable:
        raise InputError(
            f"{unusable} of the {len(array)} {name} points hold NaN or infinity.", "Drop these rows before scoring."
        )
    return array


def check_pair(real: NDArray[Any], generated: NDArray[Any], *, at_least: int) -> tuple[Points, Points]:
    """Both sides as points with the same columns.

    Raises:
        InputError: see `as_points`; or the two sides differ in their number of columns.

    """
    x = as_points(real, name="real", at_least=at_least)
    y = as_points(generated, name="generated", at_least=at_least)
    if x.shape[1] != y.shape[1]:
        raise InputError(
            f"The real points have {x.shape[1]} columns, the generated ones {y.shape[1]}.",
            "Score points that have the same columns.",
        )
    return x, y


def mean_interval(values: Sequence[float], *, inflation: float = 1.0) -> Interval | None:
    """Student's 95 % interval for the mean of B independent values; None for fewer than two.

    mean ± t_{0.975, B−1}·√(inflation·s²/B), where an `inflation` above 1 makes up for values that are not independent.
    """
    B = len(values)
    if B < 2:
        return None
    half = float(stdtrit(B - 1, 0.975)) * math.sqrt(inflation * float(np.var(values, ddof=1)) / B)
    centre = float(np.mean(values))
    return centre - half, centre + half


def jackknife_interval(value: float, left_out: Sequence[float]) -> Interval | None:
    """Delete-a-group jackknife 95 % interval around `value`; None for fewer than two groups.

    With θ₍ⱼ₎ the metric without group j of g, the variance is (g − 1)/g · Σⱼ (θ₍ⱼ₎ − mean θ)², and the quantile is
    Student's with g − 1 degrees of freedom (Kott 2001, "The delete-a-group jackknife", J. Official Statistics 17(4)).
    """
    g = len(left_out)
    if g < 2:
        return None
    variance = (g - 1) ** 2 / g * float(np.var(left_out, ddof=1))
    half = float(stdtrit(g - 1, 0.975)) * math.sqrt(variance)
    return value - half, value + half
