"""The picture of a training's loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ...errors import InputError
from .panels import MAX_POINTS, Array, legend_above, state_in_corner, tick_decades
from .style import INK, SAMPLES, styled

__all__ = ["loss_curve", "running_mean"]


@styled
def loss_curve(
    steps: npt.ArrayLike, losses: npt.ArrayLike, *, title: str, held_out: Sequence[tuple[int, float]] = ()
) -> Figure:
    """Draw the logged losses as a faint line, and their centred running mean over a twentieth of them as a strong one.

    The loss axis is logarithmic if all values are positive and the running mean varies by more than a factor of 3.

    Args:
        steps: shape (n,), the training steps at which a loss was logged, in increasing order.
        losses: shape (n,); values that are not finite are left out, and the corner says how many there are.
        title: the line over the figure.
        held_out: steps and the losses on held-out rows there, drawn as dots.

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
    mean = running_mean(y, max(1, len(y) // 20))
    figure = Figure(figsize=(4.8, 3.0), layout="constrained")
    axes = figure.subplots()
    marker = "o" if len(y) == 1 else ""
    axes.plot(x, y, color=SAMPLES, alpha=0.3, lw=0.6, rasterized=len(y) > MAX_POINTS, label="logged")
    axes.plot(x, mean, color=SAMPLES, lw=1.5, marker=marker, rasterized=len(y) > MAX_POINTS, label="running mean")
    if held_out:
        axes.plot(*zip(*held_out, strict=True), color=INK, marker="o", ms=3, lw=1, label="held-out rows")
    if y.min() > 0 and mean.max() > 3 * mean.min():
        axes.set_yscale("log")
        tick_decades(axes.yaxis, np.log10(y.max() / y.min()))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.margins(x=0.01)
    axes.grid(axis="y")
    axes.set(xlabel="training step", ylabel="loss")
    legend_above(axes, axes.get_lines())
    if missing := len(losses) - len(y):
        state_in_corner(axes, f"{missing:,} not finite")
    figure.suptitle(title, x=0.01, ha="left", parse_math=False)
    return figure


def running_mean(values: Array, window: int) -> Array:
    """Average each value with its ``window`` // 2 neighbours on either side, as far as there are any."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    first = np.maximum(np.arange(len(values)) - window // 2, 0)
    last = np.minimum(np.arange(len(values)) + window // 2 + 1, len(values))
    return np.asarray((sums[last] - sums[first]) / (last - first))
