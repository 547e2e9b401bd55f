"""Angles and other periodic numbers: a point on the circle, whose two coordinates are the features.

Only a schema makes a column an angle: numbers from 0 to 360 may just as well be an amount. Where the name says so, too,
`AngleColumn.offered` lets a command offer it.
"""

from __future__ import annotations

import math
import re
from typing import Any, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field

from ..arrays import FloatArray
from .base import ColumnEncoding, namespace
from .integer import DecimalColumn, dequantise, step_of
from .whole import as_whole_numbers

__all__ = ["AngleColumn"]

PERIODS = (7.0, 12.0, 24.0, 60.0, 360.0, 366.0)
"""The periods of whole numbers that are tried: days of the week, months, hours, minutes, degrees and days."""
PERIODS_OF_NUMBERS = (2 * math.pi, 24.0, 360.0)
"""The periods of other numbers: radians, hours and degrees."""
WORDS = {
    *("angle", "azimuth", "bearing", "dir", "direction", "heading", "phase", "phi", "theta", "winddir"),
    *("lon", "longitude", "hour", "weekday", "month"),
}
"""Words in the name of a column that say that its numbers may be periodic, …"""
COVERED = 0.8
"""… if they cover at least this share of a period."""


class AngleColumn(ColumnEncoding):
    """φ = 2π(x − low)/period, with the features √2 cos φ and √2 sin φ.

    Attributes:
        low: where the period begins; no value of the training rows is less.
        period: the difference of two values that mean the same.
        whole_numbers: whether the column holds whole numbers.
        step: the distance of neighbouring values, in the column's unit; None where there is no such grid.

    """

    kind: Literal["angle"] = "angle"
    low: float
    period: float = Field(gt=0)
    whole_numbers: bool = False
    step: float | None = Field(default=None, gt=0)

    on_request = True

    @property
    def width(self) -> int:
        """Two coordinates."""
        return 2

    @property
    def whole(self) -> bool:
        """Whether the column holds whole numbers."""
        return self.whole_numbers

    @classmethod
    def suits(cls, column: pl.Series) -> bool:
        """Say whether the column holds numbers."""
        return column.dtype.is_numeric() and not column.null_count()

    @classmethod
    def fit(cls, column: pl.Series, *, standardise: bool) -> Self:
        """Take the common period that the range suggests, from 0, symmetric about 0, or from about the least value."""
        least, most, whole = float(column.min()), float(column.max()), column.dtype.is_integer()  # type: ignore[arg-type]
        # Whole numbers such as 0 to 360 and −180 to 180 may have both ends of a period, as other numbers may.
        both_ends = any(most - least == p and least in (0, -p / 2) for p in PERIODS)
        distinct = whole and not both_ends
        reach = most - least + distinct
        period = next((p for p in (PERIODS if whole else PERIODS_OF_NUMBERS) if reach <= p * 1.000001), reach)
        low = 0.0 if least >= 0 else -period / 2
        # The two ends of a period are one value: of other whole numbers one end would come back as the other.
        beyond = most > (low + period) * 1.000001 or (distinct and most == low + period)
        if beyond or least < low * 1.000001:
            below = float(math.floor(least))
            low = below if least < 0 and most < below + period else least
        step = 1.0 if whole else step_of(column)
        return cls(name=column.name, low=low, period=period, whole_numbers=whole, step=step)

    @classmethod
    def offered(cls, column: pl.Series) -> Self | None:
        """Give the encoding if the name and the range of a column (n,) say that it may be an angle; otherwise None."""
        words = re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", column.name).lower())
        if not cls.suits(column) or WORDS.isdisjoint(words) or column.n_unique() < 2:
            return None
        angle, span = cls.fit(column, standardise=True), float(column.max()) - float(column.min())  # type: ignore[arg-type]
        periods = PERIODS if angle.whole_numbers else PERIODS_OF_NUMBERS
        return angle if angle.period in periods and span + angle.whole_numbers >= COVERED * angle.period else None

    def encode(self, column: pl.Series, rng: np.random.Generator | None) -> FloatArray:
        """Compute √2 cos φ and √2 sin φ; see `ColumnEncoding.encode`."""
        x = dequantise(column.to_numpy(), rng, self._step or 0.0)
        phi = 2 * math.pi * (x - self.low) / self.period
        return math.sqrt(2) * np.stack([np.cos(phi), np.sin(phi)], axis=1)

    def values(self, features: Any) -> Any:
        """Compute x in [low, low + period)."""
        arrays = namespace(features)
        whole = arrays.asarray(2 * math.pi, dtype=features.dtype)  # with all its digits, also in an exported file
        turn = _arc(features[:, 1], features[:, 0]) / whole
        x = self.low + self.period * (turn - arrays.floor(turn))
        first = self.low
        if self._step is not None:
            x = (x / self._step).round() * self._step
            # Radians begin between two multiples of their step.
            first = arrays.ceil(arrays.asarray(self.low / self._step - 1e-6, dtype=features.dtype)) * self._step
        # Rounding may have reached the end of the period, which is its beginning.
        return arrays.where((x < self.low + self.period) & (x >= first), x, first)

    def series(self, values: FloatArray) -> pl.Series:
        """Give the values as numbers or whole numbers."""
        if self.whole_numbers:
            return as_whole_numbers(self.name, values)
        return pl.Series(self.name, values if self.step is None else values.round(DecimalColumn.DECIMALS) + 0.0)

    @property
    def _step(self) -> float | None:
        """The step, which files of earlier versions lack for whole numbers."""
        return 1.0 if self.step is None and self.whole_numbers else self.step

    @property
    def summary(self) -> str:
        """Say what the period and the step are."""
        step = "" if self.step is None or self.whole_numbers else f", in steps of {self.step:g}"
        return f"angle from {self.low:g} to {self.low + self.period:g}{step}"


def _arc(y: Any, x: Any) -> Any:
    """Compute the angle of points (x, y), both (n,) float64, in radians.

    ONNX Runtime has the arc tangent in float32 only. One step of Newton's method in float64 gives the other digits.
    """
    arrays = namespace(x)
    coarse = arrays.arctan2(arrays.asarray(y, dtype=arrays.float32), arrays.asarray(x, dtype=arrays.float32))
    coarse = arrays.asarray(coarse, dtype=x.dtype)
    radius = arrays.sqrt(x * x + y * y).clip(min=1e-30)
    return coarse + (y * arrays.cos(coarse) - x * arrays.sin(coarse)) / radius
