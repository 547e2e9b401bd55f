"""Numbers of which some values repeat far more often than a density allows: exact zeros, caps, exact ones.

The distribution of the column is a mixture of point masses and a continuous part. A category says which of them a row
belongs to, and the features of the continuous part say the rest. A point mass among the values of the continuous part
has its place there, so that what follows from larger values follows from larger masses, too. A mass beyond them, such
as the zero of amounts that are otherwise positive, has none: its rows get a value of the continuous part at random,
as a missing cell does, and training draws it again.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from ..arrays import FloatArray
from ..tidied import LARGEST_EXACT
from .base import namespace
from .bounded import reflect
from .category import CategoryColumn
from .choosing import fit_column
from .layout import FeatureLayout
from .rounded import coarse_steps, on_grid
from .wrapped import WrappedColumn

__all__ = ["MassesColumn"]

LEAST_SHARE = 0.01
"""A point mass holds at least this share of the rows, …"""
LEAST_COUNT = 10
"""… at least this number of rows, …"""
OF_NEIGHBOURS = 8
"""… and at least this many times as many rows as a usual value among its neighbours."""
NEIGHBOURS = 10
"""The number of distinct values on each side that a value is compared with."""
LEAST_CONTINUOUS = 30
"""The continuous part has at least so many distinct values, unless …"""
AROUND = 0.1
"""The standard deviation of the noise around the place of a mass, in feature units, so that the mass makes no peak."""
DOMINANT = 0.9
"""… one value has at least this share of the rows, and all others are exceptions."""


class MassesColumn(WrappedColumn):
    """Which of the point masses, or the continuous part, and then the value of the continuous part.

    Attributes:
        masses: the values of the point masses, ascending.
        inside: for each mass, whether it lies among the values of the continuous part.
        low, high: the least and the largest mass, where no other value lies beyond it; otherwise None.
        choice: the encoding of the place: −1 for the continuous part, and the number of the mass otherwise.
        inner: the encoding of the continuous part.

    """

    kind: Literal["masses"] = "masses"
    masses: tuple[float, ...]
    inside: tuple[bool, ...] = ()
    low: float | None
    high: float | None
    choice: CategoryColumn

    @property
    def beside(self) -> CategoryColumn:
        """The choice."""
        return self.choice

    @classmethod
    def suits(cls, column: pl.Series) -> bool:
        """Say whether some values of a numeric column are point masses, and many others are not."""
        if not column.dtype.is_numeric() or column.null_count():
            return False
        if column.dtype.is_integer() and not bool((column.cast(pl.Float64).abs() <= LARGEST_EXACT).all()):
            return False
        return bool(point_masses(column))

    @classmethod
    def fit(cls, column: pl.Series, *, standardise: bool) -> Self:
        """Find the masses, and fit an encoding to the rest; see `ColumnEncoding.fit`."""
        masses = point_masses(column)
        rest = column.filter(~column.is_in(masses))
        inner = fit_column(rest, standardise=standardise, after="masses")
        values = tuple(float(mass) for mass in masses)
        choice = CategoryColumn.fit(_choice(column, values), standardise=standardise)
        least, most = float(column.min()), float(column.max())  # type: ignore[arg-type]
        low, high = values[0] if values[0] == least else None, values[-1] if values[-1] == most else None
        ends = float(rest.min()), float(rest.max())  # type: ignore[arg-type]
        inside = tuple(ends[0] < mass < ends[1] for mass in values)
        return cls(name=column.name, masses=values, inside=inside, low=low, high=high, choice=choice, inner=inner)

    def encode(self, column: pl.Series, rng: np.random.Generator | None) -> FloatArray:
        """Encode the continuous part and the choice; see `ColumnEncoding.encode`."""
        chosen = _choice(column, self.masses)
        mass = chosen.to_numpy()
        placed = self._placed(mass)
        features = np.zeros((len(column), self.inner.width))
        features[placed] = self.inner.encode(column.filter(pl.Series(placed)), rng)
        if rng is not None:
            free, near = np.flatnonzero(mass == -1), placed & (mass != -1)
            noise = AROUND * rng.standard_normal((int(near.sum()), self.inner.width))
            numbers = FeatureLayout(self.inner.units, self.inner.discrete).numbers  # the others take few values
            features[np.ix_(near, numbers)] += noise[:, numbers]
            if len(free):
                features[~placed] = features[free[rng.integers(len(free), size=int((~placed).sum()))]]
        return np.concatenate([features, self.choice.encode(chosen, rng)], axis=1)

    def values(self, features: Any) -> Any:
        """Give the value of the chosen mass, or of the continuous part."""
        split = self.inner.width
        value = reflect(self.inner.values(features[:, :split]), self.low, self.high)
        place = self.choice.values(features[:, split:])
        arrays = namespace(features)
        for k, level in enumerate(self.choice.levels):
            if level != -1:  # an array keeps all digits of the mass, also in an exported file
                mass = arrays.asarray(float(self.masses[int(level)]), dtype=value.dtype)
                value = arrays.where(place == k, mass, value)
        return value

    def series(self, values: FloatArray) -> pl.Series:
        """Give the values the type of the continuous part, whose rounding changes no mass."""
        rest = self.inner.series(values)
        if rest.dtype.is_integer():
            return rest
        return pl.Series(self.name, np.where(np.isin(values, self.masses), values + 0.0, rest.to_numpy()))

    def unused(self, features: FloatArray) -> npt.NDArray[np.bool_]:
        """The features of the continuous part in rows at a mass beyond it; see `ColumnEncoding.unused`."""
        split = self.inner.width
        mass = np.array(self.choice.levels)[self.choice.values(features[:, split:]).astype(int)]
        inner = self.inner.unused(features[:, :split]) | ~self._placed(mass)[:, None]
        return np.pad(inner, ((0, 0), (0, self.choice.width)))

    def _placed(self, mass: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Say for the numbers of masses (n,), −1 for the continuous part, whether they have a place in that part."""
        inside = np.array([*(self.inside or [False] * len(self.masses)), True])  # −1 is the last place
        placed: npt.NDArray[np.bool_] = inside[mass]
        return placed

    @property
    def units(self) -> tuple[int, ...]:
        """The choice is a unit of its own: a mass beyond the continuous part says nothing about that part."""
        inner = self.inner.units
        return (*inner, *[max(inner, default=-1) + 1] * self.choice.width)

    @property
    def summary(self) -> str:
        """Say which values are point masses, how often they occur, and beyond which of them there is nothing."""
        shares = dict(zip(self.choice.levels, self.choice.shares, strict=True))
        listed = ", ".join(f"{mass:g} ({100 * shares.get(k, 0):.2g} %)" for k, mass in enumerate(self.masses))
        ends = [("below", self.low), ("above", self.high)]
        beyond = " or ".join(f"{side} {end:g}" for side, end in ends if end is not None)
        return f"{self.inner.summary}, with point masses at {listed}{f', none {beyond}' if beyond else ''}"


def point_masses(column: pl.Series) -> list[float | int]:
    """Find the values of a column (n,) that repeat far more often than their neighbours.

    Where many values are rounded more than the others, the neighbours of a value are those on its grid.
    """
    if steps := coarse_steps(column):
        column = column.filter(pl.Series(on_grid(column, steps[0])))
    counts = column.rename("value").value_counts().sort("value")
    values, count = counts["value"], counts["count"].to_numpy().astype(np.float64)
    dominant = np.flatnonzero(count >= DOMINANT * len(column))
    if len(dominant) and len(values) > 2 and len(column) >= LEAST_COUNT:
        return [values[int(dominant[0])]]
    padded = np.pad(count, NEIGHBOURS, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEIGHBOURS + 1)
    usual = np.nanmedian(np.delete(windows, NEIGHBOURS, axis=1), axis=1)
    least = max(LEAST_COUNT, LEAST_SHARE * len(column))
    found = np.flatnonzero((count >= least) & (count >= OF_NEIGHBOURS * usual))
    return [values[int(place)] for place in found] if len(values) - len(found) >= LEAST_CONTINUOUS else []


def _choice(column: pl.Series, masses: tuple[float, ...]) -> pl.Series:
    """Give the number of the mass that each value is, and −1 where it is none."""
    numbers = column.cast(pl.Float64)
    return numbers.replace_strict(
        pl.Series(masses, dtype=pl.Float64), pl.Series(range(len(masses))), default=-1, return_dtype=pl.Int64
    )
