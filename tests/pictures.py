"""Points for the tests of figures, and functions that read off a figure what it shows."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dualdiff_cli.present.figures.points import rows_beside_samples

__all__ = ["beside", "corner", "densities", "drawn", "legend", "names", "normal", "softmax"]


def normal(n: int, d: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits)
    return weights / weights.sum(axis=1, keepdims=True)


def names(d: int) -> list[str]:
    return [f"c{column}" for column in range(d)]


def beside(real: np.ndarray, generated: np.ndarray) -> Figure:
    frames = (pl.DataFrame(points, names(points.shape[1])) for points in (real, generated))
    figure = rows_beside_samples(*frames, title="title")
    assert figure is not None
    return figure


def drawn(axes: Axes) -> np.ndarray:
    """Every dot of the axes, shape (points, 2)."""
    return np.concatenate([np.empty((0, 2)), *(np.asarray(dots.get_offsets()) for dots in axes.collections)])


def corner(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def legend(axes: Axes) -> list[str]:
    box = axes.get_legend()
    assert box is not None
    return [box.get_title().get_text(), *(text.get_text() for text in box.get_texts())]


def densities(axes: Axes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Values and edges of the stairs in the axes, in drawing order."""
    return [(step.get_data().values, step.get_data().edges) for step in axes.patches]  # type: ignore[attr-defined]
