"""How the values of a column are placed on an axis, whatever the type of the column.

Numbers stay numbers, dates become days, and the values of a column of words or of truth values become the numbers of
their categories. A missing cell becomes NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from .panels import Array, limits_of

__all__ = ["ColumnScale", "scale_of"]

MOST_CATEGORIES = 10
"""The categories that have a place of their own; all rarer ones share one place."""
MICROSECONDS_A_DAY = 86_400e6
FEW = 60
"""Up to this range the axis of whole numbers begins and ends between two of them, so that no bar is cut in half."""
LEAST_SKEWNESS = 1.5
"""The skewness of positive values from which a logarithmic axis is tried."""


DRAWABLE_DAYS = (-719_162.0, 2_932_896.0)
"""The days since 1970 that matplotlib can draw: those of the years 1 to 9999."""


@dataclass(frozen=True)
class ColumnScale:
    """Where the values of a column lie on an axis.

    Attributes:
        name: of the column.
        kind: "number", "whole" for whole numbers, "date" or "category".
        log: whether the axis is logarithmic.
        labels: the categories from place 0 on; the last one may stand for all rarer ones.
        rare: whether the last label stands for all rarer categories.

    """

    name: str
    kind: Literal["number", "whole", "date", "category"]
    log: bool = False
    labels: tuple[str, ...] = ()
    rare: bool = False

    def place(self, column: pl.Series) -> Array:
        """Turn n values into places on the axis, (n,); NaN for a missing cell."""
        if self.kind == "date":
            days = column.cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64) / MICROSECONDS_A_DAY
            return np.asarray(days.to_numpy(), np.float64)
        if self.kind == "category":
            places = {label: float(k) for k, label in enumerate(self.labels)}
            elsewhere = float(len(self.labels) - 1) if self.rare else np.nan
            words = column.cast(pl.String).to_list()
            return np.array([np.nan if word is None else places.get(word, elsewhere) for word in words], np.float64)
        return np.asarray(column.cast(pl.Float64).to_numpy(), np.float64)

    def limits(self, places: Array) -> Array:
        """Give the limits (2,) of an axis that shows these places; categories and whole numbers are not cut in half."""
        if self.kind == "category":
            return np.array([-0.6, len(self.labels) - 0.4])
        if self.log:
            low, high = limits_of(np.log10(places[places > 0]))
            return np.array([10**low, 10**high])
        limits = limits_of(places)
        if self.kind == "date":
            return np.clip(limits, *DRAWABLE_DAYS)
        if self.kind == "whole" and np.ptp(limits) < FEW:
            return np.array([np.ceil(limits[0]) - 0.6, np.floor(limits[1]) + 0.6])
        return limits

    def dress(self, axes: Axes, which: Literal["x", "y"], limits: Array) -> None:
        """Give an axis its limits (2,), its kind and its ticks."""
        axis = axes.xaxis if which == "x" else axes.yaxis
        if self.log:
            (axes.set_xscale if which == "x" else axes.set_yscale)("log")
            decades = float(np.log10(limits[1] / limits[0]))
            axis.set_major_locator(LogLocator(subs=(1, 3) if decades < 1.5 else (1,), numticks=4))
            axis.set_major_formatter(FuncFormatter(lambda value, _: _compact(value)))
            axis.set_minor_formatter(NullFormatter())
        elif self.kind == "category":
            axis.set_ticks(range(len(self.labels)), [_short(label) for label in self.labels], parse_math=False)
        elif self.kind == "date":
            locator = AutoDateLocator(minticks=2, maxticks=4)  # type: ignore[no-untyped-call]
            axis.set_major_locator(locator)
            axis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        else:
            axis.set_major_locator(MaxNLocator(3, integer=self.kind == "whole"))
        (axes.set_xlim if which == "x" else axes.set_ylim)(float(limits[0]), float(limits[1]))


def scale_of(column: pl.Series) -> ColumnScale | None:
    """Choose the scale of a column from its true values; None where it has none that can be placed on an axis."""
    column = column.drop_nulls()
    dtype, name = column.dtype, column.name
    if column.is_empty():
        return None
    if dtype == pl.Boolean:
        return ColumnScale(name, "category", labels=("false", "true"))
    if dtype in (pl.Date, pl.Datetime):
        return ColumnScale(name, "date")
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return _categories(column)
    if not dtype.is_numeric():
        return None
    values = column.cast(pl.Float64).to_numpy()
    values = np.asarray(values[np.isfinite(values)], np.float64)
    if not len(values):
        return None
    whole = np.array_equal(values, np.round(values))
    return ColumnScale(name, "whole" if whole else "number", log=_wants_log(values))


def _categories(column: pl.Series) -> ColumnScale:
    words = column.cast(pl.String).rename("word").value_counts(sort=True)["word"].to_list()
    rare = len(words) > MOST_CATEGORIES
    shown = words[: MOST_CATEGORIES - 1] if rare else words
    labels = (*shown, f"{len(words) - len(shown)} others") if rare else tuple(shown)
    return ColumnScale(column.name, "category", labels=labels, rare=rare)


def _wants_log(values: Array) -> bool:
    """Say whether positive values are skewed, and less than half as skewed on a logarithmic axis."""
    if values.min() <= 0 or values.max() < 20 * values.min():
        return False
    in_range = values / values.max()  # the skewness does not depend on the unit, and the cube of 1e200 is no number
    skewness, of_logarithms = (pl.Series(each).skew() or 0.0 for each in (in_range, np.log(values)))
    return skewness > LEAST_SKEWNESS and abs(of_logarithms) < skewness / 2


def _compact(value: float) -> str:
    """Write 20000 as 20k and 3000000 as 3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 10 * size or value == size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _short(label: str) -> str:
    return label if len(label) <= 16 else f"{label[:15]}…"
