"""What a metric takes and what it gives back: the true points, a score with its interval, and the floor.

A score cannot be read without an interval and a floor. The *interval* says how far the value would move if the points
were drawn again. The *floor* is the score of perfect samples, which are fresh true points in the same number. Finite
samples differ from each other even when their distributions are equal, so the value to aim for is the floor and not
zero.

An interval is centred on the value and covers the scatter of the metric at the given sample sizes. The interval does
not contain the bias of the metric at these sizes; the floor shows the bias. A metric whose value would mean nothing,
because the rows are too few, gives the value nan and a note that says what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # Student's t; scipy.stats takes long to import

from ..errors import InputError

if TYPE_CHECKING:
    from ..data import Modes

__all__ = [
    "NORMAL_95",
    "ColumnPart",
    "Interval",
    "Points",
    "Reference",
    "Score",
    "as_points",
    "check_pair",
    "column_scale",
    "group_count",
    "jackknife_interval",
    "mean_interval",
    "median_rows",
    "wilson_interval",
]

Points: TypeAlias = NDArray[np.float64]
"""Points of shape (n, d), one point a row."""

NORMAL_95 = 1.959963984540054
"""The standard normal quantile of 97.5 %, which gives a two-sided interval of 95 %."""

Interval: TypeAlias = tuple[float, float]
"""Lower and upper end of a 95 % interval, in the unit of its score."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """The value of one metric together with all that is needed to read the value.

    Attributes:
        value: the value of the metric; nan where the points do not determine it, and then a note says why.
        unit: "bits", "accuracy", "AUC", "R²", "fraction", "correlation" or "balls" (those that a point lies in, divided
            by k); of a transport distance the unit of the columns, which is "data units" or "standard deviations" but
            for a caller who names another; and of a loss what it measures, such as "mean squared error of the noise".
        ci95: 95 % interval of the value; None where the points are too few for an interval or none was asked for.
        floor: score of perfect samples; None where it is not known.
        floor_spread: standard deviation of the metric over several draws of perfect samples. Of one draw it is the
            standard deviation that the interval of the value says; None where that is unknown, and where the floor is
            exact.
        n_real: number of held-out points that the metric used; 0 where the metric needs none.
        n_generated: number of generated points that the metric used.
        counts: further whole numbers worth reporting, such as the number of repeated points.
        notes: sentences that a reader of the value should know.

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
        """Give plain Python values for JSON; a number that is not finite becomes None."""
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


@dataclass(frozen=True)
class ColumnPart:
    """Features that belong together in a score.

    Attributes:
        column: the name of the column.
        start, width: which features.
        discrete: whether the features take few values.

    """

    column: str
    start: int
    width: int
    discrete: bool

    @property
    def features(self) -> slice:
        """Which features."""
        return slice(self.start, self.start + self.width)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """All that generated points are compared with; every metric of the registry takes one.

    Attributes:
        real: true points that took no part in the training, (n, d).
        training: the points that the model was trained on, (T, d); None where they are not known.
        published_real: the training points for the divergence as the paper defines it; None where it is not wanted.
        modes: centres, radii and weights of the modes; None where the distribution has no known modes.
        resolution: for each column the distance of neighbouring values, 0 for a column of real numbers, (d,).
        parts: which features belong to which column of a table; None where the points are no table.
        target: the column that is to be predicted from the others; None where no column is.
        unused: says for points (n, d) which of their features do not count, (n, d), such as the value of a gap; None
            where all of them do.
        unit: the unit of the columns and therefore of the transport distances.
        seed: seed of everything random in the metrics.

    """

    real: Points
    training: Points | None = None
    published_real: Points | None = None
    modes: Modes | None = None
    resolution: Points | None = None
    parts: Sequence[ColumnPart] | None = None
    target: str | None = None
    unused: Callable[[Points], NDArray[np.bool_]] | None = None
    unit: str = "data units"
    seed: int = 0


def as_points(points: NDArray[Any], *, name: str, at_least: int, columns: int | None = None) -> Points:
    """Convert points to float64 of shape (n, d).

    Args:
        points: the points.
        name: what messages call the points.
        at_least: smallest number of points.
        columns: the number of columns that the real points have; None where there is nothing to compare with.

    Raises:
        InputError: the array is not two-dimensional, has no columns or a wrong number of columns, has fewer than
            `at_least` rows, or holds a value that is not finite.

    """
    array = np.ascontiguousarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] == 0:
        raise InputError(
            f"The {name} points have shape {array.shape}.", "Give one point a row and at least one column."
        )
    if columns is not None and array.shape[1] != columns:
        raise InputError(
            f"The real points have {columns} columns, the {name} points {array.shape[1]}.",
            "Score points that have the same columns.",
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
    """Convert both sides to points with the median of the real points as the origin.

    A shift that both sides share changes no metric, but it costs digits: for timestamps near 1.7e9, squares and
    projections of the columns themselves would keep no digit of a distance of one. `median_rows` says why subtracting
    the median costs no digit.

    Raises:
        InputError: see `as_points`; or the two sides differ in their number of columns.

    """
    x = as_points(real, name="real", at_least=at_least)
    y = as_points(generated, name="generated", at_least=at_least, columns=x.shape[1])
    origin = median_rows(x)
    return x - origin, y - origin


def median_rows(points: Points) -> Points:
    """Give the middle value of each column, (d,).

    The value is one that occurs in the column and not the mean of two. The difference of two float64 numbers between
    half and twice each other is exact (Sterbenz's lemma), so subtracting this value from a column far from zero rounds
    nothing. The mean would have to be rounded first, and a single outlier could move it far away from all other values.
    """
    middle: Points = np.partition(points, len(points) // 2, axis=0)[len(points) // 2]
    return middle


def column_scale(points: Points) -> Points:
    """Give the standard deviation of each column, (d,), and 1 for a constant column."""
    scale: Points = points.std(axis=0)
    return np.where(scale > 0, scale, 1.0)


def group_count(n: int, *, at_most: int, leaving: int) -> int:
    """Give the number of groups into which a jackknife can divide n points.

    There are `at_most` groups, and for fewer points than that one group for each point. The result is 0 where deleting
    a group would leave fewer than `leaving` points.
    """
    groups = min(at_most, n)
    return groups if groups >= 2 and n - math.ceil(n / groups) >= leaving else 0


def mean_interval(values: Sequence[float], *, inflation: float = 1.0) -> Interval | None:
    """Give Student's 95 % interval for the mean of B independent values; None for fewer than two.

    mean ± t_{0.975, B−1}·√(inflation·s²/B), where an `inflation` above 1 makes up for values that are not independent.
    """
    B = len(values)
    if B < 2:
        return None
    half = float(stdtrit(B - 1, 0.975)) * math.sqrt(inflation * float(np.var(values, ddof=1)) / B)
    centre = float(np.mean(values))
    return centre - half, centre + half


def jackknife_interval(value: float, left_out: Sequence[float]) -> Interval | None:
    """Give the delete-a-group jackknife's 95 % interval around `value`; None for fewer than two groups.

    With θ₍ⱼ₎ the metric without group j of g, the variance is (g − 1)/g · Σⱼ (θ₍ⱼ₎ − mean θ)², and the quantile is
    Student's with g − 1 degrees of freedom (Kott 2001, "The delete-a-group jackknife", J. Official Statistics 17(4)).
    """
    g = len(left_out)
    if g < 2:
        return None
    variance = (g - 1) ** 2 / g * float(np.var(left_out, ddof=1))
    half = float(stdtrit(g - 1, 0.975)) * math.sqrt(variance)
    return value - half, value + half


def wilson_interval(share: float, n: int) -> Interval:
    """Give Wilson's 95 % interval for a binomial share p of n trials (Wilson 1927, J. Am. Stat. Assoc. 22, 209).

    (p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n) with z = 1.96. Unlike p ± z·√(p(1 − p)/n), the interval has a
    width for p = 0 and p = 1 too.
    """
    z = NORMAL_95
    centre, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # At p = 0 and p = 1 the ends are 0 and 1 but for rounding.
    low, high = ((centre + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
    return max(min(low, share), 0.0), min(max(high, share), 1.0)
