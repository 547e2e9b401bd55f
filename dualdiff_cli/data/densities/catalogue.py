"""The named densities: the paper's four, three more shapes that are usual in the field, and one for teaching.

The paper's four are circle, dino, line and moons. Plain Langevin dynamics fail on two-modes, which is for teaching.

To add a density, write a function that makes it and add one line to `DENSITIES` at the end of this file.

The three further shapes follow Grathwohl, Chen, Bettencourt, Sutskever and Duvenaud 2019 ("FFJORD", ICLR). The spirals
here have Gaussian noise only, because the density of each shape has to be one that can be evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from itertools import product
from types import MappingProxyType

import numpy as np

from ...errors import unknown_name
from ..arrays import FloatArray
from .base import Density
from .families import Boxes, Discs, GaussianMixture, NoisyCurves, uniform_radius

__all__ = ["DENSITIES", "get_density"]


def get_density(name: str) -> Density:
    """Look up the density of a name.

    Raises:
        InputError: no density has that name.

    """
    if name in DENSITIES:
        return DENSITIES[name]
    raise unknown_name("density", name, DENSITIES)


def _directions(grid: FloatArray) -> FloatArray:
    """Divide grid points, (n, 2), by their norm plus the paper's 1e-10, which keeps the origin where it is."""
    directions: FloatArray = grid / (np.linalg.norm(grid, axis=1, keepdims=True) + 1e-10)
    return directions


@dataclass(frozen=True, eq=False)
class _Circle(Discs):
    """Discs whose points are drawn as the paper draws them."""

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n points, (n, 2), by rounding uniform points to a grid and moving them to the unit circle."""
        grid = 2 * np.round(rng.uniform(-0.5, 0.5, (n, 2)) / 2, 1)
        return 3 * (_directions(grid) + 0.03 * uniform_radius(n, rng))


def _circle() -> Density:
    # Rounding leaves five equally likely values on each axis. The 25 pairs have 16 directions, and one pair is the
    # origin. Pairs in one direction differ by at most 1e-9, because of the 1e-10, so one centre stands for them.
    grid = np.array(list(product([-0.4, -0.2, 0.0, 0.2, 0.4], repeat=2)))
    centres, counts = np.unique(np.round(_directions(grid), 8) + 0.0, axis=0, return_counts=True)
    return _Circle(
        counts / 25,
        3 * centres,
        3 * 0.03,
        name="circle",
        description="17 tiny discs, densest at their centres: 16 on a ring of radius 3 and one at the origin (paper)",
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
        description="uniform on the rectangle [−2, 2] × [−4, 4]; a rectangle despite its name (paper)",
    )


@dataclass(frozen=True, eq=False)
class _Moons(NoisyCurves):
    """Noisy half-circles whose points are drawn as the paper draws them."""

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n points, (n, 2), by scikit-learn, which spaces the points evenly along the moons and adds noise."""
        from sklearn.datasets import make_moons  # takes long to import, and only this method needs it

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


def _two_modes() -> Density:
    return GaussianMixture(
        np.array([0.8, 0.2]),
        np.array([[-1.5, -1.0], [1.5, 1.0]]),
        np.full((2, 2), 0.3),
        name="two-modes",
        description="two round Gaussians far apart with 80 % and 20 % of the points, for teaching: plain Langevin "
        "dynamics gets the shares wrong",
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
            _two_modes(),
            _checkerboard(),
            _two_spirals(),
        )
    }
)
"""The densities by name."""
