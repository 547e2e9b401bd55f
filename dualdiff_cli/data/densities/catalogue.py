"""The named densities: the paper's four (circle, dino, line, moons) and three more of the field's usual shapes.

The further shapes follow Grathwohl et al. 2019 (FFJORD), with Gaussian noise alone on the spirals, so that each of them
has a density that can be evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from itertools import product
from types import MappingProxyType

import numpy as np

from ...errors import unknown_name
from .families import Boxes, Density, Discs, FloatArray, GaussianMixture, NoisyCurves, uniform_radius

__all__ = ["DENSITIES", "describe", "get_density"]


def get_density(name: str) -> Density:
    """Look a density up.

    Raises:
        InputError: there is none of that name.

    """
    if name in DENSITIES:
        return DENSITIES[name]
    raise unknown_name("density", name, DENSITIES)


def describe() -> list[dict[str, str | float | int | None]]:
    """Give one row a density: name, dimension, number of modes (None: not separate), entropy in nats, description."""
    return [
        {
            "name": density.name,
            "dim": density.dim,
            "modes": None if density.modes is None else len(density.modes.weights),
            "entropy": density.entropy(),
            "description": density.description,
        }
        for density in DENSITIES.values()
    ]


def _directions(grid: FloatArray) -> FloatArray:
    """Grid points (n, 2) divided by their norm; the paper's 1e-10 keeps the origin where it is."""
    directions: FloatArray = grid / (np.linalg.norm(grid, axis=1, keepdims=True) + 1e-10)
    return directions


@dataclass(frozen=True, eq=False)
class _Circle(Discs):
    """Discs, sampled the paper's way."""

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n points, (n, 2), rounding and all."""
        grid = 2 * np.round(rng.uniform(-0.5, 0.5, (n, 2)) / 2, 1)
        return 3 * (_directions(grid) + 0.03 * uniform_radius(n, rng))


def _circle() -> Density:
    # Rounding leaves five equally likely values an axis; the 25 pairs collapse onto 16 directions and the origin. Pairs
    # along one direction differ by the 1e-10, 1e-9 at most: one centre stands for them.
    grid = np.array(list(product([-0.4, -0.2, 0.0, 0.2, 0.4], repeat=2)))
    centres, counts = np.unique(np.round(_directions(grid), 8) + 0.0, axis=0, return_counts=True)
    return _Circle(
        counts / 25,
        3 * centres,
        3 * 0.03,
        name="circle",
        description="17 tiny blobs, singular at their centres: 16 on a ring of radius 3, one at the origin (paper)",
    )


def _dino() -> Density:
    lines = files(__package__).joinpath("dino.csv").read_text(encoding="utf-8").splitlines()
    points = np.loadtxt(lines, delimiter=",", skiprows=1)
    half = np.array([54.0, 48.0])
    return GaussianMixture(
        np.full(len(points), 1 / len(points)),
        4 * (points / half - 1),
        np.tile(4 * 0.15 / half, (len(points), 1)),
        name="dino",
        description="142 narrow Gaussians at the points of the Datasaurus (paper)",
    )


def _line() -> Density:
    return Boxes(
        np.zeros((1, 2)),
        np.array([2.0, 4.0]),
        name="line",
        description="uniform on the rectangle [−2, 2] × [−4, 4], whatever its name says (paper)",
    )


@dataclass(frozen=True, eq=False)
class _Moons(NoisyCurves):
    """Noisy half-circles, sampled the paper's way."""

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n points, (n, 2), with scikit-learn, which spaces the noise-free points evenly along the moons."""
        from sklearn.datasets import make_moons  # slow to import, and only this method needs it

        points, _ = make_moons(n, noise=self.noise, random_state=int(rng.integers(2**32)))
        return self.scale * np.asarray(points, dtype=np.float64) + self.shift


def _outer_moon(s: FloatArray) -> FloatArray:
    return np.stack([np.cos(np.pi * s), np.sin(np.pi * s)], axis=1)


def _inner_moon(s: FloatArray) -> FloatArray:
    return np.stack([1 - np.cos(np.pi * s), 0.5 - np.sin(np.pi * s)], axis=1)


def _moons() -> Density:
    scale = np.array([2.0, 3.0])
    return _Moons(
        (_outer_moon, _inner_moon),
        0.03,
        scale,
        0.3 * scale - 1,
        nodes=256,
        name="moons",
        description="two interleaved half-circles with Gaussian noise, scikit-learn's make_moons (paper)",
    )


def _eight_gaussians() -> Density:
    angle = np.arange(8) * np.pi / 4
    return GaussianMixture(
        np.full(8, 1 / 8),
        np.sqrt(8) * np.stack([np.cos(angle), np.sin(angle)], axis=1),
        np.full((8, 2), np.sqrt(1 / 8)),
        name="eight-gaussians",
        description="eight round Gaussians on a circle of radius 2.83",
    )


def _checkerboard() -> Density:
    side = np.array([-3.0, -1.0, 1.0, 3.0])
    return Boxes(
        np.array([(side[i], side[j]) for i, j in product(range(4), repeat=2) if (i + j) % 2 == 0]),
        np.array([1.0, 1.0]),
        name="checkerboard",
        description="uniform on the eight dark squares of a 4 × 4 board over [−4, 4]²",
    )


def _spiral(s: FloatArray) -> FloatArray:
    theta = 3 * np.pi * s
    return np.stack([-np.cos(theta), np.sin(theta)], axis=1) * theta[:, None] / 3


def _opposite_spiral(s: FloatArray) -> FloatArray:
    return -_spiral(s)


def _two_spirals() -> Density:
    return NoisyCurves(
        (_spiral, _opposite_spiral),
        0.1,
        np.ones(2),
        np.zeros(2),
        beta=2.0,
        name="two-spirals",
        description="two interleaved Archimedean spirals of one and a half turns with Gaussian noise",
    )


DENSITIES: Mapping[str, Density] = MappingProxyType(
    {
        density.name: density
        for density in (
            _circle(),
            _dino(),
            _line(),
            _moons(),
            _eight_gaussians(),
            _checkerboard(),
            _two_spirals(),
        )
    }
)
