"""The face of a fitted Gaussian mixture, whatever the form of its covariances."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, Self

import numpy as np
import torch
from scipy.special import logsumexp

from ..data import FloatArray
from ..diffusion.mixtures import FullMixtureDenoiser
from ..diffusion.schedules import Schedule

__all__ = ["REGULARISATION", "FittedMixture", "Gaussians", "squared_distances"]

MOST_AT_ONCE = 2**24
"""The largest number of densities, rows times Gaussians, that are computed at once."""
REGULARISATION = 1e-6
"""Added to the variances, in squared feature units, so that no Gaussian collapses onto one row."""


class Gaussians(NamedTuple):
    """A Gaussian mixture as arrays: weights (k,), means (k, width) and covariances (k, width, width)."""

    weights: FloatArray
    means: FloatArray
    covariances: FloatArray

    def log_density(self, z: FloatArray) -> FloatArray:
        """Give the log of the density at rows z (n, width), in nats, (n,)."""
        parts = np.array_split(z, -(-len(z) * len(self.weights) // MOST_AT_ONCE) or 1)
        return np.concatenate([self._log_density(part) for part in parts])

    def _log_density(self, z: FloatArray) -> FloatArray:
        distances, log_volumes = squared_distances(z, self.means, self.covariances)
        constant = z.shape[1] * np.log(2 * np.pi)
        log_p: FloatArray = logsumexp(-0.5 * (distances.T + constant) - log_volumes, b=self.weights, axis=1)
        return log_p


def squared_distances(z: FloatArray, means: FloatArray, covariances: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Give (z − μ_k)ᵀ Σ_k⁻¹ (z − μ_k), (k, n), and ½ log det Σ_k, (k,).

    Args:
        z: rows, (n, width).
        means: μ, (k, width).
        covariances: Σ, (k, width, width).

    Raises:
        numpy.linalg.LinAlgError: a covariance is not positive definite.

    """
    factors = np.linalg.cholesky(covariances)
    inverses = np.linalg.inv(factors)
    away = ((z - mu) @ inverse.T for mu, inverse in zip(means, inverses, strict=True))
    log_volumes = np.log(factors.diagonal(axis1=1, axis2=2)).sum(1)
    return np.stack([np.einsum("nd,nd->n", each, each) for each in away]), log_volumes


class FittedMixture(ABC):
    """A mixture that was fitted to rows by expectation maximisation."""

    @property
    @abstractmethod
    def form(self) -> str:
        """The form of the covariances; see `mixture.COVARIANCE_FORMS`."""

    @property
    @abstractmethod
    def components(self) -> int:
        """The number of means."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """The number of free parameters."""

    @property
    @abstractmethod
    def gaussians(self) -> Gaussians:
        """The mixture as arrays."""

    def log_density(self, z: FloatArray) -> FloatArray:
        """Give the log of the density at rows z (n, width), in nats, (n,)."""
        return self.gaussians.log_density(z)

    def bic(self, z: FloatArray) -> float:
        """Give the Bayesian information criterion on rows z (n, width): −2 log L + p log n; less is better."""
        return float(self.parameters * np.log(len(z)) - 2 * self.log_density(z).sum())

    def denoiser(self, schedule: Schedule) -> FullMixtureDenoiser:
        """Make the denoiser of the mixture."""
        weights, means, covariances = (torch.from_numpy(np.array(array)) for array in self.gaussians)
        return FullMixtureDenoiser(weights, means, covariances, schedule)

    @abstractmethod
    def refit(self, z: FloatArray) -> Self:
        """Fit a mixture of the same size and form to some of the rows; the fit begins at this mixture.

        For fewer rows the criterion could choose another size by chance, and from other starting points the fit could
        end in another optimum. Such a mixture would say little about this one.
        """

    @abstractmethod
    def with_component(self, mean: FloatArray, covariance: FloatArray, share: float, z: FloatArray) -> Self:
        """Fit a mixture with one more component to rows z (n, width); the fit begins at this mixture and the component.

        Args:
            mean, covariance: of the new component, (width,) and (width, width).
            share: the weight of the new component.
            z: the rows.

        """
