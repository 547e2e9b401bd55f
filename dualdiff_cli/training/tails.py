"""Mixtures of Gaussian scale mixtures: components with heavier tails than a Gaussian, in closed form all the same.

Each component has one mean and one shape, and S widths with weights of their own,

    p(z) = Σ_k Σ_s w_ks N(z; μ_k, c_s Σ_k),

which approximates a mixture of Student's t distributions (Peel & McLachlan 2000, "Robust mixture modelling using the t
distribution"; Andrews & Mallows 1974, "Scale mixtures of normal distributions"). Few rows suffice for the tails,
because all components share the widths c_s. And p is a mixture of K·S Gaussians, so its posterior means and its
conditional distributions are known.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.spatial.distance import cdist

from .. import seeding
from ..data import FloatArray
from .gaussians import REGULARISATION, FittedMixture, Gaussians, squared_distances

__all__ = ["SCALES", "ScaleMixture"]

SCALES = 3
"""S, the number of widths."""
ITERATIONS = 100
"""The largest number of iterations of a fit."""
TOLERANCE = 1e-3
"""A fit ends when an iteration raises the mean log-likelihood of the rows by less than this, in nats."""
WIDEST = 100.0
"""The largest ratio of a width to the geometric mean of all widths; the reciprocal is the least one."""
LEAST_WEIGHT = 1e-12
"""Added to what is zero for a component without rows, before it divides or its logarithm is taken."""


@dataclass(frozen=True)
class ScaleMixture(FittedMixture):
    """A fitted mixture of Gaussian scale mixtures.

    Attributes:
        weights: w, (K, S).
        means: μ, (K, width).
        shapes: Σ, (K, width, width).
        widths: c, (S,), factors of the shapes with a geometric mean of about one.
        tied: whether all components have the same shape.

    """

    weights: FloatArray
    means: FloatArray
    shapes: FloatArray
    widths: FloatArray
    tied: bool

    @classmethod
    def fit(cls, z: FloatArray, components: int, *, tied: bool, seed: int) -> Self:
        """Fit a mixture of so many components to rows z (n, width); the fit begins at clusters of the rows."""
        from sklearn.cluster import KMeans  # slow to import, and only a fit needs scikit-learn
        from sklearn.exceptions import ConvergenceWarning

        start = KMeans(components, n_init=1, random_state=seeding.integer(seed, f"scale mixture of {components}"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of rows that coincide
            part = start.fit_predict(z)
        r = np.broadcast_to(np.eye(components)[part].T[:, None] / SCALES, (components, SCALES, len(z)))
        shapes, means = np.tile(np.eye(z.shape[1]), (components, 1, 1)), np.zeros((components, z.shape[1]))
        empty = cls(np.full((components, SCALES), 1 / SCALES), means, shapes, np.geomspace(0.25, 4, SCALES), tied)
        return empty._m_step_means(z, r)._m_step_shapes(z, r)._converged(z)

    @property
    def form(self) -> str:
        """The form of the covariances."""
        return "tied-scales" if self.tied else "full-scales"

    @property
    def components(self) -> int:
        """K, the number of means."""
        return len(self.means)

    @property
    def parameters(self) -> int:
        """The number of free parameters: weights, means, shapes, and the widths up to a common factor."""
        k, width = int(self.means.shape[0]), int(self.means.shape[1])
        shapes = (1 if self.tied else k) * width * (width + 1) // 2
        return k * SCALES - 1 + k * width + shapes + SCALES - 1

    @property
    def gaussians(self) -> Gaussians:
        """The mixture as K·S Gaussians."""
        covariances = self.widths[:, None, None] * self.shapes[:, None]
        means = np.repeat(self.means, SCALES, axis=0)
        return Gaussians(self.weights.ravel(), means, covariances.reshape(-1, *self.shapes.shape[1:]))

    def refit(self, z: FloatArray) -> Self:
        """Fit a mixture of the same size and form to some of the rows; see `FittedMixture.refit`."""
        return self._converged(z)

    def with_component(self, mean: FloatArray, covariance: FloatArray, share: float, z: FloatArray) -> Self:
        """Fit a mixture with one more component, which has a shape of its own; see `FittedMixture.with_component`."""
        larger = replace(
            self,
            weights=np.concatenate([(1 - share) * self.weights, np.full((1, SCALES), share / SCALES)]),
            means=np.concatenate([self.means, mean[None]]),
            shapes=np.concatenate([self.shapes, covariance[None]]),
            tied=False,
        )
        return larger._converged(z)

    def _converged(self, z: FloatArray) -> Self:
        """Maximise the likelihood of rows z (n, width) by multicycle ECM (Meng & Rubin 1993, §5).

        Weights, means and shapes follow one E-step, and the widths follow an E-step of their own, so that the
        likelihood never falls.
        """
        mixture, before = self, -np.inf
        for _ in range(ITERATIONS):
            r, _, now = mixture._e_step(z)
            if now - before < TOLERANCE:
                break
            before = now
            mixture = mixture._m_step_means(z, r)._m_step_shapes(z, r)
            r, distances, _ = mixture._e_step(z)
            mixture = mixture._m_step_widths(r, distances)
        return mixture

    def _e_step(self, z: FloatArray) -> tuple[FloatArray, FloatArray, float]:
        """Give r, the probabilities of components and widths given the rows z (n, width), as (K, S, n).

        Returns:
            r; (z − μ_k)ᵀ Σ_k⁻¹ (z − μ_k), (K, n); and the mean of log p(z).

        """
        distances, log_volumes = self._distances(z)
        c = self.widths
        height = np.log(self.weights + LEAST_WEIGHT) - log_volumes[:, None] - 0.5 * z.shape[1] * np.log(2 * np.pi * c)
        log_p = distances[:, None] * (-0.5 / c)[:, None]
        log_p += height[:, :, None]
        most = log_p.max((0, 1))
        log_p -= most
        r = np.exp(log_p, out=log_p)
        whole = r.sum((0, 1))
        r /= whole
        return r, distances, float((most + np.log(whole)).mean())

    def _distances(self, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give what `squared_distances` gives for the means and shapes; a tied shape needs only one factor."""
        if not self.tied:
            return squared_distances(z, self.means, self.shapes)
        factor = np.linalg.cholesky(self.shapes[0])
        whitening = np.linalg.inv(factor).T
        log_volumes = np.full(self.components, np.log(factor.diagonal()).sum())
        return cdist(self.means @ whitening, z @ whitening, "sqeuclidean"), log_volumes

    def _m_step_means(self, z: FloatArray, r: FloatArray) -> Self:
        """Maximise over weights and means: w_ks is the mean of r_ks; in the mean μ_k a row counts by Σ_s r_ks/c_s."""
        counted = (r / self.widths[:, None]).sum(1)
        means = counted @ z / (counted.sum(1) + LEAST_WEIGHT)[:, None]
        return replace(self, weights=r.mean(2), means=means)

    def _m_step_shapes(self, z: FloatArray, r: FloatArray) -> Self:
        """Maximise over shapes: Σ_k is the scatter around μ_k, where a row counts by Σ_s r_ks/c_s, over Σ_ns r_ks."""
        counted, rows = (r / self.widths[:, None]).sum(1), r.sum((1, 2)) + LEAST_WEIGHT
        if self.tied:  # the means are those of the counted rows, so Σ_k Σ_n w_kn μ_k (z_n − μ_k)ᵀ is zero
            scatter = (z.T * counted.sum(0)) @ z - (self.means.T * counted.sum(1)) @ self.means
            shapes = np.broadcast_to(scatter / rows.sum(), (self.components, *scatter.shape))
        else:
            away = ((z - mu, w) for mu, w in zip(self.means, counted, strict=True))
            shapes = np.stack([(each.T * w) @ each for each, w in away]) / rows[:, None, None]
        return replace(self, shapes=shapes + REGULARISATION * np.eye(z.shape[1]))

    def _m_step_widths(self, r: FloatArray, distances: FloatArray) -> Self:
        """Maximise over weights and widths: d·c_s is the mean squared distance of rows to means, weighted by r_ks.

        A common factor of the widths goes to the shapes.
        """
        counts = self.means.shape[1] * r.sum((0, 2)) + LEAST_WEIGHT
        c = (r * distances[:, None]).sum((0, 2)) / counts + LEAST_WEIGHT
        common = np.exp(np.log(c).mean())
        widths = np.clip(c / common, 1 / WIDEST, WIDEST)
        return replace(self, weights=r.mean(2), widths=widths, shapes=common * self.shapes)
