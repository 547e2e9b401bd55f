"""The face of a density: what can be asked of every density from which points are drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..arrays import FloatArray
from ..names import column_names

__all__ = ["Density", "Modes", "row_slices"]

_CHUNK = 2**20
"""Entries of the largest temporary array, points × components, which is 8 MiB."""


class Modes(NamedTuple):
    """Where the probability sits, as boxes.

    A point x is inside mode k where |x_i − centres_ki| ≤ radii_ki for every axis i.

    Attributes:
        centres: the middle of each mode, (k, d).
        radii: (k, d), positive; four standard deviations of a Gaussian, half the width of a box, the radius of a disc.
        weights: the probability of each mode, (k,); they sum to one.

    """

    centres: FloatArray
    radii: FloatArray
    weights: FloatArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Density(ABC):
    """A probability density on R^d.

    Attributes:
        name: the name of the density on the command line, for `--dataset`.
        description: one line that says what the density looks like.

    """

    name: str = ""
    description: str = ""

    @property
    @abstractmethod
    def dim(self) -> int:
        """The dimension d."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the d coordinates."""
        return column_names(self.dim)

    @property
    def modes(self) -> Modes | None:
        """The separate parts that hold the probability; None where the density has no such parts."""
        return None

    @abstractmethod
    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n points, (n, d), float64."""

    @abstractmethod
    def log_prob(self, x: FloatArray) -> FloatArray:
        """Evaluate log p(x) in nats at points (n, d), as (n,); −inf outside the support."""

    @abstractmethod
    def entropy(self) -> float:
        """Compute the differential entropy −∫ p log p in nats."""


def row_slices(n: int, per_row: int) -> Iterator[slice]:
    """Cut n rows into slices so short that a temporary array with `per_row` entries a row stays small."""
    rows = max(1, _CHUNK // per_row)
    return (slice(start, start + rows) for start in range(0, n, rows))
