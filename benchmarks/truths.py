"""Distributions that fresh rows can be drawn from, and real tables, for the benchmarks of few rows."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import norm, t

from dualdiff_cli import seeding

Rows = np.ndarray
WEIGHTS = np.array([30, 20, 15, 10, 8, 6, 5, 3, 2, 1]) / 100
"""Of the ten modes."""


def mixture(d: int, n: int, rng: np.random.Generator) -> Rows:
    """Draw from eight Gaussians of unequal weight and rotated covariances; the mixture itself is the same always."""
    shape = seeding.stream(d, "the mixture")
    weights = shape.dirichlet(np.full(8, 3.0))
    means = 3 * shape.standard_normal((8, d))
    axes = np.linalg.qr(shape.standard_normal((8, d, d)))[0] * shape.uniform(0.1, 1.0, (8, 1, d))
    k = rng.choice(8, n, p=weights)
    return means[k] + np.einsum("nij,nj->ni", axes[k], rng.standard_normal((n, d)))


def sheet(d: int, n: int, rng: np.random.Generator) -> Rows:
    """Draw from a curved sheet of two dimensions with noise."""
    shape = seeding.stream(d, "the sheet")
    frequency, phase = shape.uniform(1, 3, (2, d)), shape.uniform(0, 2 * np.pi, d)
    return np.sin(rng.uniform(-1.5, 1.5, (n, 2)) @ frequency + phase) + 0.05 * rng.standard_normal((n, d))


def copula(d: int, n: int, rng: np.random.Generator) -> Rows:
    """Draw from a t copula with three degrees of freedom and heavy-tailed margins."""
    shape = seeding.stream(d, "the copula")
    factor = shape.standard_normal((d, d))
    correlated = rng.standard_normal((n, d)) @ (factor / np.linalg.norm(factor, axis=0))
    uniform = t.cdf(correlated / np.sqrt(rng.chisquare(3, (n, 1)) / 3), 3)
    return np.sinh(norm.ppf(np.clip(uniform, 1e-9, 1 - 1e-9)))


def centres_of_modes(d: int) -> Rows:
    """Give the centres of the ten modes, (10, d)."""
    return 4 * seeding.stream(d, "the modes").standard_normal((10, d))


def modes(d: int, n: int, rng: np.random.Generator) -> Rows:
    """Draw from ten narrow modes whose weights go from 1 % to 30 %."""
    return centres_of_modes(d)[rng.choice(10, n, p=WEIGHTS)] + 0.3 * rng.standard_normal((n, d))


def errors_of_weights(d: int, *drawn: Rows) -> list[float]:
    """Give for rows of the ten modes the largest relative error of a weight; a row belongs to the nearest centre."""
    counted = (np.bincount(cdist(rows, centres_of_modes(d)).argmin(1), minlength=10) / len(rows) for rows in drawn)
    return [float(np.abs(share / WEIGHTS - 1).max()) for share in counted]


def cube(d: int, n: int, rng: np.random.Generator) -> Rows:
    """Draw from the edges of a cube with a little noise: one coordinate is free, all others are 0 or 1."""
    corners = rng.integers(0, 2, (n, d)).astype(float)
    corners[np.arange(n), rng.integers(0, d, n)] = rng.uniform(0, 1, n)
    return corners + 0.02 * rng.standard_normal((n, d))


TRUTHS: dict[str, Callable[[int, int, np.random.Generator], Rows]] = {
    "mixture": mixture,
    "sheet": sheet,
    "copula": copula,
    "modes": modes,
    "cube": cube,
}
TABLES = {"breast-cancer": "load_breast_cancer", "diabetes": "load_diabetes", "wine": "load_wine"}
"""Real tables, and the functions of scikit-learn that load them."""


def real_table(name: str) -> Rows:
    """Load a real table whole."""
    rows: Rows = getattr(importlib.import_module("sklearn.datasets"), TABLES[name])(return_X_y=True)[0]
    return rows
