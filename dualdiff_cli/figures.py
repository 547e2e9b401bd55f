"""Pictures of a run: data beside samples, the loss curve, and what a gate does.

A picture of a generative model is a comparison, so what could make two equal sets look different is held equal: the
axes' limits, which come from the data alone, and (as ink is density) the number of points drawn. What the limits leave
out is counted and stated, never silently cropped. Histograms are normalised by *all* points, in view or not.

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
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PathCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from .atomic import replaced
from .errors import InputError

__all__ = ["MAX_POINTS", "data_beside_samples", "gate_histogram", "gate_scatter", "loss_curve", "save"]

Array: TypeAlias = npt.NDArray[np.float64]

MAX_POINTS = 20_000  # drawn in one panel; more only blackens it
MAX_COLUMNS = 6  # of a pair plot; beyond that a panel is too small to read

INK, FAINT = "#333333", "#8a8a8a"
DATA, SAMPLES = "#8c8c8c", "#0072b2"
# Okabe & Ito (2008), "Color Universal Design": distinguishable with any of the common colour vision deficiencies.
EXPERTS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#333333")
GATE = LinearSegmentedColormap.from_list("gate", [EXPERTS[1], "#c4c4c4", EXPERTS[0]])

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
_styled = style.context(STYLE, after_reset=True)

# What each writer would add that changes from one run or one version to the next.
_NO_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@_styled
def data_beside_samples(real: npt.ArrayLike, generated: npt.ArrayLike, *, columns: Sequence[str], title: str) -> Figure:
    """Draw data and samples so that they can be compared by eye.

    d = 1: two overlaid densities. d = 2: two scatter panels. d > 2: the lower triangle of all pairs of the first six
    columns, both sets overlaid, densities on the diagonal.

    Args:
        real: shape (n, d), in the data's own units; sets the limits of all axes.
        generated: shape (m, d), same units; rows that are not finite count as out of view.
        columns: the d column names.
        title: a line over the figure.

    Raises:
        InputError: the two differ in d, or one is empty, or a column of ``real`` has no finite value.

    """
    real, generated = _matrix(real, "data"), _matrix(generated, "samples")
    d = real.shape[1]
    if generated.shape[1] != d:
        raise InputError(
            f"The samples have {generated.shape[1]} columns, the data {d}.", "Give two sets with the same columns."
        )
    if len(columns) != d:
        raise ValueError(f"{len(columns)} column names for {d} columns")
    k = min(d, MAX_COLUMNS)
    real, generated = real[:, :k], generated[:, :k]
    view = _view(real)
    if d == 1:
        figure = Figure(figsize=(4.8, 3.0), layout="constrained")
        axes = figure.subplots()
        _densities(axes, real[:, 0], generated[:, 0], view[0])
        axes.set_ylabel("density")
        _name(axes, x=columns[0])
        _legend_above(axes, _key(real, generated, view))
    elif d == 2:
        figure = _two_panels(real, generated, view, columns)
    else:
        figure = _pairs(real, generated, view, columns)
    figure.suptitle(title, x=0.01, ha="left", parse_math=False)
    return figure


@_styled
def loss_curve(steps: npt.ArrayLike, losses: npt.ArrayLike, *, title: str) -> Figure:
    """Draw the logged losses (faint) and their centred running mean over a twentieth of them (strong).

    The loss axis is logarithmic where all values are positive and the running mean falls by more than a factor of 3.

    Args:
        steps: shape (n,), training steps at which a loss was logged, increasing.
        losses: shape (n,); values that are not finite are left out and counted in the corner.
        title: a line over the figure.

    Raises:
        InputError: there is no finite loss.

    """
    steps, losses = np.asarray(steps, np.float64), np.asarray(losses, np.float64)
    if steps.ndim != 1 or steps.shape != losses.shape:
        raise ValueError(f"steps {steps.shape} and losses {losses.shape} must be two equally long vectors")
    finite = np.isfinite(losses)
    if not finite.any():
        raise InputError("There is no finite loss to draw.", "Train for at least one logged step.")
    x, y = steps[finite], losses[finite]
    mean = _running_mean(y, max(1, len(y) // 20))
    figure = Figure(figsize=(4.8, 3.0), layout="constrained")
    axes = figure.subplots()
    marker = "o" if len(y) == 1 else ""
    axes.plot(x, y, color=SAMPLES, alpha=0.3, lw=0.6, rasterized=len(y) > MAX_POINTS, label="logged")
    axes.plot(x, mean, color=SAMPLES, lw=1.5, marker=marker, rasterized=len(y) > MAX_POINTS, label="running mean")
    if y.min() > 0 and mean.max() > 3 * mean.min():
        axes.set_yscale("log")
        decades = np.log10(y.max() / y.min())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.margins(x=0.01)
    axes.grid(axis="y", color="#e6e6e6", lw=0.6)
    axes.set(xlabel="training step", ylabel="loss")
    _legend_above(axes, axes.get_lines())
    if missing := len(losses) - len(y):
        _corner(axes, f"{missing:,} not finite")
    figure.suptitle(title, x=0.01, ha="left", parse_math=False)
    return figure


@_styled
def gate_scatter(samples: npt.ArrayLike, weights: npt.ArrayLike, *, columns: Sequence[str]) -> Figure:
    """Draw the samples coloured by what the gate does with them (the paper's figures 2–5, left).

    E = 2: the colour is the weight of expert 1. E > 2: it names the heaviest expert; beyond seven experts only the
    seven with the largest mean weight have a colour of their own. Of more than two columns the first two are drawn; a
    single column is drawn against the weight itself.

    Args:
        samples: shape (n, d), in the data's units.
        weights: shape (n, E), E ≥ 2, rows sum to 1.
        columns: the d column names.

    Raises:
        InputError: there are no samples, or none is finite.

    """
    samples, weights = _matrix(samples, "samples"), _gate_weights(weights)
    n, d = samples.shape
    if len(weights) != n or len(columns) != d:
        raise ValueError(f"{n} samples of {d} columns, but {len(weights)} rows of weights and {len(columns)} names")
    heaviest = np.where(np.isfinite(weights).all(axis=1), weights.argmax(axis=1), -1)
    height = weights[:, 0] if weights.shape[1] == 2 else weights.max(axis=1)
    points, names = (samples[:, :2], columns[:2]) if d > 1 else (np.column_stack([samples[:, 0], height]), columns[:1])
    view = _view(points) if d > 1 else np.stack([_limits(samples[:, 0]), (-0.03, 1.03)])
    width, depth, aspect = _panel(view, side=3.6) if d > 1 else (3.8, 2.4, "auto")
    chosen = _subset(n, MAX_POINTS)
    chosen = chosen[_in_view(points[chosen], view)]

    figure = Figure(figsize=(width + 2.0, depth + 0.8), layout="compressed")
    axes = figure.subplots()
    if weights.shape[1] == 2:
        dots = _dots(axes, points[chosen], weights[chosen, 0])
        dots.set(cmap=GATE, clim=(0, 1))
        if d > 1:
            # Not the dots' own mappable: the bar would inherit their transparency.
            scale = ScalarMappable(Normalize(0, 1), GATE)
            label = "weight of expert 1"
            figure.colorbar(scale, ax=axes, ticks=[0, 0.5, 1], label=label, shrink=0.6, aspect=18)
    else:
        leading = _leading(weights)
        colours = np.tile(to_rgba_array("#c4c4c4"), (n, 1))
        handles = []
        for expert, colour in zip(leading, EXPERTS, strict=False):
            colours[heaviest == expert] = to_rgba_array(colour)
            share = _percent(float(np.mean(heaviest == expert)))
            handles.append(_dot_handle(colour, f"expert {expert + 1} · {share}"))
        if len(leading) < weights.shape[1]:
            handles.append(_dot_handle("#c4c4c4", f"{weights.shape[1] - len(leading)} others"))
        _dots(axes, points[chosen], colours[chosen])
        axes.legend(handles=handles, title="heaviest expert", loc="upper left", bbox_to_anchor=(1, 1), alignment="left")
    axes.set(xlim=view[0], ylim=view[1], aspect=aspect)
    _name(axes, x=names[0], y=names[1] if d > 1 else None)
    if d == 1:
        axes.set_ylabel("weight of expert 1" if weights.shape[1] == 2 else "weight of heaviest expert")
    axes.set_title(_count("samples", n, MAX_POINTS) + (f" · first 2 of {d} columns" if d > 2 else ""))
    _state_outside(axes, points, view)
    return figure


@_styled
def gate_histogram(weights: npt.ArrayLike) -> Figure:
    """Draw histograms of the gate's weights (the paper's figures 2–5, right).

    E = 2: the weight of expert 1, as the other is its complement. E > 2: one row per expert, at most the seven with the
    largest mean weight, in the colours of `gate_scatter`; every row is as high as its own largest bin.

    Args:
        weights: shape (n, E), E ≥ 2, rows sum to 1; rows that are not finite are left out.

    Raises:
        InputError: there are no finite weights.

    """
    weights = _gate_weights(weights)
    weights = _matrix(weights[np.isfinite(weights).all(axis=1)], "finite gate weights")
    n, E = weights.shape
    shown = [0] if E == 2 else _leading(weights)
    figure = Figure(figsize=(4.0, 3.0 if E == 2 else 0.7 + 0.75 * len(shown)), layout="constrained")
    rows = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    edges = np.linspace(0, 1, 41)
    for axes, expert, colour in zip(rows, shown, EXPERTS, strict=False):
        share = np.histogram(np.clip(weights[:, expert], 0, 1), edges)[0] / n
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.85)
        axes.axvline(weights[:, expert].mean(), color=INK, lw=0.8, ls=(0, (3, 2)))
        axes.yaxis.set_major_locator(MaxNLocator(5 if E == 2 else 2))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        axes.set(xlim=(-0.01, 1.01), ylim=(0, None))
        axes.set_title(f"expert {expert + 1} · mean weight {weights[:, expert].mean():.2f}", pad=3)
    rows[-1].set_xlabel("weight of expert 1" if E == 2 else "weight")
    figure.supylabel("share of samples", fontsize=STYLE["axes.labelsize"])
    return figure


@_styled
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


def _two_panels(real: Array, generated: Array, view: Array, columns: Sequence[str]) -> Figure:
    width, height, aspect = _panel(view, side=3.2)
    figure = Figure(figsize=(2 * width + 0.8, height + 0.95), layout="compressed")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    count = min(len(real), len(generated), MAX_POINTS)
    for axes, points, name, colour in zip(panels, (real, generated), ("data", "samples"), (INK, SAMPLES), strict=True):
        drawn = points[_subset(len(points), count)]
        _dots(axes, drawn[_in_view(drawn, view)], colour)
        axes.set(xlim=view[0], ylim=view[1], aspect=aspect)
        axes.set_title(_count(name, len(points), count))
        _name(axes, x=columns[0])
        _state_outside(axes, points, view)
    _name(panels[0], y=columns[1])
    return figure


def _pairs(real: Array, generated: Array, view: Array, columns: Sequence[str]) -> Figure:
    k = len(view)
    side = max(1.15, 4.8 / k)
    figure = Figure(figsize=(side * k + 0.7, side * k + 0.7), layout="constrained")
    grid = figure.subplots(k, k, sharex="col", squeeze=False)
    count = min(len(real), len(generated), MAX_POINTS // 8)  # small panels blacken early
    both = np.concatenate([real[_subset(len(real), count)], generated[_subset(len(generated), count)]])
    colours = np.repeat(to_rgba_array([DATA, SAMPLES]), count, axis=0)
    mixed = _subset(2 * count, 2 * count)  # in mixed order neither set hides the other
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
                seen = _in_view(both[:, pair], view[pair])
                _dots(axes, both[seen][:, pair], colours[seen])
                axes.set(xlim=view[column], ylim=view[row])
                axes.yaxis.set_major_locator(MaxNLocator(3))
                axes.tick_params(labelleft=column == 0)
            axes.xaxis.set_major_locator(MaxNLocator(3))
        _name(grid[k - 1, row], x=columns[row])
        if row:
            _name(grid[row, 0], y=columns[row])
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
    """Equal bins over the limits; for integers every bin holds equally many of them, or the histogram is a comb."""
    low, high = limits
    bins = int(np.clip(2 * len(real) ** (1 / 3), 8, 60))  # Rice's rule
    finite = real[np.isfinite(real)]
    if np.array_equal(finite, np.round(finite)):
        step = np.ceil((high - low) / 60)
        return np.asarray(np.arange(np.floor(low) - 0.5, high + step, step))
    return np.linspace(low, high, bins + 1)


def _view(points: Array) -> Array:
    """Return the limits of every column, shape (d, 2)."""
    return np.stack([_limits(points[:, column]) for column in range(points.shape[1])])


def _limits(values: Array) -> Array:
    """Limits that show all of the values, or the 0.1 % to 99.9 % quantiles where the tails would squash the rest."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        raise InputError("There is no finite value to draw.", "Check the input, or train longer if these are samples.")
    low, high = np.quantile(finite, (0.001, 0.999))
    if np.ptp(finite) <= 1.5 * (high - low):
        low, high = finite.min(), finite.max()
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return np.array([low - margin, high + margin])


def _panel(view: Array, *, side: float) -> tuple[float, float, str]:
    """Width and height in inches, and the aspect: equal, unless the two columns' scales are beyond comparison."""
    across, up = view[:, 1] - view[:, 0]
    if max(across, up) > 2.5 * min(across, up):
        return side, 0.8 * side, "auto"
    scale = max(side / max(across, up), 2.0 / across)  # 2 inches: room for the panel's title
    return float(scale * across), float(scale * up), "equal"


def _dots(axes: Axes, points: Array, colours: str | Array) -> PathCollection:
    """Dots that shrink as they become many, as one bitmap, so that an SVG of them stays small."""
    size = float(np.clip(1e4 / max(len(points), 1), 1.5, 12.0))
    return axes.scatter(points[:, 0], points[:, 1], s=size, c=colours, alpha=0.55, linewidths=0, rasterized=True)


def _key(real: Array, generated: Array, view: Array) -> list[Line2D]:
    """Legend entries of an overlaid pair of sets: name, size, and the share that the limits leave out."""
    labels = []
    for name, points in (("data", real), ("samples", generated)):
        outside = 1 - float(np.mean(_in_view(points, view)))
        labels.append(f"{name} · {len(points):,} points" + (f" · {_percent(outside)} outside" if outside else ""))
    return [_dot_handle(colour, label) for colour, label in zip((DATA, SAMPLES), labels, strict=True)]


def _dot_handle(colour: str, label: str) -> Line2D:
    return Line2D([], [], marker="o", markersize=5, markeredgewidth=0, linestyle="", color=colour, label=label)


def _legend_above(axes: Axes, handles: Sequence[Line2D]) -> None:
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, handlelength=1.4)


def _state_outside(axes: Axes, points: Array, view: Array) -> None:
    if outside := 1 - float(np.mean(_in_view(points, view))):
        _corner(axes, f"{_percent(outside)} outside")


def _corner(axes: Axes, text: str) -> None:
    box = {"boxstyle": "square,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
    axes.text(0.99, 0.99, text, transform=axes.transAxes, ha="right", va="top", fontsize=7, bbox=box)


def _name(axes: Axes, *, x: str | None = None, y: str | None = None) -> None:
    """Column names as axis labels: shortened, and "$" taken literally."""
    for set_label, name in ((axes.set_xlabel, x), (axes.set_ylabel, y)):
        if name is not None:
            set_label(name if len(name) <= 24 else f"{name[:23]}…", parse_math=False)


def _count(name: str, n: int, drawn: int) -> str:
    return f"{name} · {n:,} points" if n <= drawn else f"{name} · {drawn:,} of {n:,} points"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.2g} %"


def _subset(n: int, count: int) -> npt.NDArray[np.int64]:
    """At most ``count`` of n row numbers, in mixed order, always the same ones."""
    return np.random.default_rng(0).choice(n, min(n, count), replace=False)


def _in_view(points: Array, view: Array) -> npt.NDArray[np.bool_]:
    inside: npt.NDArray[np.bool_] = np.all((points >= view[:, 0]) & (points <= view[:, 1]), axis=1)
    return inside


def _leading(weights: Array) -> list[int]:
    """Return the experts with a colour of their own, those of the largest mean weight, in increasing order."""
    return sorted(
        int(expert) for expert in np.argsort(-np.nan_to_num(weights).mean(axis=0), kind="stable")[: len(EXPERTS)]
    )


def _running_mean(values: Array, window: int) -> Array:
    """Centred mean over at most ``window`` values on either half; shorter at both ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    first = np.maximum(np.arange(len(values)) - window // 2, 0)
    last = np.minimum(np.arange(len(values)) + window // 2 + 1, len(values))
    return np.asarray((sums[last] - sums[first]) / (last - first))


def _matrix(values: npt.ArrayLike, name: str) -> Array:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2:
        raise ValueError(f"{name} must have shape (points, columns), not {matrix.shape}")
    if not matrix.size:
        raise InputError(f"The {name} are empty.", "Give at least one point.")
    return matrix


def _gate_weights(values: npt.ArrayLike) -> Array:
    weights = _matrix(values, "gate weights")
    if weights.shape[1] < 2:
        raise ValueError("a gate has at least two experts")
    return weights
