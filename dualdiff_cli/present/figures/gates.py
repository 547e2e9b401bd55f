"""Pictures of a gate: where in the data each expert is used, how close weights are to 0 or 1, at which noise levels.

The weights of a gate that sees the point and the noise level differ from point to point, and the scatter and the
histogram show them at one noise level. A gate that sees only the noise level gives all points of a level the same
weights, and the profile over the levels shows them all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ...errors import InputError
from .panels import (
    MAX_POINTS,
    Array,
    as_matrix,
    counted,
    dot_handle,
    draw_dots,
    in_view,
    limits_of,
    name_axes,
    panel_size,
    percent,
    state_outside,
    subset,
    tick_decades,
    view_of,
)
from .style import EXPERTS, INK, styled

__all__ = ["GATE", "gate_histogram", "gate_profile", "gate_scatter"]

GATE = LinearSegmentedColormap.from_list("gate", [EXPERTS[1], "#c4c4c4", EXPERTS[0]])
MOST_TIMES = 20
"""An axis of losses is logarithmic where the largest loss is more than so many times the median."""
OTHERS = "#c4c4c4"  # for experts without a colour of their own


@styled
def gate_scatter(samples: npt.ArrayLike, weights: npt.ArrayLike, *, columns: Sequence[str]) -> Figure:
    """Draw the samples coloured by the gate's weights (the paper's figures 2–5, left).

    With two experts the colour is the weight of expert 1. With more experts the colour names the expert of the largest
    weight, and only the seven experts with the largest mean weights have a colour of their own. If there are more than
    two columns, the first two are drawn. A single column is drawn against the weight.

    Args:
        samples: shape (n, d), in the data's units.
        weights: shape (n, E), E ≥ 2, rows sum to 1.
        columns: the d column names.

    Raises:
        InputError: there are no samples, or none is finite.

    """
    samples, weights = as_matrix(samples, "samples"), _gate_weights(weights)
    n, d = samples.shape
    if len(weights) != n or len(columns) != d:
        raise ValueError(f"{n} samples of {d} columns, but {len(weights)} rows of weights and {len(columns)} names")
    heaviest = np.where(np.isfinite(weights).all(axis=1), weights.argmax(axis=1), -1)
    height = weights[:, 0] if weights.shape[1] == 2 else weights.max(axis=1)
    points, names = (samples[:, :2], columns[:2]) if d > 1 else (np.column_stack([samples[:, 0], height]), columns[:1])
    view = view_of(points) if d > 1 else np.stack([limits_of(samples[:, 0]), (-0.03, 1.03)])
    width, depth, aspect = panel_size(view, side=3.6) if d > 1 else (3.8, 2.4, "auto")
    chosen = subset(n, MAX_POINTS)
    chosen = chosen[in_view(points[chosen], view)]

    figure = Figure(figsize=(width + 2.0, depth + 0.8), layout="compressed")
    axes = figure.subplots()
    if weights.shape[1] == 2:
        dots = draw_dots(axes, points[chosen], weights[chosen, 0])
        dots.set(cmap=GATE, clim=(0, 1))
        if d > 1:
            # A colour bar of the dots themselves would inherit their transparency.
            scale = ScalarMappable(Normalize(0, 1), GATE)
            label = "weight of expert 1"
            figure.colorbar(scale, ax=axes, ticks=[0, 0.5, 1], label=label, shrink=0.6, aspect=18)
    else:
        leading = _leading(weights)
        colours = np.tile(to_rgba_array(OTHERS), (n, 1))
        handles = []
        for expert, colour in zip(leading, EXPERTS, strict=False):
            colours[heaviest == expert] = to_rgba_array(colour)
            share = percent(float(np.mean(heaviest == expert)))
            handles.append(dot_handle(colour, f"expert {expert + 1} · {share}"))
        if len(leading) < weights.shape[1]:
            handles.append(dot_handle(OTHERS, f"{weights.shape[1] - len(leading)} others"))
        draw_dots(axes, points[chosen], colours[chosen])
        axes.legend(handles=handles, title="heaviest expert", loc="upper left", bbox_to_anchor=(1, 1), alignment="left")
    axes.set(xlim=view[0], ylim=view[1], aspect=aspect)
    name_axes(axes, x=names[0], y=names[1] if d > 1 else None)
    if d == 1:
        axes.set_ylabel("weight of expert 1" if weights.shape[1] == 2 else "weight of heaviest expert")
    axes.set_title(counted("samples", n, MAX_POINTS) + (f" · first 2 of {d} columns" if d > 2 else ""))
    state_outside(axes, points, view)
    return figure


@styled
def gate_histogram(weights: npt.ArrayLike) -> Figure:
    """Draw histograms of the gate's weights (the paper's figures 2–5, right).

    With two experts only the weight of expert 1 is drawn, because the other weight is 1 minus it. With more experts
    there is one row for each of the at most seven experts with the largest mean weights, in the colours of
    `gate_scatter`; each row is scaled to its own largest bin.

    Args:
        weights: shape (n, E), E ≥ 2, rows sum to 1; rows that are not finite are left out.

    Raises:
        InputError: there are no finite weights.

    """
    weights = _gate_weights(weights)
    weights = as_matrix(weights[np.isfinite(weights).all(axis=1)], "finite gate weights")
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
    figure.supylabel("share of samples")
    return figure


@styled
def gate_profile(
    noise: npt.ArrayLike,
    weights: npt.ArrayLike,
    *,
    losses: npt.ArrayLike | None = None,
    names: Sequence[str] | None = None,
    title: str,
) -> Figure:
    """Draw how the experts share the noise levels, and above it the loss at each level.

    The mean weights are stacked because they sum to one. Expert 1 lies at the bottom, so that its weight can be read
    off the axis. Only the seven experts with the largest mean weights have a band of their own; all others share one
    band on top. Where each level has one expert, the legend says which levels each expert has.

    Args:
        noise: shape (T,), the levels σ/α, positive, in any order; the axis is logarithmic.
        weights: shape (T, E), E ≥ 2, rows sum to 1: at each level the mean over points; rows that are not finite are
            left out.
        losses: shape (T,), the loss on unseen rows at each level; None draws the weights alone.
        names: of the E experts; None numbers them.
        title: the line over the figure.

    Raises:
        InputError: there are no finite weights at two levels.

    """
    noise, weights = np.asarray(noise, np.float64), _gate_weights(weights)
    if noise.shape != weights.shape[:1] or not np.all((noise > 0) & np.isfinite(noise)):
        raise ValueError(f"noise {noise.shape} must be one positive level for each row of the weights {weights.shape}")
    finite = np.isfinite(weights).all(axis=1)
    if len(np.unique(noise[finite])) < 2:
        raise InputError("There are no finite gate weights at two noise levels.", "Give weights at more levels.")
    order = np.flatnonzero(finite)[np.argsort(noise[finite])]
    noise, weights = noise[order], weights[order]
    bands, colours, labels = _bands(noise, weights, names or [f"expert {k + 1}" for k in range(weights.shape[1])])

    figure = Figure(figsize=(5.6, 3.0 if losses is None else 3.8), layout="constrained")
    rows = figure.subplots(1 if losses is None else 2, 1, sharex=True, squeeze=False)[:, 0]
    axes = rows[-1]
    areas = axes.stackplot(noise, bands, colors=colours, labels=labels, alpha=0.7, edgecolor="white", lw=1)
    axes.set(xscale="log", xlim=(noise[0], noise[-1]), ylim=(0, 1), xlabel="noise level σ/α", ylabel="mean weight")
    tick_decades(axes.xaxis, np.log10(noise[-1] / noise[0]))
    axes.legend(handles=areas[::-1], loc="upper left", bbox_to_anchor=(1, 1), handlelength=1.0, handleheight=1.0)
    if losses is not None:
        _losses_over_levels(rows[0], noise, np.asarray(losses, np.float64)[order], weights)
    figure.suptitle(title, x=0.01, ha="left", parse_math=False)
    return figure


def _bands(noise: Array, weights: Array, names: Sequence[str]) -> tuple[list[Array], list[str], list[str]]:
    """Give the weights (T,), the colour and the label of every band, from the bottom up."""
    leading = _leading(weights)
    alone = bool(np.all(weights.max(axis=1) > 1 - 1e-6))
    bands, colours, labels = [weights[:, expert] for expert in leading], list(EXPERTS[: len(leading)]), []
    for expert in leading:
        own = noise[weights[:, expert] > 0.5]
        levels = f" · {own[0]:.2g} to {own[-1]:.2g}" if alone and len(own) else ""
        labels.append(f"{names[expert]}{levels}")
    if others := weights.shape[1] - len(leading):
        bands.append(weights.sum(axis=1) - np.sum(bands, axis=0))
        colours.append(OTHERS)
        labels.append(f"{others} others")
    return bands, colours, labels


def _losses_over_levels(axes: Axes, noise: Array, losses: Array, weights: Array) -> None:
    """Draw the loss at each level, in the colour of the expert that has the largest weight there."""
    leading = _leading(weights)
    heaviest = weights.argmax(axis=1)
    axes.plot(noise, losses, color=OTHERS, lw=1.0)
    for expert, colour in zip(leading, EXPERTS, strict=False):
        own = heaviest == expert
        axes.plot(noise[own], losses[own], "o", color=colour, ms=3, mew=0)
    axes.set_ylabel("loss on unseen rows")
    if losses.max() > MOST_TIMES * np.median(losses) > 0:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, None)
    axes.grid(axis="y")


def _leading(weights: Array) -> list[int]:
    """Return the experts that get a colour of their own, those with the largest mean weights, in increasing order."""
    return sorted(
        int(expert) for expert in np.argsort(-np.nan_to_num(weights).mean(axis=0), kind="stable")[: len(EXPERTS)]
    )


def _gate_weights(values: npt.ArrayLike) -> Array:
    weights = as_matrix(values, "gate weights")
    if weights.shape[1] < 2:
        raise ValueError("a gate has at least two experts")
    return weights
