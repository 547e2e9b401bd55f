"""Denoisers: D(x_t, t) = E[x | x_t], the one face that samplers, likelihoods and exports see.

What a network predicts is adapted here and nowhere else. With x_t = α x + σ ε, every parametrisation is affine in the
network's output F (Salimans & Ho 2022, "Progressive Distillation", appendix D):

    noise       F ≈ ε             D = (x_t − σ F) / α
    data        F ≈ x             D = F
    velocity    F ≈ α ε − σ x     D = (α x_t − σ F) / (α² + σ²)

The closed-form denoisers of a Gaussian and of a Gaussian mixture have the same face: they are the tests' oracle, and
they tell what a schedule and a sampler cost before any network does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from .schedules import Schedule

__all__ = ["Denoiser", "GaussianDenoiser", "MixtureDenoiser", "NetworkDenoiser"]


def _column(coefficient: Tensor) -> Tensor:
    """() or (n,) → (1, 1) or (n, 1), to multiply (n, d)."""
    return coefficient.reshape(-1, 1)


class Denoiser(nn.Module, ABC):
    """E[x | x_t] under a schedule."""

    schedule: Schedule

    @abstractmethod
    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Posterior mean of the clean points, (n, d) of x_t's dtype.

        Args:
            x_t: noisy points, (n, d).
            t: one time for all points, shape (), or one each, (n,).

        """


class NetworkDenoiser(Denoiser):
    """A network's output read as a noise, data or velocity prediction.

    Args:
        network: (x (n, d), t (1,) or (n,)) → (n, d), in its own dtype.
        schedule: gives α_t, σ_t.
        prediction: what the output stands for.

    """

    def __init__(
        self, network: nn.Module, schedule: Schedule, *, prediction: Literal["noise", "data", "velocity"]
    ) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.prediction = prediction

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x | x_t]; the affine map is evaluated in x_t's dtype, the network in its own."""
        alpha, sigma = (_column(c).to(x_t.dtype) for c in self.schedule(t))
        output = self._output(x_t, t).to(x_t.dtype)
        if self.prediction == "noise":
            return (x_t - sigma * output) / alpha
        if self.prediction == "data":
            return output
        return (alpha * x_t - sigma * output) / (alpha**2 + sigma**2)

    def regression(self, x: Tensor, epsilon: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """(F(x_t, t), what F should have been), both (n, d), for clean points x, noise ε (n, d) and times t (n,)."""
        alpha, sigma = (_column(c).to(x.dtype) for c in self.schedule(t))
        output = self._output(alpha * x + sigma * epsilon, t)
        if self.prediction == "noise":
            return output, epsilon
        if self.prediction == "data":
            return output, x
        return output, alpha * epsilon - sigma * x

    def gate(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Weights of the experts, (n, experts); only where the network has a gate."""
        weights: Tensor = self.network.gate(*self._network_inputs(x_t, t))  # type: ignore[operator]
        return weights

    def _output(self, x_t: Tensor, t: Tensor) -> Tensor:
        output: Tensor = self.network(*self._network_inputs(x_t, t))
        return output

    def _network_inputs(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        dtype = next(self.network.parameters()).dtype
        return x_t.to(dtype), t.reshape(-1).to(dtype)


class MixtureDenoiser(Denoiser):
    """Exact posterior mean when x ~ Σ_k w_k N(μ_k, diag s_k²).

    Component k of x_t is N(α μ_k, α² s_k² + σ²), so with responsibilities r_k(x_t)

        D = Σ_k r_k [ μ_k + α s_k² / (α² s_k² + σ²) · (x_t − α μ_k) ].

    Args:
        weights: (k,), summing to one.
        means, stds: (k, d).
        schedule: gives α_t, σ_t.

    """

    def __init__(self, weights: Tensor, means: Tensor, stds: Tensor, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        self.log_weights: Tensor
        self.means: Tensor
        self.variances: Tensor
        self.register_buffer("log_weights", weights.double().log())
        self.register_buffer("means", means.double())
        self.register_buffer("variances", stds.double() ** 2)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x | x_t], computed in float64."""
        alpha, sigma = (c.reshape(-1, 1, 1) for c in self.schedule(t))
        variance = alpha**2 * self.variances + sigma**2
        residual = x_t.double().unsqueeze(1) - alpha * self.means
        log_density = self.log_weights - 0.5 * (residual**2 / variance + variance.log()).sum(-1)
        responsibility = torch.softmax(log_density, dim=1).unsqueeze(-1)
        posterior = self.means + alpha * self.variances / variance * residual
        mean: Tensor = (responsibility * posterior).sum(1)
        return mean.to(x_t.dtype)


class GaussianDenoiser(MixtureDenoiser):
    """Exact posterior mean when x ~ N(μ, diag s²): the mixture of one."""

    def __init__(self, mean: Tensor, std: Tensor, schedule: Schedule) -> None:
        super().__init__(torch.ones(1), mean.unsqueeze(0), std.unsqueeze(0), schedule)
