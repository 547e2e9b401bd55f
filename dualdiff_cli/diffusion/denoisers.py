"""Denoisers: D(x_t, t) = E[x | x_t], the only interface that samplers, likelihoods and exports use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .schedules import Schedule

__all__ = ["Denoiser", "LearntDenoiser", "Regression"]


class Regression(NamedTuple):
    """A regression problem: the output F and the target, both (n, d), and the weight of each squared error.

    The weight is (n, 1), or (n, d) where some features are given, whose errors have the weight zero.
    """

    output: Tensor
    target: Tensor
    weight: Tensor

    @property
    def squared_errors(self) -> Tensor:
        """weight·(output − target)², (n, d)."""
        return self.weight * (self.output - self.target).square()


class Denoiser(nn.Module, ABC):
    """E[x | x_t] under a noise schedule.

    Attributes:
        schedule: gives α_t and σ_t.
        off_centre: whether the mean of the points is not zero, so that noise alone is not where their noisy points
            begin; see `start_mean`.

    """

    schedule: Schedule
    off_centre: bool = False

    @abstractmethod
    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Evaluate the posterior mean of the clean points.

        Args:
            x_t: noisy points, (n, d).
            t: one time for all points, shape (), or one time per point, (n,).

        Returns:
            (n, d), in the dtype of x_t.

        """

    def start_mean(self, like: Tensor, t: Tensor, alpha: Tensor) -> Tensor | None:
        """Give the mean of the Gaussian that a walk from noise to points starts from; None stands for zero.

        At the noisiest level x_t = α x + σ ε still holds a little of x. Features have mean zero, so that noise alone is
        a good start; points that some given features move away from zero start around α E[x | x_t = 0].

        Args:
            like: any tensor of the shape, the dtype and the device of the noisy points, (n, d).
            t, alpha: the level at which the walk starts, each ().

        Returns:
            (n, d), in units of x_t.

        """
        if not self.off_centre:
            return None
        mean: Tensor = alpha * self(torch.zeros_like(like), t)
        return mean

    def conditioned(self, values: Tensor, given: Tensor) -> Denoiser:
        """Give the denoiser E[x | x_t, x_G] of the points of which some features are known.

        Args:
            values: the clean features, (1, d), or (n, d) for a denoiser of these n points only.
            given: which features are known, the set G, (d,) bool, or (n, d) for a set of its own for each of n points;
                the other values do not matter.

        Raises:
            NotImplementedError: the denoiser does not answer such questions.

        """
        raise NotImplementedError(f"{type(self).__name__} has no conditional means")


class LearntDenoiser(Denoiser):
    """A denoiser with a network, which training decides.

    Attributes:
        network: the network.

    """

    network: nn.Module

    @abstractmethod
    def regression(self, x: Tensor, epsilon: Tensor, t: Tensor) -> Regression:
        """Set up the regression problem at clean points x and noise ε, (n, d), and times t, (n,)."""

    @abstractmethod
    def gate(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Evaluate the experts' weights at x_t (n, d), t () or (n,): (n, E); only for a denoiser with experts."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """Give all tensors that training decides, by name."""

    @abstractmethod
    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Load the tensors that `weights` gave."""
