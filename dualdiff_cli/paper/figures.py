"""The paper's five figures; where the paper draws one configuration and one run, these draw all of them.

    1  divergence of every configuration on every data set, beside the paper's value and the floor
    2  samples of every configuration, beside the data
    3  training loss of every configuration
    4  samples, coloured by the gate's weight of expert 1
    5  histograms of this weight

Panels that are compared share their limits and the number of points (see `present.figures.panels`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
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
    state_outside,
    subset,
    view_of,
)
from ..present.figures.style import DATA, EXPERTS, INK, SAMPLES, styled
from .statistics import main_divergence

__all__ = ["draw_divergences", "draw_gate_histograms", "draw_gates", "draw_losses", "draw_samples"]

PAPER = "#d55e00"
ACROSS = 4
"""The largest number of panels side by side."""
SIDE = 1.75
"""The longer side of a scatter panel, in inches."""
DASHED = (0, (3, 2))
DIVERGENCE_LABELS = {
    "kl_published": "D(data ‖ generated) as published, bits",
    "kl_real_generated": "D(held-out data ‖ generated), bits",
}


@styled
def draw_divergences(rows: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """Draw figure 1: a panel per data set, and in it a line per configuration.

    Every seed is a faint dot, the mean of the seeds a dot with the 95 % interval of the mean, and the paper's single
    run an open diamond. A dashed line shows the floor, the divergence of fresh true points. Each panel has its own
    axis, and shows the divergence that `main_divergence` names.

    Args:
        rows: summaries (see `summarise`); where two tables share a row, the first is drawn.
        title: the line above the figure.

    """
    by_dataset: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        by_dataset.setdefault(row["dataset"], {}).setdefault(row["label"], row)
    heights = [len(part) + 1.6 for part in by_dataset.values()]
    figure = Figure(figsize=(5.8, 0.23 * sum(heights) + 0.75), layout="constrained")
    panels = figure.subplots(len(heights), 1, gridspec_kw={"height_ratios": heights}, squeeze=False)[:, 0]
    names = [main_divergence(dataset) for dataset in by_dataset]
    for axes, (dataset, part), name, below in zip(panels, by_dataset.items(), names, [*names[1:], ""], strict=True):
        _divergence_panel(axes, list(part.values()), name)
        axes.set_title(Path(dataset).name, pad=3, fontweight="bold", parse_math=False)
        if name != below:
            axes.set_xlabel(DIVERGENCE_LABELS[name])
    handles = [
        Line2D([], [], marker="o", ms=5, mew=0.8, mec="white", color=SAMPLES, lw=1.6, label="mean, 95 % interval"),
        Line2D([], [], marker="o", ls="", ms=3, mew=0, color=SAMPLES, alpha=0.45, label="one seed"),
        Line2D([], [], marker="D", ls="", ms=4.5, mfc="white", mec=PAPER, label="paper, one run"),
        Line2D([], [], color=INK, lw=0.9, ls=DASHED, label="floor"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, handletextpad=0.4, columnspacing=1.4)
    _headline(figure, title)
    return figure


def _divergence_panel(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    floors = [row[name]["floor"] for row in rows if row[name]["floor"] is not None]
    if floors:
        axes.axvline(float(np.mean(floors)), color=INK, lw=0.9, ls=DASHED)
    for y, row in enumerate(rows):
        kl = row[name]
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


@styled
def draw_samples(
    real: npt.ArrayLike, generated: Mapping[str, npt.ArrayLike], *, columns: Sequence[str], title: str
) -> Figure:
    """Draw figure 2: the data and the samples of every configuration, each in a panel.

    Args:
        real: shape (n, d), d ≥ 2; these points set the limits. If there are more than two columns, the first two are
            drawn.
        generated: by configuration, shape (m, d).
        columns: the d column names.
        title: the line above the figure.

    """
    sets = {name: as_matrix(points, name) for name, points in {"data": real, **generated}.items()}
    colours = {
        name: np.tile(to_rgba(DATA if name == "data" else SAMPLES), (len(points), 1)) for name, points in sets.items()
    }
    figure, _ = _scatters(sets, colours, view_of(sets["data"][:, :2]), columns=columns, title=title)
    return figure


@styled
def draw_losses(
    curves: Mapping[str, Sequence[tuple[npt.ArrayLike, npt.ArrayLike]]], *, penalised: Collection[str] = (), title: str
) -> Figure:
    """Draw figure 3: the training loss of every configuration, each in a panel.

    A line is the mean over the seeds, a band their range; the loss of every seed is smoothed by a running mean over a
    twentieth of the training. The first configuration is repeated in grey in the panels with the same kind of loss.

    Args:
        curves: by configuration, for each seed the logged steps and losses, shape (n,) each. Only steps that all seeds
            have reached are drawn.
        penalised: the configurations whose loss has a diversity reward; they have limits of their own.
        title: the line above the figure.

    """
    bands = {name: _band(seeds) for name, seeds in curves.items()}
    first, reference = next(iter(bands.items()))
    figure, panels = _panels(len(bands), 1.78, 1.4, share=False)
    for axes, (name, (steps, low, mean, high)) in zip(panels, bands.items(), strict=True):
        alike = [band for other, band in bands.items() if (other in penalised) == (name in penalised)]
        bottom = min(float(np.min(band[1])) for band in alike)
        # Without the quantile, the first steps would take up most of the axis.
        top = max(float(np.quantile(band[3], 0.97)) for band in alike)
        margin = 0.06 * (top - bottom) or 1.0
        axes.fill_between(steps, low, high, color=SAMPLES, alpha=0.25, lw=0)
        if name != first and name not in penalised and first not in penalised:
            axes.plot(reference[0], reference[2], color=DATA, lw=1.0)
        axes.plot(steps, mean, color=SAMPLES, lw=1.2)
        axes.set(ylim=(bottom - margin, top + margin))
        axes.set_title(f"{name}\nwith diversity reward" if name in penalised else name, pad=3)
        axes.xaxis.set_major_locator(MaxNLocator(2, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.margins(x=0.01)
        axes.grid(axis="y", color="#ececec", lw=0.6)
    _label(figure, x="training step", y="training loss (mean squared error)")
    _headline(figure, f"{title} · grey: {first}" if len(bands) > 1 else title)
    return figure


def _band(seeds: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]]) -> tuple[Array, Array, Array, Array]:
    """Give the steps that all seeds have reached, and there the lowest, the mean and the highest smoothed loss."""
    logs = [(np.asarray(steps, np.float64), np.asarray(losses, np.float64)) for steps, losses in seeds]
    common = min(len(steps) for steps, _ in logs)
    values = np.stack([running_mean(losses, max(1, len(losses) // 20))[:common] for _, losses in logs])
    return logs[0][0][:common], values.min(axis=0), values.mean(axis=0), values.max(axis=0)


@styled
def draw_gates(
    real: npt.ArrayLike,
    gated: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    columns: Sequence[str],
    title: str,
) -> Figure:
    """Draw figure 4: the samples of every gated configuration, coloured by the weight of expert 1 of two.

    Args:
        real: shape (n, d), d ≥ 2; these points set the limits, so that a stray sample does not.
        gated: by configuration, samples of shape (m, d) and weights of shape (m, 2).
        columns: the d column names.
        title: the line above the figure.

    """
    sets = {name: as_matrix(points, name) for name, (points, _) in gated.items()}
    colours = {name: GATE(as_matrix(weights, "weights")[:, 0]) for name, (_, weights) in gated.items()}
    view = view_of(as_matrix(real, "data")[:, :2])
    figure, panels = _scatters(sets, colours, view, columns=columns, title=title, beside=0.9)
    # The colour bar has a mappable of its own, because with the dots' mappable it would be as transparent as the dots.
    scale = ScalarMappable(Normalize(0, 1), GATE)
    figure.colorbar(scale, ax=panels, ticks=[0, 0.5, 1], label="weight of expert 1", shrink=0.6, aspect=24)
    return figure


@styled
def draw_gate_histograms(weights: Mapping[str, npt.ArrayLike], *, title: str) -> Figure:
    """Draw figure 5: the histogram of expert 1's weight for every gated configuration, all on the same axes.

    Args:
        weights: by configuration, shape (n, 2).
        title: the line above the figure.

    """
    figure, panels = _panels(len(weights), 1.78, 1.4)
    edges = np.linspace(0, 1, 41)
    for axes, (name, values) in zip(panels, weights.items(), strict=True):
        weight = as_matrix(values, "weights")[:, 0]
        share = np.histogram(np.clip(weight, 0, 1), edges)[0] / len(weight)
        axes.stairs(share, edges, fill=True, color=EXPERTS[0], alpha=0.85)
        axes.axvline(weight.mean(), color=INK, lw=0.8, ls=DASHED)
        axes.set_title(f"{name}\nmean {weight.mean():.2f}", pad=3)
        axes.set(xlim=(-0.01, 1.01), xticks=[0, 0.5, 1])
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    panels[0].set_ylim(0, None)
    _label(figure, x="weight of expert 1", y="share of samples")
    _headline(figure, title)
    return figure


def _scatters(
    sets: Mapping[str, Array],
    colours: Mapping[str, Array],
    view: Array,
    *,
    columns: Sequence[str],
    title: str,
    beside: float = 0.0,
) -> tuple[Figure, list[Axes]]:
    """Draw the first two columns of each set (n, d) in a panel, equally many points of each, in colours (n, 4)."""
    count = min(MAX_POINTS, *(len(points) for points in sets.values()))
    width, height, aspect = panel_size(view, side=SIDE)
    figure, panels = _panels(len(sets), width, height, beside=beside, layout="compressed")
    across, _ = _shape(len(sets))
    for number, (axes, (name, points)) in enumerate(zip(panels, sets.items(), strict=True)):
        points = points[:, :2]
        chosen = subset(len(points), count)
        chosen = chosen[in_view(points[chosen], view)]
        draw_dots(axes, points[chosen], colours[name][chosen])
        axes.set(xlim=view[0], ylim=view[1], aspect=aspect)
        axes.set_title(name, pad=3)
        state_outside(axes, points, view)
        if number % across == 0:
            name_axes(axes, y=columns[1])
        if number + across >= len(panels):
            name_axes(axes, x=columns[0])
    _headline(figure, f"{title} · {count:,} points each")
    return figure, panels


def _panels(
    count: int, width: float, height: float, *, beside: float = 0.0, layout: Any = "constrained", share: bool = True
) -> tuple[Figure, list[Axes]]:
    """Make a grid of panels of this width and height in inches, with some inches beside the grid."""
    across, down = _shape(count)
    size = across * (width + 0.12) + 0.5 + beside, down * (height + 0.28) + 0.75
    figure = Figure(figsize=size, layout=layout)
    grid = figure.subplots(down, across, sharex=share, sharey=share, squeeze=False)
    for number in range(count, grid.size):
        grid.flat[number].set_visible(False)
        if number >= across:  # The panel above is now the lowest one of the column, so it has the labels of the ticks.
            grid.flat[number - across].tick_params(labelbottom=True)
    return figure, list(grid.flat)[:count]


def _shape(count: int) -> tuple[int, int]:
    """Give the columns and rows of a grid for this number of panels: as few rows as possible, about equally long."""
    down = -(-count // ACROSS)
    return -(-count // down), down


def _label(figure: Figure, *, x: str, y: str) -> None:
    figure.supxlabel(x)
    figure.supylabel(y)


def _headline(figure: Figure, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", parse_math=False, wrap=True)
