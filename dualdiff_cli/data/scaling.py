"""Standardisation z = (x − μ) / s of continuous columns, and dequantisation of integer ones.

A density fitted to integers can grow without bound on them. Uniform noise on the unit interval about each integer makes
the likelihood of a continuous model a lower bound of a discrete one's (Theis, van den Oord & Bethge 2016, section 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .densities.families import FloatArray
from .reading import Column, Points

__all__ = ["Scaler", "dequantise"]


@dataclass(frozen=True, eq=False)
class Scaler:
    """The affine map x → (x − shift) / scale and its inverse.

    Attributes:
        shift: μ, (d,).
        scale: s, (d,), positive.

    """

    shift: FloatArray
    scale: FloatArray

    @classmethod
    def fit(cls, x: FloatArray) -> Scaler:
        """Take mean and standard deviation of points (n, d); s = 1 for a column that is constant in them."""
        constant = (x == x[0]).all(axis=0)
        return cls(x.mean(axis=0), np.where(constant, 1.0, x.std(axis=0)))

    @classmethod
    def identity(cls, d: int) -> Scaler:
        """Make the map that changes nothing."""
        return cls(np.zeros(d), np.ones(d))

    @classmethod
    def from_dict(cls, values: Mapping[str, Sequence[float]]) -> Scaler:
        """Make the scaler that `to_dict` described."""
        return cls(np.array(values["shift"], dtype=np.float64), np.array(values["scale"], dtype=np.float64))

    def to_dict(self) -> dict[str, list[float]]:
        """Give the two vectors, exactly, as JSON can hold them."""
        return {"shift": self.shift.tolist(), "scale": self.scale.tolist()}

    def transform(self, x: Points) -> FloatArray:
        """Bring points (n, d) from data units to standard units."""
        return (np.asarray(x, dtype=np.float64) - self.shift) / self.scale

    def inverse(self, z: Points) -> FloatArray:
        """Bring points (n, d) from standard units to data units."""
        return np.asarray(z, dtype=np.float64) * self.scale + self.shift


def dequantise(x: FloatArray, columns: Sequence[Column], rng: np.random.Generator) -> FloatArray:
    """Points (n, d) with U(−½, ½) added to the integer columns; rounding those undoes it."""
    integer = np.array([column.kind == "integer" for column in columns])
    return x + integer * rng.uniform(-0.5, 0.5, x.shape)
