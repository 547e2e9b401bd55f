"""What every picture shares: the style and the palette, limits and panels, dots and labels, and how one is saved.

A picture of a generative model is a comparison, so what could make two equal sets look different is held equal: the
axes' limits, which come from the data alone, and (as ink is density) the number of points drawn. What the limits leave
out is counted and stated, never silently cropped.

Figures are built without pyplot, so there is no global state and no display; the user's matplotlibrc is not read, and
the same arrays always give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator

from ...errors import InputError
from ...store.atomic import replaced

__all__ = [
    "DATA",
    "EXPERTS",
    "INK",
    "MAX_POINTS",
    "SAMPLES",
    "STYLE",
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
    "save",
    "state_in_corner",
    "state_outside",
    "styled",
    "subset",
    "tick_decades",
    "view_of",
]

Array: TypeAlias = npt.NDArray[np.float64]

MAX_POINTS = 20_000  # drawn in one panel; more only blackens it

INK, FAINT = "#333333", "#8a8a8a"
DATA, SAMPLES = "#8c8c8c", "#0072b2"
# Okabe & Ito (2008), "Color Universal Design": distinguishable with any of the common colour vision deficiencies.
EXPERTS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#333333")

STYLE: dict[str, str | float] = {
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.titlelocation": "left",
    "axes.labelsize": 8.0,
    "figure.titlesize": 10.0,
    "figure.titleweight": "normal",
    "figure.constrained_layout.h_pad": 0.06,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "savefig.dpi": 200.0,
    "svg.hashsalt": "dualdiff",
}
TICKS: dict[str, str | float] = {
    "labelsize": 7.0,
    "labelcolor": INK,
    "color": FAINT,
    "major.width": 0.6,
    "major.size": 2.5,
    "minor.size": 0.0,
}
STYLE |= {f"{axis}tick.{key}": value for axis in "xy" for key, value in TICKS.items()}
# Ticks are made as late as at drawing time, so saving needs the style as much as building does.
styled = style.context(STYLE, after_reset=True)

# What each writer would add that changes from one run or one version to the next.
_NO_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@styled
def save(figure: Figure, path_stem: Path | str, *, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Write the figure as ``path_stem`` + "." + format, for each of ``formats`` ("png", "svg", "pdf").

    Each file is written beside its name and renamed into place, so a reader never meets half a picture. Neither dates
    nor versions go into the file: the same figure gives the same bytes. Its layout is settled by the first save.

    Returns:
        The paths, in the order of ``formats``.

    Raises:
        InputError: a format is none of the three; nothing is written then.

    """
    for wanted in formats:
        if wanted not in _NO_METADATA:
            raise InputError(f"Figures cannot be saved as {wanted!r}.", f"Use one of {', '.join(_NO_METADATA)}.")
    stem = Path(path_stem)
    paths = [stem.with_name(f"{stem.name}.{wanted}") for wanted in formats]
    # The layout engine starts from where it last stopped, so every further drawing would move the axes by a hair.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for wanted, path in zip(formats, paths, strict=True):
        with replaced(path) as temporary:
            figure.savefig(temporary, format=wanted, metadata=_NO_METADATA[wanted])
    return paths


def as_matrix(values: npt.ArrayLike, name: str) -> Array:
    """Values as float64 of shape (points, columns), at least one of each; they need not be finite."""
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
    """Limits that show all of the values, or the 0.1 % to 99.9 % quantiles where the tails would squash the rest."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        raise InputError("There is no finite value to draw.", "Check the input, or train longer if these are samples.")
    low, high = np.quantile(finite, (0.001, 0.999))
    if np.ptp(finite) <= 1.5 * (high - low):
        low, high = finite.min(), finite.max()
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return np.array([low - margin, high + margin])


def in_view(points: Array, view: Array) -> npt.NDArray[np.bool_]:
    """Which rows of the points (n, d) lie within the limits (d, 2), shape (n,)."""
    inside: npt.NDArray[np.bool_] = np.all((points >= view[:, 0]) & (points <= view[:, 1]), axis=1)
    return inside


def subset(n: int, count: int) -> npt.NDArray[np.int64]:
    """At most ``count`` of n row numbers, in mixed order, always the same ones."""
    return np.random.default_rng(0).choice(n, min(n, count), replace=False)


def panel_size(view: Array, *, side: float) -> tuple[float, float, str]:
    """Width and height in inches, and the aspect: equal, unless the two columns' scales are beyond comparison."""
    across, up = view[:, 1] - view[:, 0]
    if max(across, up) > 2.5 * min(across, up):
        return side, 0.8 * side, "auto"
    scale = max(side / max(across, up), 2.0 / across)  # 2 inches: room for the panel's title
    return float(scale * across), float(scale * up), "equal"


def draw_dots(axes: Axes, points: Array, colours: str | Array) -> PathCollection:
    """Dots that shrink as they become many, as one bitmap, so that an SVG of them stays small."""
    size = float(np.clip(1e4 / max(len(points), 1), 1.5, 12.0))
    return axes.scatter(points[:, 0], points[:, 1], s=size, c=colours, alpha=0.55, linewidths=0, rasterized=True)


def dot_handle(colour: str, label: str) -> Line2D:
    """A legend's entry that looks like a dot."""
    return Line2D([], [], marker="o", markersize=5, markeredgewidth=0, linestyle="", color=colour, label=label)


def legend_above(axes: Axes, handles: Sequence[Line2D]) -> None:
    """Put the legend over the axes, two entries a row."""
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, handlelength=1.4)


def state_outside(axes: Axes, points: Array, view: Array) -> None:
    """Say in the corner how many points the limits leave out, if any."""
    if outside := 1 - float(np.mean(in_view(points, view))):
        state_in_corner(axes, f"{percent(outside)} outside")


def state_in_corner(axes: Axes, text: str) -> None:
    """Write into the upper right corner."""
    box = {"boxstyle": "square,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
    axes.text(0.99, 0.99, text, transform=axes.transAxes, ha="right", va="top", fontsize=7, bbox=box)


def name_axes(axes: Axes, *, x: str | None = None, y: str | None = None) -> None:
    """Column names as axis labels: shortened, and "$" taken literally."""
    for set_label, name in ((axes.set_xlabel, x), (axes.set_ylabel, y)):
        if name is not None:
            set_label(name if len(name) <= 24 else f"{name[:23]}…", parse_math=False)


def tick_decades(axis: Axis, decades: float) -> None:
    """Tick a logarithmic axis at powers of ten, and at 2 and 5 times these where it spans few; in plain digits."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def counted(name: str, n: int, drawn: int) -> str:
    """Say how many points there are and, where it is fewer, how many are drawn."""
    return f"{name} · {n:,} points" if n <= drawn else f"{name} · {drawn:,} of {n:,} points"


def percent(share: float) -> str:
    """A share in per cent to two digits."""
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.2g} %"
