"""The picture of one column: how its values are spread in the data and among the samples."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from .panels import Array, name_axes, percent, state_in_corner
from .scales import ColumnScale
from .style import DATA, SAMPLES, styled

__all__ = ["histogram_edges", "marginal"]

MOST_BINS = 40


@styled
def marginal(real: pl.Series, generated: pl.Series, scale: ColumnScale) -> Figure:
    """Draw the shares of the values of one column: data as a grey area, samples as a blue line over it.

    Numbers and dates are counted in bins, categories have two bars each. Shares are of all cells that are not missing;
    the share of the samples that has no place among the limits or the categories of the data stands in the corner.

    Args:
        real: the column among true rows, which decide the limits.
        generated: the column among generated rows.
        scale: of the column, from `scale_of`.

    """
    places, drawn = (scale.place(column.drop_nulls()) for column in (real, generated))
    edges = histogram_edges(places, scale.limits(places), scale)
    data, samples = (np.histogram(values, edges)[0] / max(len(values), 1) for values in (places, drawn))
    figure = Figure(figsize=(2.7, 1.75), layout="constrained")
    axes = figure.subplots()
    if scale.kind == "category":
        _bars(axes, data, samples, scale)
    else:
        axes.stairs(data, edges, fill=True, color=DATA, alpha=0.45)
        axes.stairs(samples, edges, color=SAMPLES, lw=1.2)
        axes.set_ylim(0, 1.12 * max(data.max(), samples.max()) or 1.0)
        scale.dress(axes, "x", edges[[0, -1]])
    inside = (drawn >= edges[0]) & (drawn <= edges[-1])  # a category that the data lack has no place, but NaN
    if not inside.all():
        words = "other values" if scale.kind == "category" else "outside"
        share = percent(float(np.mean(~inside)))
        state_in_corner(axes, f"{share} {words}", top=scale.kind != "category")  # the longest bar is at the top
    of_shares = axes.xaxis if scale.kind == "category" else axes.yaxis
    of_shares.set_major_locator(MaxNLocator(3))
    of_shares.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    name_axes(axes, x=scale.name)
    return figure


def _bars(axes: Axes, data: Array, samples: Array, scale: ColumnScale) -> None:
    """Draw two bars for each of k categories, from their shares (k,) in the data and among the samples."""
    y = np.arange(len(scale.labels))
    axes.barh(y - 0.2, data, 0.38, color=DATA, alpha=0.6)
    axes.barh(y + 0.2, samples, 0.38, color=SAMPLES)
    scale.dress(axes, "y", np.array([len(y) - 0.4, -0.6]))
    axes.tick_params(axis="y", length=0)


def histogram_edges(places: Array, limits: Array, scale: ColumnScale) -> Array:
    """Give the edges of bins over the limits: equal on the axis, and for whole numbers with equally many in each.

    Args:
        places: the true values, (n,); their number decides the number of bins.
        limits: of the axis, (2,).
        scale: of the column.

    """
    bins = int(np.clip(2 * len(places) ** (1 / 3), 8, MOST_BINS))  # Rice rule
    low, high = limits
    if scale.log:
        return np.geomspace(low, high, bins + 1)
    if scale.kind in ("whole", "category"):
        first, last = np.ceil(low), np.floor(high)
        step = max(1.0, np.ceil((last - first + 1) / MOST_BINS))
        count = max(1.0, np.ceil((last - first + 1) / step))
        return np.asarray(first - 0.5 + step * np.arange(count + 1), np.float64)
    return np.linspace(low, high, bins + 1)
