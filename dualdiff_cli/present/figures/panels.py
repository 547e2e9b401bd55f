"""What the pictures share beside their style: limits and panels, dots, legends and labels.

A picture of a generative model is a comparison. Everything that could make two equal sets of points look different is
therefore kept equal: the limits of the axes, which come from the data alone, and the number of points drawn, because
more points look denser. The share of points outside the limits is written into the panel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator

from ...errors import InputError
from ...seeding import stream

__all__ = [
    "MAX_POINTS",
    "Array",
    "as_matrix",
    "counted",
    "dot_handle",
    "draw_dots",
    "in_view",
    "legend_above",
    "limits_of",
    "name_axes",
    "panel_size",
    "percent",
    "state_in_corner",
    "state_outside",
    "subset",
    "tick_decades",
    "view_of",
]

Array: TypeAlias = npt.NDArray[np.float64]

MAX_POINTS = 20_000  # in one panel; further points only make it blacker
LARGEST = float(np.finfo(np.float64).max) / 16
"""Limits lie within ± this, so that their difference, and a few times of it, is a number."""
LEAST_RANGE = 64 * float(np.finfo(np.float64).eps)
"""Values that differ by less, as a part of their size, differ by rounding: no axis has room for bins between them."""


def as_matrix(values: npt.ArrayLike, name: str) -> Array:
    """Convert values to float64 of shape (points, columns), with at least one of each; they need not be finite."""
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2:
        raise ValueError(f"{name} must have shape (points, columns), not {matrix.shape}")
    if not matrix.size:
        raise InputError(f"The {name} are empty.", "Give at least one point.")
    return matrix


def view_of(points: Array) -> Array:
    """Return the limits of every column, shape (d, 2)."""
    return np.stack([limits_of(points[:, column]) for column in range(points.shape[1])])


def limits_of(values: Array) -> Array:
    """Return limits (2,) that show all values, or the 0.1 % and 99.9 % quantiles if the tails would squash the rest.

    Values that are equal but for rounding have the limits of equal values.
    """
    finite = values[np.isfinite(values)].clip(-LARGEST, LARGEST)
    if not len(finite):
        raise InputError("There is no finite value to draw.", "Check the input, or train longer if these are samples.")
    low, high = np.quantile(finite, (0.001, 0.999))
    if np.ptp(finite) <= 1.5 * (high - low):
        low, high = finite.min(), finite.max()
    size = max(abs(low), abs(high))
    margin = 0.05 * (high - low if high - low > LEAST_RANGE * size else size) or 1.0
    return np.array([low - margin, high + margin])


def in_view(points: Array, view: Array) -> npt.NDArray[np.bool_]:
    """Say of every point (n, d) whether it lies within the limits (d, 2); shape (n,)."""
    inside: npt.NDArray[np.bool_] = np.all((points >= view[:, 0]) & (points <= view[:, 1]), axis=1)
    return inside


def subset(n: int, count: int) -> npt.NDArray[np.int64]:
    """Choose at most ``count`` of n row numbers, in random order, and the same ones in every call."""
    return stream(0, "drawn points").choice(n, min(n, count), replace=False)


def panel_size(view: Array, *, side: float) -> tuple[float, float, str]:
    """Return width and height in inches, and the aspect: "equal", or "auto" if one column spans 2.5 times the other."""
    across, up = view[:, 1] - view[:, 0]
    if max(across, up) > 2.5 * min(across, up):
        return side, 0.8 * side, "auto"
    scale = max(side / max(across, up), 2.0 / across)  # the title of a panel needs 2 inches
    return float(scale * across), float(scale * up), "equal"


def draw_dots(axes: Axes, points: Array, colours: str | Array) -> PathCollection:
    """Draw points as dots, the smaller the more there are, and as one bitmap, so that an SVG file stays small."""
    size = float(np.clip(1e4 / max(len(points), 1), 1.5, 12.0))
    return axes.scatter(points[:, 0], points[:, 1], s=size, c=colours, alpha=0.55, linewidths=0, rasterized=True)


def dot_handle(colour: str, label: str) -> Line2D:
    """Make a legend entry that looks like a dot."""
    return Line2D([], [], marker="o", markersize=5, markeredgewidth=0, linestyle="", color=colour, label=label)


def legend_above(axes: Axes, handles: Sequence[Line2D]) -> None:
    """Put the legend above the axes, with at most three entries in a row."""
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=min(len(handles), 3),
        borderaxespad=0.2,
        handlelength=1.4,
    )


def state_outside(axes: Axes, points: Array, view: Array) -> None:
    """Write into the corner which share of the points lies outside the limits, if there is any."""
    if outside := 1 - float(np.mean(in_view(points, view))):
        state_in_corner(axes, f"{percent(outside)} outside")


def state_in_corner(axes: Axes, text: str, *, top: bool = True) -> None:
    """Write a text into the upper or the lower right corner of the axes."""
    box = {"boxstyle": "square,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
    y, va = (0.99, "top") if top else (0.01, "bottom")
    axes.text(0.99, y, text, transform=axes.transAxes, ha="right", va=va, fontsize=7, bbox=box)


def name_axes(axes: Axes, *, x: str | None = None, y: str | None = None) -> None:
    """Label the axes with column names; a long name is shortened, and "$" does not begin mathematics."""
    for set_label, name in ((axes.set_xlabel, x), (axes.set_ylabel, y)):
        if name is not None:
            set_label(name if len(name) <= 24 else f"{name[:23]}…", parse_math=False)


def tick_decades(axis: Axis, decades: float) -> None:
    """Put ticks in plain digits on a logarithmic axis, at 1, 10, 100, … and over few decades also at 2, 5, 20, 50, …"""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def counted(name: str, n: int, drawn: int) -> str:
    """Write how many points there are and, if not all are drawn, how many are."""
    return f"{name} · {n:,} points" if n <= drawn else f"{name} · {drawn:,} of {n:,} points"


def percent(share: float) -> str:
    """Write a share in per cent, with two digits."""
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.2g} %"
