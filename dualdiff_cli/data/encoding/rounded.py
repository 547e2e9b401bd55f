"""Numbers that were rounded, some more than others: prices in full tens, ages by fives, measures in whole units.

Of values that are written with one decimal, nearly all may be whole numbers. A smooth density over all decimals would
give as many rows to 56.3 as to 56. So a category says to which grid a value was rounded. The other features say the
value as before, but with noise over the distance of neighbouring values on this grid, so that no value makes a peak;
decoding rounds to the grid that was chosen.

A value on a coarse grid may also lie there by chance. The values beside the grid say how many do, and training draws
which ones, so that generated rows hit the grid by chance as often.

Rounding of this kind is called heaping (Heitjan & Rubin 1991, "Ignorability and coarse data").
"""

from __future__ import annotations

import math
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field, field_validator, model_validator

from ... import seeding
from ..arrays import FloatArray
from ..tidied import LARGEST_EXACT
from .base import namespace
from .bounded import bounds_of, span_in_words
from .category import CategoryColumn
from .choosing import fit_column
from .integer import step_of
from .wrapped import WrappedColumn

__all__ = ["RoundedColumn", "coarse_steps", "on_grid"]

MULTIPLES = (2, 4, 5, 10, 15, 20, 25, 30, 50, 60, 100, 200, 250, 500, 1000, 2500, 5000, 10_000, 100_000, 1_000_000)
"""A coarse step is one of these times the step of which all values are multiples."""
MOST_GRIDS = 3
"""The number of coarse grids that are looked for."""
OF_OTHERS = 3.0
"""A value on a grid is a heap if it has this many times as many rows as the values around it on average, …"""
LEAST_HEAPS = 5
"""… and a grid is taken if it has at least so many heaps, …"""
LEAST_ROWS = 20
"""… with so many rows beside those of the largest heap, …"""
LEAST_PART = 0.5
"""… which are at least this part of all rows on the grid beside those of the largest heap, …"""
LEAST_INFORMATION = 0.1
"""… and if a row's place on the grid or beside it tells so much, in nats, against evenly spread values."""

Places = npt.NDArray[np.int64]


class RoundedColumn(WrappedColumn):
    """On which grid a value lies, and the value.

    Attributes:
        steps: the distances of neighbouring values on the coarse grids, descending, in the column's unit.
        unit: the step of which all values are multiples.
        low, high: the bounds of the values; None where there is none.
        origins: for values on each coarse grid, and on no coarser one, how probably they were rounded to each of the
            coarse grids, or, the last number, to none.
        choice: the encoding of the number of the grid that a value was rounded to, which is len(steps) for none; None
            where all training rows lie on the one coarse grid.
        inner: the encoding of the values with noise.

    """

    kind: Literal["rounded"] = "rounded"
    steps: tuple[float, ...] = Field(min_length=1, max_length=MOST_GRIDS)
    unit: float = Field(gt=0)
    low: float | None
    high: float | None
    origins: tuple[tuple[float, ...], ...]
    choice: CategoryColumn | None

    @field_validator("steps")
    @classmethod
    def _check(cls, steps: tuple[float, ...]) -> tuple[float, ...]:
        """Refuse steps that are no distances."""
        if min(steps) <= 0:
            raise ValueError("a step is not positive")
        return steps

    @model_validator(mode="after")
    def _check_origins(self) -> Self:
        """Refuse probabilities that belong to other grids."""
        n = len(self.steps)
        if len(self.origins) != n or any(len(row) != n + 1 or min(row) < 0 for row in self.origins):
            raise ValueError("the probabilities do not suit the steps")
        return self

    @property
    def beside(self) -> CategoryColumn | None:
        """The choice."""
        return self.choice

    @classmethod
    def suits(cls, column: pl.Series) -> bool:
        """Say whether many values of a numeric column are rounded more than the others."""
        return bool(coarse_steps(column))

    @classmethod
    def fit(cls, column: pl.Series, *, standardise: bool) -> Self:
        """Find the grids, and fit an encoding to the values with noise; see `ColumnEncoding.fit`."""
        steps, unit = coarse_steps(column), unit_of(column)
        assert unit is not None
        rng = seeding.stream(0, f"fit the rounded {column.name}")
        origins = _origins(np.bincount(_places(column, steps, unit), minlength=len(steps) + 1), steps, unit)
        grids = _grids(column, steps, unit, origins, rng)
        noisy = _with_noise(column, steps, unit, grids, rng)
        inner = fit_column(noisy, standardise=standardise, after="rounded")
        several = len(np.unique(grids)) > 1
        choice = CategoryColumn.fit(pl.Series(column.name, grids), standardise=standardise) if several else None
        low, high = bounds_of(column)
        written = tuple(map(tuple, origins.tolist()))
        return cls(
            name=column.name, steps=steps, unit=unit, low=low, high=high, origins=written, choice=choice, inner=inner
        )

    def encode(self, column: pl.Series, rng: np.random.Generator | None) -> FloatArray:
        """Encode the value with noise, and its grid; see `ColumnEncoding.encode`."""
        grids, noisy = _places(column, self.steps, self.unit), column
        if rng is not None:
            grids = _grids(column, self.steps, self.unit, np.array(self.origins), rng)
            noisy = _with_noise(column, self.steps, self.unit, grids, rng)
        features = self.inner.encode(noisy, rng)
        if self.choice is None:
            return features
        return np.concatenate([features, self.choice.encode(pl.Series(self.name, grids), rng)], axis=1)

    def values(self, features: Any) -> Any:
        """Round each value to the grid that was chosen."""
        split, arrays = self.inner.width, namespace(features)
        value = self.inner.values(features[:, :split])
        levels = (0,) if self.choice is None else self.choice.levels
        place = value * 0 if self.choice is None else self.choice.values(features[:, split:])
        for k, level in enumerate(levels):
            if int(level) < len(self.steps):
                step = arrays.asarray(float(self.steps[int(level)]), dtype=value.dtype)
                value = arrays.where(place == k, (value / step).round() * step, value)
        if self.low is not None:
            value = value.clip(min=self.low)
        return value if self.high is None else value.clip(max=self.high)

    def log_slope(self, features: FloatArray) -> FloatArray | None:
        """Give the slope of the values with noise, where all values lie on one grid.

        The noise on a step of m units covers 2·⌊(m−1)/2⌋ + 1 units, which is one less than m where m is even. The slope
        has this share too, so that log p(value) is that of values spread over their whole step.
        """
        slope = self.inner.log_slope(features)
        if self.choice is not None or slope is None:
            return None
        step = self.steps[0]
        return slope + math.log(round(step / self.unit) / (2 * _reach(step, self.unit) + 1))

    @property
    def summary(self) -> str:
        """Say what the bounds are, which steps there are, and how many values lie on each grid."""
        kind = self.inner.summary.partition(",")[0]
        low, high = ("" if end is None else f"{end:g}" for end in (self.low, self.high))
        bounds = f", {span_in_words(low, high)}" if low or high else ""
        if self.choice is None:
            return f"{kind}{bounds}, in steps of {self.steps[0]:g}"
        shares = dict(zip(map(int, self.choice.levels), self.choice.shares, strict=True))
        listed = ", ".join(f"{step:g} ({100 * shares.get(k, 0):.2g} %)" for k, step in enumerate(self.steps))
        return f"{kind}{bounds}, in steps of {self.unit:g}, many values in steps of {listed}"


def coarse_steps(column: pl.Series) -> tuple[float, ...]:
    """Find the distances of neighbouring values on the coarse grids of a column (n,), descending; empty if none."""
    unit = unit_of(column)
    if unit is None:
        return ()
    values, counts = np.unique(_in_units(column, unit), return_counts=True)
    found: list[int] = []
    while len(found) < MOST_GRIDS and counts.sum() > LEAST_ROWS:
        information, multiple = max((_information(values, counts, m), m) for m in MULTIPLES)
        if information < LEAST_INFORMATION:
            break
        found.append(multiple)
        beside = values % multiple != 0
        values, counts = values[beside], counts[beside]
    return tuple(multiple * unit for multiple in sorted(found, reverse=True))


def on_grid(column: pl.Series, step: float) -> npt.NDArray[np.bool_]:
    """Say which values (n,) are multiples of a coarse step, (n,)."""
    unit = unit_of(column)
    assert unit is not None
    on: npt.NDArray[np.bool_] = _in_units(column, unit) % round(step / unit) == 0
    return on


def unit_of(column: pl.Series) -> float | None:
    """Give the step of which all values (n,) are multiples; None where there is none, or values are too large."""
    if not column.dtype.is_numeric() or column.null_count() or not len(column):
        return None
    if column.dtype.is_float():
        return step_of(column)
    return 1.0 if bool((column.cast(pl.Float64).abs() <= LARGEST_EXACT).all()) else None


def _in_units(column: pl.Series, unit: float) -> Places:
    # Scored values may be beyond 64 bits, and noise is added to what is given here.
    return np.rint(column.cast(pl.Float64).to_numpy() / unit).clip(-(2.0**62), 2.0**62).astype(np.int64)


def _information(values: Places, counts: Places, multiple: int) -> float:
    """Give what it tells of a value whether it is a multiple, in nats a row; 0 where the grid is not taken.

    The largest heap is left out: a point mass is no grid.

    Args:
        values, counts: the distinct values in units, ascending, and how often they occur, both (k,).
        multiple: the step of the grid in units.

    """
    cells = np.floor_divide(values + multiple // 2, multiple)
    _, cell = np.unique(cells, return_inverse=True)
    is_on = values % multiple == 0
    on, off = np.bincount(cell, weights=counts * is_on), np.bincount(cell, weights=counts * ~is_on)
    heaps = (on > 1) & (on >= OF_OTHERS * off / (multiple - 1))
    rows = on.sum() - on.max()
    in_heaps = on[heaps].sum() - on.max()
    if heaps.sum() < LEAST_HEAPS or in_heaps < LEAST_ROWS or in_heaps < LEAST_PART * rows:
        return 0.0
    share, even = rows / (rows + off.sum()), 1 / multiple
    if share <= even:
        return 0.0
    beside = (1 - share) * np.log((1 - share) / (1 - even)) if share < 1 else 0.0
    return float(share * np.log(share / even) + beside)


def _places(column: pl.Series, steps: tuple[float, ...], unit: float) -> Places:
    """Give the number of the coarsest grid on which each value lies, and len(steps) where there is none."""
    return _coarsest(_in_units(column, unit), [round(step / unit) for step in steps])


def _coarsest(k: Places, multiples: list[int]) -> Places:
    places = np.full(len(k), len(multiples))
    for number in reversed(range(len(multiples))):
        places[k % multiples[number] == 0] = number
    return places


def _origins(counts: Places, steps: tuple[float, ...], unit: float) -> FloatArray:
    """Give for values on grid j the probabilities that they were rounded to grid i or to none, (grids, grids + 1).

    Of the values that were rounded to grid i, a known share lies on a coarser grid j by chance. So the rows that lie on
    no coarser grid than i say how many were rounded to i, and thus how many of the rows on j were.

    Args:
        counts: the number of training rows on each grid, and on no coarser one, and on no coarse grid.
        steps, unit: see `RoundedColumn`.

    """
    multiples = [*(round(step / unit) for step in steps), 1]
    period = np.arange(int(np.lcm.reduce(multiples)))
    left, origins = counts.astype(np.float64), np.zeros((len(steps), len(steps) + 1))
    for i in reversed(range(len(multiples))):
        own = _coarsest(period[period % multiples[i] == 0], multiples)
        shares = np.bincount(own, minlength=len(multiples)) / len(own)
        rounded = left[i] / shares[i] if shares[i] else 0.0
        by_chance = np.minimum(rounded * shares[:i], left[:i])
        left[:i] -= by_chance
        origins[:i, i] = by_chance
        if i < len(steps):
            origins[i, i] = left[i]
    probabilities: FloatArray = origins / np.maximum(origins.sum(axis=1, keepdims=True), 1e-300)
    return probabilities


def _grids(
    column: pl.Series, steps: tuple[float, ...], unit: float, origins: FloatArray, rng: np.random.Generator
) -> Places:
    """Draw which grid each value was rounded to, of the grids that it lies on.

    Of the values whose coarsest grid is j, a share s_ji lies on grid i, too. If p_ji of these values were rounded to
    grid i (the origins), a value on both grids was with a probability in proportion to p_ji / s_ji.
    """
    multiples = np.array([*(round(step / unit) for step in steps), 1])
    period = np.arange(int(np.lcm.reduce(multiples)))
    of_period = _coarsest(period, multiples[:-1].tolist())
    shares = np.stack([_is_on(period[of_period == j], multiples).mean(axis=0) for j in range(len(steps))])
    in_proportion = np.divide(origins, shares, out=np.zeros_like(origins), where=shares > 0)
    none = np.eye(len(multiples))[-1:]
    k = _in_units(column, unit)
    cumulative = (
        np.concatenate([in_proportion, none])[_coarsest(k, multiples[:-1].tolist())] * _is_on(k, multiples)
    ).cumsum(1)
    grids: Places = (rng.random((len(k), 1)) * cumulative[:, -1:] > cumulative).sum(axis=1).clip(max=len(steps))
    return grids


def _is_on(k: Places, multiples: Places) -> npt.NDArray[np.bool_]:
    """Say of values in units (n,) which of the grids (g,) they lie on, (n, g)."""
    on: npt.NDArray[np.bool_] = k[:, None] % multiples == 0
    return on


def _reach(step: float, unit: float) -> int:
    """Give how many units a value may be moved so that it stays the nearest value on the grid of a step."""
    return (round(step / unit) - 1) // 2


def _with_noise(
    column: pl.Series, steps: tuple[float, ...], unit: float, grids: Places, rng: np.random.Generator
) -> pl.Series:
    """Move each value by a random multiple of the unit, so that it stays the nearest value on its grid."""
    reach = np.array([*(_reach(step, unit) for step in steps), 0])[grids]
    moved = (_in_units(column, unit) + rng.integers(-reach, reach, endpoint=True)) * unit
    return pl.Series(column.name, moved).cast(column.dtype if column.dtype.is_float() else pl.Int64)
