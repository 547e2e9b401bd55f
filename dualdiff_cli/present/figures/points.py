"""The picture of data beside samples.

Both sets of points are drawn within the same limits and in equal number (see `panels`). A histogram is normalised by
all points, also by those outside the limits. Columns of any type can be drawn (see `scales`); where a column has few
values, the dots are moved a little so that they do not hide each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...seeding import stream
from .marginals import histogram_edges
from .panels import (
    MAX_POINTS,
    Array,
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
)
from .scales import ColumnScale, scale_of
from .style import DATA, INK, SAMPLES, styled

__all__ = ["MAX_COLUMNS", "rows_beside_samples"]

MAX_COLUMNS = 6  # in a pair plot; with more, the panels are too small to read
FEW_VALUES = 12
"""Up to this range, the dots of whole numbers are moved apart."""
JITTER = 0.25
"""Dots are moved by at most this part of the distance of two categories or whole numbers."""


def rows_beside_samples(real: pl.DataFrame, generated: pl.DataFrame, *, title: str) -> Figure | None:
    """Draw true rows and generated rows of a table so that they can be compared by eye.

    For one column two histograms lie over each other, for two columns two scatter panels stand side by side. For more
    columns the lower triangle shows all pairs of the first six columns with both sets overlaid, and the diagonal shows
    histograms. Columns whose type has no place on an axis are left out. Rows with a missing cell in a drawn column are
    left out, too, and the title says so.

    Args:
        real, generated: with the same columns.
        title: the line over the figure.

    Returns:
        The figure; None where no column can be drawn, or no row without missing cells is left on one side.

    """
    scales = [scale for name in real.columns if (scale := scale_of(real[name])) is not None]
    shown = [scale.name for scale in scales[:MAX_COLUMNS]]
    whole = [rows.drop_nulls(shown) for rows in (real, generated)]
    if not shown or not all(rows.height for rows in whole):
        return None
    if any(rows.height < before.height for rows, before in zip(whole, (real, generated), strict=True)):
        title = " · ".join(filter(None, [title, "rows with missing cells are left out"]))
    placed = [np.column_stack([scale.place(rows[scale.name]) for scale in scales[:MAX_COLUMNS]]) for rows in whole]
    return _beside(*placed, scales=scales, title=title)


@styled
def _beside(real: Array, generated: Array, *, scales: Sequence[ColumnScale], title: str) -> Figure:
    """Draw places on the axes, (n, k) and (m, k), of the first k ≤ 6 columns of all scales."""
    k = real.shape[1]
    view = np.stack([scale.limits(places) for scale, places in zip(scales, real.T, strict=False)])
    if k == 1:
        figure = Figure(figsize=(4.8, 3.0), layout="constrained")
        axes = figure.subplots()
        _densities(axes, real[:, 0], generated[:, 0], view[0], scales[0])
        axes.set_ylabel("density")
        name_axes(axes, x=scales[0].name)
        legend_above(axes, _key(real, generated, view))
    elif k == 2:
        figure = _two_panels(real, generated, view, scales)
    else:
        figure = _pairs(real, generated, view, scales)
    figure.suptitle(title, x=0.01, ha="left", parse_math=False)
    return figure


def _jittered(places: Array, scales: Sequence[ColumnScale], view: Array) -> Array:
    """Move the dots (n, k) of columns with few values apart, at random and the same in every call."""
    moved, rng = places.copy(), stream(0, "spread of dots")
    for column, (scale, limits) in enumerate(zip(scales, view, strict=False)):
        few = scale.kind == "whole" and not scale.log and np.ptp(limits) <= FEW_VALUES + 1
        if scale.kind == "category" or few:
            moved[:, column] += rng.uniform(-JITTER, JITTER, len(places))
    return moved


def _two_panels(real: Array, generated: Array, view: Array, scales: Sequence[ColumnScale]) -> Figure:
    width, height, aspect = panel_size(view, side=3.2)
    if any(scale.log or scale.kind in ("category", "date") for scale in scales):
        width, height, aspect = 3.2, 2.6, "auto"
    figure = Figure(figsize=(2 * width + 0.8, height + 0.95), layout="compressed")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    count = min(len(real), len(generated), MAX_POINTS)
    for axes, points, name, colour in zip(panels, (real, generated), ("data", "samples"), (INK, SAMPLES), strict=True):
        drawn = points[subset(len(points), count)]
        draw_dots(axes, _jittered(drawn[in_view(drawn, view)], scales, view), colour)
        scales[0].dress(axes, "x", view[0])
        scales[1].dress(axes, "y", view[1])
        axes.set_aspect(aspect)
        axes.set_title(counted(name, len(points), count))
        name_axes(axes, x=scales[0].name)
        state_outside(axes, points, view)
    name_axes(panels[0], y=scales[1].name)
    return figure


def _pairs(real: Array, generated: Array, view: Array, scales: Sequence[ColumnScale]) -> Figure:
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
                _densities(axes, real[:, row], generated[:, row], view[row], scales[row])
                axes.set_yticks([])
                axes.spines["left"].set_visible(False)
            else:
                pair = [column, row]
                seen = in_view(both[:, pair], view[pair])
                of_pair = [scales[column], scales[row]]
                draw_dots(axes, _jittered(both[seen][:, pair], of_pair, view[pair]), colours[seen])
                scales[column].dress(axes, "x", view[column])
                scales[row].dress(axes, "y", view[row])
                axes.tick_params(labelleft=column == 0, labelbottom=row == k - 1)
            if scales[column].kind == "category":
                axes.tick_params(axis="x", rotation=45)
        name_axes(grid[k - 1, row], x=scales[row].name)
        if row:
            name_axes(grid[row, 0], y=scales[row].name)
    figure.align_labels()
    legend = grid[0, 1].legend(handles=_key(real, generated, view), loc="upper left", borderaxespad=0)
    legend.set_in_layout(False)
    if len(scales) > k:
        legend.set_title(f"first {k} of {len(scales)} columns")
        legend.set_alignment("left")
    return figure


def _densities(axes: Axes, real: Array, generated: Array, limits: Array, scale: ColumnScale) -> None:
    edges = histogram_edges(real[np.isfinite(real)], limits, scale)
    widths = np.diff(np.log10(edges)) if scale.log else np.diff(edges)
    data, samples = (np.histogram(values, edges)[0] / (len(values) * widths) for values in (real, generated))
    axes.stairs(data, edges, fill=True, color=DATA, alpha=0.45)
    axes.stairs(samples, edges, color=SAMPLES, lw=1.1)
    axes.set_ylim(0, 1.08 * max(data.max(), samples.max()) or 1.0)
    scale.dress(axes, "x", limits)


def _key(real: Array, generated: Array, view: Array) -> list[Line2D]:
    """Make the legend entries of the two sets: the name, the size, and the share outside the limits."""
    labels = []
    for name, points in (("data", real), ("samples", generated)):
        outside = 1 - float(np.mean(in_view(points, view)))
        labels.append(f"{name} · {len(points):,} points" + (f" · {percent(outside)} outside" if outside else ""))
    return [dot_handle(colour, label) for colour, label in zip((DATA, SAMPLES), labels, strict=True)]
