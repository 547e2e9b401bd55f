"""The picture of data beside samples.

Both sets of points are drawn within the same limits and in equal number (see `panels`). A histogram is normalised by
all points, also by those outside the limits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ...errors import InputError
from .panels import (
    MAX_POINTS,
    Array,
    as_matrix,
    counted,
    dot_handle,
    draw_dots,
    in_view,
    legend_above,
    name_axes,
    panel_size,
    percent,
    state_outside,
    subset,
    view_of,
)
from .style import DATA, INK, SAMPLES, styled

__all__ = ["data_beside_samples"]

MAX_COLUMNS = 6  # in a pair plot; with more, the panels are too small to read


@styled
def data_beside_samples(real: npt.ArrayLike, generated: npt.ArrayLike, *, columns: Sequence[str], title: str) -> Figure:
    """Draw data and samples so that they can be compared by eye.

    For d = 1 two histograms lie over each other, for d = 2 two scatter panels stand side by side. For d > 2 the lower
    triangle shows all pairs of the first six columns with both sets overlaid, and the diagonal shows histograms.

    Args:
        real: shape (n, d), in the data's own units; the limits of all axes come from them.
        generated: shape (m, d), in the same units; points that are not finite count as outside the limits.
        columns: the d column names.
        title: the line over the figure.

    Raises:
        InputError: the two sets differ in d, one of them is empty, or a column of ``real`` has no finite value.

    """
    real, generated = as_matrix(real, "data"), as_matrix(generated, "samples")
    d = real.shape[1]
    if generated.shape[1] != d:
        raise InputError(
            f"The samples have {generated.shape[1]} columns, the data {d}.", "Give two sets with the same columns."
        )
    if len(columns) != d:
        raise ValueError(f"{len(columns)} column names for {d} columns")
    k = min(d, MAX_COLUMNS)
    real, generated = real[:, :k], generated[:, :k]
    view = view_of(real)
    if d == 1:
        figure = Figure(figsize=(4.8, 3.0), layout="constrained")
        axes = figure.subplots()
        _densities(axes, real[:, 0], generated[:, 0], view[0])
        axes.set_ylabel("density")
        name_axes(axes, x=columns[0])
        legend_above(axes, _key(real, generated, view))
    elif d == 2:
        figure = _two_panels(real, generated, view, columns)
    else:
        figure = _pairs(real, generated, view, columns)
    figure.suptitle(title, x=0.01, ha="left", parse_math=False)
    return figure


def _two_panels(real: Array, generated: Array, view: Array, columns: Sequence[str]) -> Figure:
    width, height, aspect = panel_size(view, side=3.2)
    figure = Figure(figsize=(2 * width + 0.8, height + 0.95), layout="compressed")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    count = min(len(real), len(generated), MAX_POINTS)
    for axes, points, name, colour in zip(panels, (real, generated), ("data", "samples"), (INK, SAMPLES), strict=True):
        drawn = points[subset(len(points), count)]
        draw_dots(axes, drawn[in_view(drawn, view)], colour)
        axes.set(xlim=view[0], ylim=view[1], aspect=aspect)
        axes.set_title(counted(name, len(points), count))
        name_axes(axes, x=columns[0])
        state_outside(axes, points, view)
    name_axes(panels[0], y=columns[1])
    return figure


def _pairs(real: Array, generated: Array, view: Array, columns: Sequence[str]) -> Figure:
    k = len(view)
    side = max(1.15, 4.8 / k)
    figure = Figure(figsize=(side * k + 0.7, side * k + 0.7), layout="constrained")
    grid = figure.subplots(k, k, sharex="col", squeeze=False)
    count = min(len(real), len(generated), MAX_POINTS // 8)  # because the panels are small
    both = np.concatenate([real[subset(len(real), count)], generated[subset(len(generated), count)]])
    colours = np.repeat(to_rgba_array([DATA, SAMPLES]), count, axis=0)
    mixed = subset(2 * count, 2 * count)  # in random order, so that neither set hides the other
    both, colours = both[mixed], colours[mixed]
    for row in range(k):
        for column in range(k):
            axes = grid[row, column]
            if column > row:
                axes.set_axis_off()
            elif column == row:
                _densities(axes, real[:, row], generated[:, row], view[row])
                axes.set_yticks([])
                axes.spines["left"].set_visible(False)
            else:
                pair = [column, row]
                seen = in_view(both[:, pair], view[pair])
                draw_dots(axes, both[seen][:, pair], colours[seen])
                axes.set(xlim=view[column], ylim=view[row])
                axes.yaxis.set_major_locator(MaxNLocator(3))
                axes.tick_params(labelleft=column == 0)
            axes.xaxis.set_major_locator(MaxNLocator(3))
        name_axes(grid[k - 1, row], x=columns[row])
        if row:
            name_axes(grid[row, 0], y=columns[row])
    figure.align_labels()
    legend = grid[0, 1].legend(handles=_key(real, generated, view), loc="upper left", borderaxespad=0)
    legend.set_in_layout(False)
    if len(columns) > k:
        legend.set_title(f"first {k} of {len(columns)} columns")
        legend.set_alignment("left")
    return figure


def _densities(axes: Axes, real: Array, generated: Array, limits: Array) -> None:
    edges = _edges(real, limits)
    width = edges[1] - edges[0]
    data, samples = (np.histogram(values, edges)[0] / (len(values) * width) for values in (real, generated))
    axes.stairs(data, edges, fill=True, color=DATA, alpha=0.45)
    axes.stairs(samples, edges, color=SAMPLES, lw=1.1)
    axes.set(xlim=limits, ylim=(0, 1.08 * max(data.max(), samples.max()) or 1.0))


def _edges(real: Array, limits: Array) -> Array:
    """Return the edges of equal bins over the limits.

    If the data are whole numbers, every bin covers equally many of them; else the histogram would look like a comb.
    """
    low, high = limits
    bins = int(np.clip(2 * len(real) ** (1 / 3), 8, 60))  # Rice rule
    finite = real[np.isfinite(real)]
    if np.array_equal(finite, np.round(finite)):
        step = np.ceil((high - low) / 60)
        return np.asarray(np.arange(np.floor(low) - 0.5, high + step, step))
    return np.linspace(low, high, bins + 1)


def _key(real: Array, generated: Array, view: Array) -> list[Line2D]:
    """Make the legend entries of the two sets: the name, the size, and the share outside the limits."""
    labels = []
    for name, points in (("data", real), ("samples", generated)):
        outside = 1 - float(np.mean(in_view(points, view)))
        labels.append(f"{name} · {len(points):,} points" + (f" · {percent(outside)} outside" if outside else ""))
    return [dot_handle(colour, label) for colour, label in zip((DATA, SAMPLES), labels, strict=True)]
