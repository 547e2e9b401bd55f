"""The picture of a training's loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ...errors import InputError
from .panels import MAX_POINTS, Array, legend_above, state_in_corner, tick_decades
from .style import HELD_OUT, SAMPLES, styled

__all__ = ["loss_curve", "running_mean"]


@styled
def loss_curve(
    steps: npt.ArrayLike, losses: npt.ArrayLike, *, held_out: Sequence[tuple[int, float]] = (), title: str
) -> Figure:
    """Draw the logged losses as a faint line, and their centred running mean over a twentieth of them as a strong one.

    The loss axis is logarithmic if all values are positive and the running mean varies by more than a factor of 3.

    Args:
        steps: shape (n,), the training steps at which a loss was logged, in increasing order.
        losses: shape (n,); values that are not finite are left out, and the corner says how many there are.
        held_out: steps, and the loss of the averaged weights on unseen rows after each; empty where none is known. It
            has a panel of its own, because the recipes take a part of the variance out of the training loss.
        title: the line over the figure.

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
    figure = Figure(figsize=(4.8, 4.2 if held_out else 3.0), layout="constrained")
    panels = figure.subplots(2 if held_out else 1, 1, sharex=True, squeeze=False)[:, 0]
    axes = panels[0]
    marker = "o" if len(y) == 1 else ""
    axes.plot(x, y, color=SAMPLES, alpha=0.3, lw=0.6, rasterized=len(y) > MAX_POINTS, label="logged")
    axes.plot(x, mean, color=SAMPLES, lw=1.5, marker=marker, rasterized=len(y) > MAX_POINTS, label="running mean")
    if y.min() > 0 and mean.max() > 3 * mean.min():
        axes.set_yscale("log")
        tick_decades(axes.yaxis, np.log10(y.max() / y.min()))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.margins(x=0.01)
    axes.grid(axis="y")
    axes.set_ylabel("training loss")
    panels[-1].set_xlabel("training step")
    legend_above(axes, axes.get_lines())
    if held_out:
        at, unseen = np.asarray(held_out, np.float64).T
        panels[1].plot(at, unseen, color=HELD_OUT, lw=1.2, marker="o", ms=3, mew=0)
        panels[1].set_ylabel("loss on unseen rows")
        panels[1].grid(axis="y")
    if missing := len(losses) - len(y):
        state_in_corner(axes, f"{missing:,} not finite")
    figure.suptitle(title, x=0.01, ha="left", parse_math=False)
    return figure


def running_mean(values: Array, window: int) -> Array:
    """Average each value with its ``window`` // 2 neighbours on either side, as far as there are any."""
    return pl.Series(values).rolling_mean(window // 2 * 2 + 1, min_samples=1, center=True).to_numpy()
