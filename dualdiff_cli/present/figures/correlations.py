"""The picture of which columns go together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from .panels import Array
from .scales import ColumnScale
from .style import styled

__all__ = ["correlation_map", "rank_correlations"]

WRITTEN = 8
"""The largest number of columns whose numbers are written into the map."""


def rank_correlations(rows: pl.DataFrame, scales: Sequence[ColumnScale]) -> Array:
    """Give Spearman's rank correlation of every two columns, each over the rows in which neither cell is missing.

    Args:
        rows: with the columns of the scales.
        scales: k columns whose places are ordered; see `scale_of`.

    Returns:
        (k, k); NaN where a column is constant or fewer than three rows are left.

    """
    places = np.column_stack([scale.place(rows[scale.name]) for scale in scales])
    k = len(scales)
    found = np.full((k, k), np.nan)
    for i in range(k):
        for j in range(i + 1):
            both = np.isfinite(places[:, [i, j]]).all(axis=1)
            if both.sum() >= 3:
                pair = pl.DataFrame({"x": places[both, i], "y": places[both, j]})
                found[i, j] = found[j, i] = pair.select(pl.corr("x", "y", method="spearman")).item()
    return found


@styled
def correlation_map(correlations: Array, columns: Sequence[str], *, title: str) -> Figure:
    """Draw correlations as coloured squares, blue for −1 and orange for +1, with their values where these fit.

    Args:
        correlations: shape (k, k), or their differences, which lie in [−2, 2] and are drawn on the same scale.
        columns: the k names.
        title: the line over the map.

    """
    k = len(columns)
    side = float(np.clip(0.36 * k, 1.3, 4.2))
    figure = Figure(figsize=(side + 1.1, side + 1.0), layout="constrained")
    axes = figure.subplots()
    axes.pcolormesh(correlations, cmap="PuOr_r", vmin=-1, vmax=1, edgecolor="none", rasterized=k > 20)
    axes.set(aspect="equal", xlim=(0, k), ylim=(k, 0))
    names = [name if len(name) <= 12 else f"{name[:11]}…" for name in columns]
    places = np.arange(k) + 0.5
    size = 7.0 if k <= 16 else 5.0
    axes.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor", fontsize=size, parse_math=False)
    axes.set_yticks(places, names, fontsize=size, parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, pad=4)
    if k <= WRITTEN:
        for i, j in np.ndindex(k, k):
            value = correlations[i, j]
            if np.isfinite(value):
                ink = "white" if abs(value) > 0.65 else "#333333"
                axes.text(
                    j + 0.5, i + 0.5, f"{value:.2f}".replace("-", "−"), ha="center", va="center", fontsize=6, c=ink
                )
    return figure
