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

    Numbers and dates are counted in bins, categories have two bars each. Shares are of all cells that are not missing.

    Args:
        real: the column among true rows, which decide the limits.
        generated: the column among generated rows.
        scale: of the column, from `scale_of`.

    """
    places, drawn = scale.place(real), scale.place(generated)
    places, drawn = places[~np.isnan(places)], drawn[~np.isnan(drawn)]
    limits = scale.limits(places)
    figure = Figure(figsize=(2.7, 1.75), layout="constrained")
    axes = figure.subplots()
    if scale.kind == "category":
        _bars(axes, places, drawn, scale)
    else:
        edges = histogram_edges(places, limits, scale)
        data, samples = (np.histogram(values, edges)[0] / max(len(values), 1) for values in (places, drawn))
        axes.stairs(data, edges, fill=True, color=DATA, alpha=0.45)
        axes.stairs(samples, edges, color=SAMPLES, lw=1.2)
        axes.set_ylim(0, 1.12 * max(data.max(), samples.max()) or 1.0)
        scale.dress(axes, "x", edges[[0, -1]])
        outside = float(np.mean((drawn < edges[0]) | (drawn > edges[-1]))) if len(drawn) else 0.0
        if outside:
            state_in_corner(axes, f"{percent(outside)} outside")
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    name_axes(axes, x=scale.name)
    return figure


def _bars(axes: Axes, places: Array, drawn: Array, scale: ColumnScale) -> None:
    k = len(scale.labels)
    edges = np.arange(k + 1) - 0.5
    data, samples = (np.histogram(values, edges)[0] / max(len(values), 1) for values in (places, drawn))
    y = np.arange(k)
    axes.barh(y - 0.2, data, 0.38, color=DATA, alpha=0.6)
    axes.barh(y + 0.2, samples, 0.38, color=SAMPLES)
    scale.dress(axes, "y", np.array([k - 0.4, -0.6]))
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


def histogram_edges(places: Array, limits: Array, scale: ColumnScale) -> Array:
    """Give the edges of bins over the limits: equal on the axis, and for whole numbers with equally many in each.

    Args:
        places: the true values, (n,), without NaN; their number decides the number of bins.
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
