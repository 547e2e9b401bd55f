"""The paper's five figures, with several seeds where it has one: every configuration in one picture.

    1  divergence of every configuration and data set, beside the paper's and the floor
    2  samples of every configuration beside the data
    3  loss during the training
    4  samples coloured by the gate's weight
    5  histograms of the gate's weights

Panels that are compared share their limits and their number of points (see `drawing`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..present.figures.gates import GATE
from ..present.figures.losses import running_mean
from ..present.figures.panels import (
    MAX_POINTS,
    Array,
    as_matrix,
    draw_dots,
    in_view,
    name_axes,
    panel_size,
    percent,
    state_in_corner,
    subset,
    view_of,
)
from ..present.figures.style import DATA, EXPERTS, INK, SAMPLES, styled

__all__ = ["divergences", "gates_histograms", "gates_scatter", "losses", "samples"]

PAPER = "#d55e00"
ACROSS = 4  # panels side by side
SIDE = 1.75  # inches of a panel
SMOOTHING = 20  # parts of a training over one of which its loss is averaged


@styled
def divergences(rows: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """Draw the divergence as published: a panel a data set, a line a configuration.

    Every seed is a faint dot, their mean a dot with its 95 % interval, the paper's single run an open diamond, and what
    fresh true points get a dashed line. Each panel has an axis of its own.

    Args:
        rows: of reproduced tables (see `reproduction.summarise`); of rows that are the same the first is drawn.
        title: a line over the figure.

    """
    unique = {(row["dataset"], row["label"]): row for row in reversed(rows)}
    by_dataset: dict[str, list[Mapping[str, Any]]] = {}
    for dataset, label in dict.fromkeys((row["dataset"], row["label"]) for row in rows):
        by_dataset.setdefault(dataset, []).append(unique[dataset, label])
    heights = [len(part) + 1.6 for part in by_dataset.values()]
    figure = Figure(figsize=(5.8, 0.23 * sum(heights) + 0.75), layout="constrained")
    panels = figure.subplots(len(heights), 1, gridspec_kw={"height_ratios": heights}, squeeze=False)[:, 0]
    for axes, (dataset, part) in zip(panels, by_dataset.items(), strict=True):
        _divergence_panel(axes, part)
        axes.set_title(dataset, pad=3, fontweight="bold")
    panels[-1].set_xlabel("D(data ‖ generated) as published, bits")
    handles = [
        _marker("o", SAMPLES, "ours, mean and 95 % interval"),
        Line2D([], [], marker="o", ls="", ms=3, mew=0, color=SAMPLES, alpha=0.45, label="one seed"),
        Line2D([], [], marker="D", ls="", ms=4.5, mfc="white", mec=PAPER, label="paper, one run"),
        Line2D([], [], color=INK, lw=0.9, ls=(0, (3, 2)), label="floor"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, handletextpad=0.4, columnspacing=1.4)
    figure.suptitle(title, x=0.01, ha="left", parse_math=False)
    return figure


def _divergence_panel(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    floors = [row["kl_published"]["floor"] for row in rows if row["kl_published"]["floor"] is not None]
    if floors:
        axes.axvline(float(np.mean(floors)), color=INK, lw=0.9, ls=(0, (3, 2)))
    for y, row in enumerate(rows):
        kl = row["kl_published"]
        seeds = list(kl["values"].values())
        if kl["ci95"] is not None:
            axes.plot(kl["ci95"], [y - 0.13] * 2, color=SAMPLES, lw=1.6, alpha=0.9, solid_capstyle="butt")
        axes.plot(seeds, [y - 0.13] * len(seeds), "o", ms=3, mew=0, color=SAMPLES, alpha=0.45)
        if kl["mean"] is not None:
            axes.plot(kl["mean"], y - 0.13, "o", ms=5, mew=0.8, mec="white", color=SAMPLES, zorder=3)
        if kl["paper"] is not None:
            axes.plot(kl["paper"], y + 0.2, "D", ms=4.5, mfc="white", mec=PAPER, zorder=3)
    axes.set(ylim=(len(rows) - 0.45, -0.55))
    axes.set_yticks(range(len(rows)), [row["label"] for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.04)
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.grid(axis="x", color="#ececec", lw=0.6)
    axes.spines["left"].set_visible(False)


def _marker(shape: str, colour: str, label: str) -> Line2D:
    return Line2D([], [], marker=shape, ms=5, mew=0.8, mec="white", color=colour, lw=1.6, label=label)


@styled
def samples(
    real: npt.ArrayLike, generated: Mapping[str, npt.ArrayLike], *, columns: Sequence[str], title: str
) -> Figure:
    """Draw the data and the samples of every configuration, a panel each, with equal limits and numbers of points.

    Args:
        real: shape (n, d), d ≥ 2; sets the limits. Of more than two columns the first two are drawn.
        generated: by configuration, shape (m, d).
        columns: the d column names.
        title: a line over the figure.

    """
    data = as_matrix(real, "data")[:, :2]
    view = view_of(data)
    sets = {name: as_matrix(points, "samples")[:, :2] for name, points in generated.items()}
    count = min(MAX_POINTS, len(data), *(len(points) for points in sets.values()))
    figure, panels, aspect = _panels(view, len(sets) + 1, extra=0.0)
    for axes, (name, points) in zip(panels, {"data": data, **sets}.items(), strict=True):
        drawn = points[subset(len(points), count)]
        draw_dots(axes, drawn[in_view(drawn, view)], DATA if points is data else SAMPLES)
        axes.set(xlim=view[0], ylim=view[1], aspect=aspect)
        axes.set_title(name, pad=3)
        _state_outside(axes, points, view)
    _name_outer(panels, columns)
    figure.suptitle(f"{title} · {count:,} points each", x=0.01, ha="left", parse_math=False)
    return figure


@styled
def losses(
    curves: Mapping[str, Sequence[tuple[npt.ArrayLike, npt.ArrayLike]]], *, penalised: Collection[str] = (), title: str
) -> Figure:
    """Draw the training loss of every configuration: the mean of the seeds' running means, and their range as a band.

    Args:
        curves: by configuration, for each seed the logged steps and losses, shape (n,) each; of the steps that all
            seeds have.
        penalised: configurations whose loss has a further term; they get a panel of their own.
        title: a line over the figure.

    """
    plain = [name for name in curves if name not in penalised]
    groups = [group for group in (plain, [name for name in curves if name in penalised]) if group]
    figure = Figure(figsize=(3.3 * len(groups) + 1.9, 3.1), layout="constrained")
    colours = dict(zip(curves, EXPERTS, strict=False))
    handles = {}
    for axes, group in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups, strict=True):
        lowest, early = [], []
        for name in group:
            steps = _common([np.asarray(x, np.float64) for x, _ in curves[name]])
            values = np.stack([_smooth(y)[: len(steps)] for _, y in curves[name]])
            colour = colours.get(name, INK)
            axes.fill_between(steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.18, lw=0)
            (handles[name],) = axes.plot(steps, values.mean(axis=0), color=colour, lw=1.2, label=name)
            lowest.append(float(values.min()))
            early.append(float(np.quantile(values.mean(axis=0), 0.97)))
        # The first few steps would take up most of the axis.
        margin = 0.06 * (max(early) - min(lowest)) or 1.0
        axes.set(xlabel="training step", ylim=(min(lowest) - margin, max(early) + margin))
        axes.set_title("mean squared error" if group is plain else "with the reward for spread predictions", pad=4)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.margins(x=0.01)
        axes.grid(axis="y", color="#ececec", lw=0.6)
    figure.legend(handles=[handles[name] for name in curves], loc="outside right upper", handlelength=1.4)
    figure.suptitle(title, x=0.01, ha="left", parse_math=False)
    return figure


@styled
def gates_scatter(
    gated: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]], *, columns: Sequence[str], title: str
) -> Figure:
    """Draw the samples of every gated configuration, coloured by the weight of expert 1 of two.

    Args:
        gated: by configuration, samples of shape (n, d), d ≥ 2, and weights of shape (n, 2).
        columns: the d column names.
        title: a line over the figure.

    """
    sets = {name: (as_matrix(x, "samples")[:, :2], as_matrix(w, "weights")) for name, (x, w) in gated.items()}
    view = view_of(np.concatenate([points for points, _ in sets.values()]))
    count = min(MAX_POINTS, *(len(points) for points, _ in sets.values()))
    figure, panels, aspect = _panels(view, len(sets), extra=0.9)
    for axes, (name, (points, weights)) in zip(panels, sets.items(), strict=True):
        chosen = subset(len(points), count)
        chosen = chosen[in_view(points[chosen], view)]
        draw_dots(axes, points[chosen], weights[chosen, 0]).set(cmap=GATE, clim=(0, 1))
        axes.set(xlim=view[0], ylim=view[1], aspect=aspect)
        axes.set_title(name, pad=3)
    # Not the dots' own mappable: the bar would inherit their transparency.
    scale = ScalarMappable(Normalize(0, 1), GATE)
    figure.colorbar(scale, ax=panels, ticks=[0, 0.5, 1], label="weight of expert 1", shrink=0.6, aspect=24)
    _name_outer(panels, columns)
    figure.suptitle(f"{title} · {count:,} points each", x=0.01, ha="left", parse_math=False)
    return figure


@styled
def gates_histograms(weights: Mapping[str, npt.ArrayLike], *, title: str) -> Figure:
    """Draw the histogram of expert 1's weight for every gated configuration, all on the same axes.

    Args:
        weights: by configuration, shape (n, 2).
        title: a line over the figure.

    """
    sets = {name: as_matrix(values, "weights")[:, 0] for name, values in weights.items()}
    across, down = _shape(len(sets))
    figure = Figure(figsize=(1.9 * across + 0.5, 1.7 * down + 0.55), layout="constrained")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    edges = np.linspace(0, 1, 41)
    for axes, (name, weight) in zip(grid.flat, sets.items(), strict=False):
        share = np.histogram(np.clip(weight, 0, 1), edges)[0] / len(weight)
        axes.stairs(share, edges, fill=True, color=EXPERTS[0], alpha=0.85)
        axes.axvline(weight.mean(), color=INK, lw=0.8, ls=(0, (3, 2)))
        axes.set_title(f"{name}\nmean {weight.mean():.2f}", pad=3)
        axes.set(xlim=(-0.01, 1.01), xticks=[0, 0.5, 1])
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    grid.flat[0].set_ylim(0, None)
    _hide_rest(grid, len(sets))
    figure.supxlabel("weight of expert 1")
    figure.supylabel("share of samples")
    figure.suptitle(title, x=0.01, ha="left", parse_math=False)
    return figure


def _panels(view: Array, count: int, *, extra: float) -> tuple[Figure, list[Axes], str]:
    """Make a grid of equal panels, with ``extra`` inches beside it; and their aspect."""
    width, height, aspect = panel_size(view, side=SIDE)
    across, down = _shape(count)
    figure = Figure(figsize=(across * (width + 0.12) + 0.5 + extra, down * (height + 0.28) + 0.75), layout="compressed")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    _hide_rest(grid, count)
    return figure, list(grid.flat)[:count], aspect


def _shape(count: int) -> tuple[int, int]:
    """Columns and rows of so many panels: few rows, about equally long."""
    down = -(-count // ACROSS)
    return -(-count // down), down


def _hide_rest(grid: Any, count: int) -> None:
    """Take away the panels beyond the last, and give those above them their ticks back."""
    for number, axes in enumerate(grid.flat):
        if number >= count:
            axes.set_visible(False)
            if number >= grid.shape[1]:
                grid.flat[number - grid.shape[1]].tick_params(labelbottom=True)


def _name_outer(panels: Sequence[Axes], columns: Sequence[str]) -> None:
    across, _ = _shape(len(panels))
    for number, axes in enumerate(panels):
        if number % across == 0:
            name_axes(axes, y=columns[1])
        if number + across >= len(panels):
            name_axes(axes, x=columns[0])


def _state_outside(axes: Axes, points: Array, view: Array) -> None:
    if outside := 1 - float(np.mean(in_view(points, view))):
        state_in_corner(axes, f"{percent(outside)} outside")


def _common(logs: Sequence[Array]) -> Array:
    """The steps up to which all seeds have come."""
    last = min(float(steps[-1]) for steps in logs)
    return logs[0][logs[0] <= last]


def _smooth(values: npt.ArrayLike) -> Array:
    y = np.asarray(values, np.float64)
    return running_mean(y, max(1, len(y) // SMOOTHING))
