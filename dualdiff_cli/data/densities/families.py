"""Densities p(x) that can be sampled, evaluated and whose entropy H = −E[log p(x)] is known, all in nats and float64.

Four families: Gaussian mixtures, unions of boxes, discs with uniform radius, and curves blurred by Gaussian noise.
Their parameters are public, because exact denoisers E[x | x_t] follow from them. A blurred curve c(s), s ~ p(s), is a
continuous Gaussian mixture ∫ p(s) N(x; c(s), σ²) ds, so Gauss–Legendre nodes in s turn it into a finite one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import roots_hermitenorm, roots_legendre

__all__ = ["Boxes", "Density", "Discs", "FloatArray", "GaussianMixture", "Modes", "NoisyCurves", "column_names"]

FloatArray = npt.NDArray[np.float64]

_CHUNK = 2**20  # entries of the largest temporary (points × components): 8 MiB


class Modes(NamedTuple):
    """Where the probability sits: a point x is inside mode k when |x_i − centres_ki| ≤ radii_ki for every axis i.

    Attributes:
        centres: (k, d).
        radii: (k, d); four standard deviations for a Gaussian, the half-width of a box, the radius of a disc.
        weights: (k,) probabilities, summing to one.

    """

    centres: FloatArray
    radii: FloatArray
    weights: FloatArray


def column_names(d: int) -> tuple[str, ...]:
    """Names of d unnamed columns: x and y in the plane, x1 … xd otherwise."""
    return ("x", "y") if d == 2 else tuple(f"x{i}" for i in range(1, d + 1))


@dataclass(frozen=True, eq=False, kw_only=True)
class Density(ABC):
    """A probability density on R^d.

    Attributes:
        name: what `--dataset` calls it.
        description: one line for people.

    """

    name: str = ""
    description: str = ""

    @property
    @abstractmethod
    def dim(self) -> int:
        """The dimension d."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the d coordinates."""
        return column_names(self.dim)

    @property
    def modes(self) -> Modes | None:
        """The separate blobs of probability; None where the density has no such parts."""
        return None

    @abstractmethod
    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n points, (n, d)."""

    @abstractmethod
    def log_prob(self, x: FloatArray) -> FloatArray:
        """Evaluate log p(x) in nats for points (n, d), as (n,); −inf outside the support."""

    @abstractmethod
    def entropy(self) -> float:
        """Differential entropy −∫ p log p in nats."""


@dataclass(frozen=True, eq=False)
class GaussianMixture(Density):
    """p(x) = Σ_k w_k N(x; μ_k, diag(s_k²)).

    Attributes:
        weights: w, (k,), positive, summing to one.
        means: μ, (k, d).
        stds: s, (k, d).

    """

    weights: FloatArray
    means: FloatArray
    stds: FloatArray

    @property
    def dim(self) -> int:
        """The dimension d."""
        return int(self.means.shape[1])

    @property
    def modes(self) -> Modes:
        """One mode a component, four standard deviations wide."""
        return Modes(self.means, 4 * self.stds, self.weights)

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n points, (n, d)."""
        k = rng.choice(len(self.weights), size=n, p=self.weights)
        return self.means[k] + self.stds[k] * rng.standard_normal((n, self.dim))

    def log_prob(self, x: FloatArray) -> FloatArray:
        """Evaluate log p(x) in nats for points (n, d), as (n,), in memory that does not grow with n · k."""
        log_c = np.log(self.weights) - np.log(self.stds).sum(axis=1) - self.dim / 2 * np.log(2 * np.pi)
        out = np.empty(len(x))
        for rows in _chunks(len(x), len(self.weights)):
            terms = np.tile(log_c, (len(x[rows]), 1))
            for i in range(self.dim):  # differences, not the expanded square, which cancels for narrow components
                terms -= 0.5 * ((x[rows, i, None] - self.means[:, i]) / self.stds[:, i]) ** 2
            top = terms.max(axis=1, keepdims=True)
            out[rows] = top[:, 0] + np.log(np.exp(terms - top).sum(axis=1))
        return out

    def entropy(self) -> float:
        """Differential entropy in nats, by Gauss–Hermite quadrature of log p under each component."""
        return -self.expectation(self.log_prob)

    def expectation(self, f: Callable[[FloatArray], FloatArray], *, order: int = 32) -> float:
        """E[f(x)] = Σ_k w_k Σ_q ω_q f(μ_k + s_k z_q), with order^d Gauss–Hermite nodes z_q a component."""
        node, weight = roots_hermitenorm(order)
        z = np.array(list(product(node, repeat=self.dim)))
        omega = np.array(list(product(weight / weight.sum(), repeat=self.dim))).prod(axis=1)
        x = self.means[:, None] + self.stds[:, None] * z
        values = f(x.reshape(-1, self.dim)).reshape(len(self.weights), -1)
        return float(self.weights @ values @ omega)


@dataclass(frozen=True, eq=False)
class Boxes(Density):
    """Uniform on a union of k equal, axis-aligned boxes that do not overlap: p(x) = 1 / (k Π_i 2h_i) inside.

    Attributes:
        centres: (k, d).
        half_widths: h, (d,).

    """

    centres: FloatArray
    half_widths: FloatArray

    @property
    def dim(self) -> int:
        """The dimension d."""
        return int(self.centres.shape[1])

    @property
    def modes(self) -> Modes:
        """One mode a box, exactly the box."""
        k = len(self.centres)
        return Modes(self.centres, np.tile(self.half_widths, (k, 1)), np.full(k, 1 / k))

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n points, (n, d)."""
        centre = self.centres[rng.integers(len(self.centres), size=n)]
        return centre + self.half_widths * rng.uniform(-1, 1, (n, self.dim))

    def log_prob(self, x: FloatArray) -> FloatArray:
        """Evaluate log p(x) in nats for points (n, d), as (n,); −inf outside the boxes."""
        inside = np.zeros(len(x), dtype=bool)
        for centre in self.centres:
            inside |= (np.abs(x - centre) <= self.half_widths).all(axis=1)
        return np.where(inside, -self.entropy(), -np.inf)

    def entropy(self) -> float:
        """Differential entropy in nats: the logarithm of the boxes' volume."""
        return float(np.log(len(self.centres)) + np.log(2 * self.half_widths).sum())


@dataclass(frozen=True, eq=False)
class Discs(Density):
    """Disjoint discs in the plane, each with uniform angle and uniform radius r ~ U(0, R) about its centre.

    p(x) = w_k / (2π r R) at distance r < R from centre k: singular, but integrable, at the centres.

    Attributes:
        weights: w, (k,), positive, summing to one.
        centres: (k, 2), more than 2R apart.
        radius: R.

    """

    weights: FloatArray
    centres: FloatArray
    radius: float

    @property
    def dim(self) -> int:
        """The dimension, 2."""
        return 2

    @property
    def modes(self) -> Modes:
        """One mode a disc."""
        return Modes(self.centres, np.full_like(self.centres, self.radius), self.weights)

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n points, (n, 2)."""
        centre = self.centres[rng.choice(len(self.weights), size=n, p=self.weights)]
        return centre + self.radius * uniform_radius(n, rng)

    def log_prob(self, x: FloatArray) -> FloatArray:
        """Evaluate log p(x) in nats for points (n, 2), as (n,); −inf outside the discs, +inf at a centre.

        A point counts as inside up to 1 + 1e-6 radii, so that rounding cannot make a sample impossible.
        """
        out = np.empty(len(x))
        for rows in _chunks(len(x), 2 * len(self.weights)):
            distance = np.linalg.norm(x[rows, None] - self.centres, axis=2)
            k = distance.argmin(axis=1)
            r = distance[np.arange(len(k)), k]
            with np.errstate(divide="ignore"):
                log_p = np.log(self.weights[k]) - np.log(2 * np.pi * self.radius * r)
            out[rows] = np.where(r <= self.radius * (1 + 1e-6), log_p, -np.inf)
        return out

    def entropy(self) -> float:
        """Differential entropy in nats: H(w) + log(2πR²) − 1, since E[log r] = log R − 1."""
        choice = -float(self.weights @ np.log(self.weights))
        return choice + float(np.log(2 * np.pi * self.radius**2)) - 1


@dataclass(frozen=True, eq=False)
class NoisyCurves(Density):
    """Equally likely curves, blurred: x = a ⊙ (c(s) + σε) + b with ε ~ N(0, I) and s ~ Beta(β, 1) on [0, 1].

    Attributes:
        curves: the functions c, each from (m,) parameters to (m, d) points.
        noise: σ.
        scale: a, (d,).
        shift: b, (d,).
        beta: β, so that p(s) = β s^(β−1) and s = u^(1/β) with u ~ U(0, 1).
        nodes: Gauss–Legendre nodes a curve; enough once neighbours are closer than σ.

    """

    curves: tuple[Callable[[FloatArray], FloatArray], ...]
    noise: float
    scale: FloatArray
    shift: FloatArray
    beta: float = 1.0
    nodes: int = 512

    @property
    def dim(self) -> int:
        """The dimension d."""
        return len(self.scale)

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n points, (n, d)."""
        which = rng.integers(len(self.curves), size=n)
        s = rng.random(n) ** (1 / self.beta)
        points = np.empty((n, self.dim))
        for k, curve in enumerate(self.curves):
            points[which == k] = curve(s[which == k])
        return self.scale * (points + self.noise * rng.standard_normal(points.shape)) + self.shift

    def log_prob(self, x: FloatArray) -> FloatArray:
        """Evaluate log p(x) in nats for points (n, d), as (n,), by quadrature along the curves."""
        return self._mixture.log_prob(x)

    def entropy(self) -> float:
        """Differential entropy in nats, by quadrature along the curves and across the noise."""
        # log p varies slowly along a curve, so its mean needs far fewer nodes than log p itself does.
        return -self.as_mixture(nodes=64).expectation(self.log_prob, order=8)

    def as_mixture(self, *, nodes: int | None = None) -> GaussianMixture:
        """Give the Gaussian mixture whose components are the quadrature nodes along the curves."""
        node, weight = roots_legendre(self.nodes if nodes is None else nodes)
        s = (node + 1) / 2
        w = weight / 2 * self.beta * s ** (self.beta - 1)
        means = self.scale * np.concatenate([curve(s) for curve in self.curves]) + self.shift
        stds = np.tile(self.scale * self.noise, (len(means), 1))
        weights = np.tile(w / w.sum(), len(self.curves)) / len(self.curves)
        return GaussianMixture(weights, means, stds, name=self.name, description=self.description)

    @cached_property
    def _mixture(self) -> GaussianMixture:
        return self.as_mixture()


def uniform_radius(n: int, rng: np.random.Generator) -> FloatArray:
    """Draw n points (n, 2) of the unit disc with uniform angle and uniform radius."""
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * rng.uniform(0, 1, (n, 1))


def _chunks(n: int, per_row: int) -> Iterator[slice]:
    """Slices that cover n rows, such that a temporary with per_row entries a row stays small."""
    rows = max(1, _CHUNK // per_row)
    return (slice(start, start + rows) for start in range(0, n, rows))
