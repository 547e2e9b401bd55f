"""Families of densities p(x) that can be sampled and evaluated and whose entropy H = −E[log p(x)] is known.

There are four families: Gaussian mixtures, unions of boxes, discs with uniform radius, and curves blurred by Gaussian
noise. Logarithms and entropies are in nats, and all numbers are float64. The parameters of a family are public, because
the exact denoiser E[x | x_t] follows from them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from scipy.special import roots_hermitenorm, roots_legendre

from ..arrays import FloatArray
from .base import Density, Modes, row_slices

__all__ = ["Boxes", "Discs", "GaussianMixture", "NoisyCurves", "uniform_radius"]


@dataclass(frozen=True, eq=False)
class GaussianMixture(Density):
    """p(x) = Σ_k w_k N(x; μ_k, diag(s_k²)).

    Attributes:
        weights: w, (k,); positive numbers that sum to one.
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
        """One mode for each component, with four standard deviations as its radius."""
        return Modes(self.means, 4 * self.stds, self.weights)

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n points, (n, d)."""
        k = rng.choice(len(self.weights), size=n, p=self.weights)
        return self.means[k] + self.stds[k] * rng.standard_normal((n, self.dim))

    def log_prob(self, x: FloatArray) -> FloatArray:
        """Evaluate log p(x) in nats at points (n, d), as (n,), in memory that does not grow with n · k."""
        log_c = np.log(self.weights) - np.log(self.stds).sum(axis=1) - self.dim / 2 * np.log(2 * np.pi)
        out = np.empty(len(x))
        for rows in row_slices(len(x), len(self.weights)):
            terms = np.tile(log_c, (len(x[rows]), 1))
            for i in range(self.dim):  # the expanded square x² − 2xμ + μ² would cancel for narrow components
                terms -= 0.5 * ((x[rows, i, None] - self.means[:, i]) / self.stds[:, i]) ** 2
            top = terms.max(axis=1, keepdims=True)
            out[rows] = top[:, 0] + np.log(np.exp(terms - top).sum(axis=1))
        return out

    def entropy(self) -> float:
        """Compute the differential entropy in nats, by Gauss–Hermite quadrature of log p over each component."""
        return -self.expectation(self.log_prob)

    def expectation(self, f: Callable[[FloatArray], FloatArray], *, order: int = 32) -> float:
        """Compute E[f(x)] = Σ_k w_k Σ_q ω_q f(μ_k + s_k z_q) with order^d Gauss–Hermite nodes z_q for each component.

        Args:
            f: a function from points (n, d) to values (n,).
            order: number of nodes on each axis.

        """
        node, weight = roots_hermitenorm(order)
        z = np.array(list(product(node, repeat=self.dim)))
        omega = np.array(list(product(weight / weight.sum(), repeat=self.dim))).prod(axis=1)
        x = self.means[:, None] + self.stds[:, None] * z
        values = f(x.reshape(-1, self.dim)).reshape(len(self.weights), -1)
        return float(self.weights @ values @ omega)


@dataclass(frozen=True, eq=False)
class Boxes(Density):
    """Uniform on k boxes of equal size that are parallel to the axes and do not overlap.

    Inside a box p(x) = 1 / (k Π_i 2h_i).

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
        """One mode for each box; the mode is the box."""
        k = len(self.centres)
        return Modes(self.centres, np.tile(self.half_widths, (k, 1)), np.full(k, 1 / k))

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n points, (n, d)."""
        centre = self.centres[rng.integers(len(self.centres), size=n)]
        return centre + self.half_widths * rng.uniform(-1, 1, (n, self.dim))

    def log_prob(self, x: FloatArray) -> FloatArray:
        """Evaluate log p(x) in nats at points (n, d), as (n,); −inf outside the boxes."""
        inside = np.zeros(len(x), dtype=bool)
        for centre in self.centres:
            inside |= (np.abs(x - centre) <= self.half_widths).all(axis=1)
        return np.where(inside, -self.entropy(), -np.inf)

    def entropy(self) -> float:
        """Compute the differential entropy in nats, which is the logarithm of the volume of all boxes."""
        return float(np.log(len(self.centres)) + np.log(2 * self.half_widths).sum())


@dataclass(frozen=True, eq=False)
class Discs(Density):
    """Disjoint discs in the plane with uniform angle and uniform radius r ~ U(0, R) about the centre of each disc.

    At distance r < R from centre k, p(x) = w_k / (2π r R). The density is infinite at the centres, but integrable.

    Attributes:
        weights: w, (k,); positive numbers that sum to one.
        centres: (k, 2), more than 2R apart.
        radius: R.

    """

    weights: FloatArray
    centres: FloatArray
    radius: float

    @property
    def dim(self) -> int:
        """The dimension, which is 2."""
        return 2

    @property
    def modes(self) -> Modes:
        """One mode for each disc."""
        return Modes(self.centres, np.full_like(self.centres, self.radius), self.weights)

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n points, (n, 2)."""
        centre = self.centres[rng.choice(len(self.weights), size=n, p=self.weights)]
        return centre + self.radius * uniform_radius(n, rng)

    def log_prob(self, x: FloatArray) -> FloatArray:
        """Evaluate log p(x) in nats at points (n, 2), as (n,); −inf outside the discs, +inf at a centre.

        A point counts as inside up to 1 + 1e-6 radii, so that rounding cannot make a sample impossible.
        """
        out = np.empty(len(x))
        for rows in row_slices(len(x), 2 * len(self.weights)):
            distance = np.linalg.norm(x[rows, None] - self.centres, axis=2)
            k = distance.argmin(axis=1)
            r = distance[np.arange(len(k)), k]
            with np.errstate(divide="ignore"):
                log_p = np.log(self.weights[k]) - np.log(2 * np.pi * self.radius * r)
            out[rows] = np.where(r <= self.radius * (1 + 1e-6), log_p, -np.inf)
        return out

    def entropy(self) -> float:
        """Compute the differential entropy in nats: H(w) + log(2πR²) − 1, since E[log r] = log R − 1."""
        choice = -float(self.weights @ np.log(self.weights))
        return choice + float(np.log(2 * np.pi * self.radius**2)) - 1


@dataclass(frozen=True, eq=False)
class NoisyCurves(Density):
    """Equally likely curves, blurred by noise: x = a ⊙ (c(s) + σε) + b with ε ~ N(0, I) and s ~ Beta(β, 1) on [0, 1].

    A blurred curve is a continuous Gaussian mixture ∫ p(s) N(c(s), σ²I) ds, so Gauss–Legendre nodes in s turn it into
    a finite mixture, by which the density is evaluated.

    Attributes:
        curves: the functions c, each from parameters s, (m,), to points, (m, d).
        noise: σ.
        scale: a, (d,).
        shift: b, (d,).
        beta: β; the parameter has the density p(s) = β s^(β−1), and s = u^(1/β) with u ~ U(0, 1).
        nodes: number of Gauss–Legendre nodes on each curve; it suffices where neighbouring nodes are closer than σ.

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
        """Evaluate log p(x) in nats at points (n, d), as (n,), by quadrature along the curves."""
        return self._mixture.log_prob(x)

    def entropy(self) -> float:
        """Compute the differential entropy in nats, by quadrature along the curves and across the noise."""
        # log p varies slowly along a curve, so the mean of log p needs far fewer nodes than log p itself.
        return -self.as_mixture(nodes=64).expectation(self.log_prob, order=8)

    def as_mixture(self, *, nodes: int | None = None) -> GaussianMixture:
        """Give the Gaussian mixture whose components are the quadrature nodes along the curves.

        Args:
            nodes: number of nodes on each curve; None takes the number of the density.

        """
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
    """Draw n points of the unit disc, (n, 2), with uniform angle and uniform radius."""
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * rng.uniform(0, 1, (n, 1))
