"""The denoiser of independent features, in closed form: what each feature says by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .discrete import DiscreteMeans
from .mixtures import ClosedFormDenoiser
from .schedules import Schedule

__all__ = ["IndependentDenoiser", "Marginal"]


class Marginal(NamedTuple):
    """The density of one feature, a mixture of Gaussians: weights w, means μ and variances s², each (K,)."""

    weights: Tensor
    means: Tensor
    variances: Tensor

    def padded(self, K: int) -> Marginal:
        """Write the same density with K components: the last one is split into equal ones."""
        last = len(self.weights) - 1
        place = torch.arange(K).clamp(max=last)
        shares = torch.where(torch.arange(K) < last, 1.0, 1.0 / (K - last)).to(self.weights.dtype)
        return Marginal(shares * self.weights[place], self.means[place], self.variances[place])


class IndependentDenoiser(ClosedFormDenoiser):
    """The exact posterior mean for independent features, x_i ~ Σ_k w_ik N(μ_ik, s_ik²).

    Each feature has a mixture of its own, so that K components a feature make K^d of all features; `MixtureDenoiser`
    has K of all features. With r_ik the probability of component k of feature i given x_ti,

        D_i = Σ_k r_ik [ μ_ik + α s_ik² / (α² s_ik² + σ²) · (x_ti − α μ_ik) ].

    Args:
        log_weights, means, variances: log w, μ and s², (d, K), in float64.
        schedule: gives α_t and σ_t.
        discrete_means: answers for the features with few values, of which only the shares of the values are known.

    """

    components = 1

    def __init__(
        self,
        log_weights: Tensor,
        means: Tensor,
        variances: Tensor,
        schedule: Schedule,
        discrete_means: DiscreteMeans | None = None,
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.log_weights: Tensor
        self.means: Tensor
        self.variances: Tensor
        for name, tensor in (("log_weights", log_weights), ("means", means), ("variances", variances)):
            self.register_buffer(name, tensor)
        self.discrete_means = discrete_means
        self._known: tuple[Tensor, Tensor] | None = None

    @classmethod
    def of(
        cls, marginals: Sequence[Marginal], schedule: Schedule, discrete_means: DiscreteMeans | None = None
    ) -> IndependentDenoiser:
        """Make the denoiser of the densities of all features."""
        K = max(len(each.weights) for each in marginals)
        weights, means, variances = map(torch.stack, zip(*(each.padded(K) for each in marginals), strict=True))
        return cls(weights.double().log(), means.double(), variances.double(), schedule, discrete_means)

    def with_responsibilities(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """See `ClosedFormDenoiser.with_responsibilities`; there is one component, because r_ik differs by feature."""
        noisy = x_t.double()
        alpha, sigma = self.schedule.alpha_sigma(t, noisy.unsqueeze(-1))
        variance = alpha**2 * self.variances + sigma**2
        away = noisy.unsqueeze(-1) - alpha * self.means
        r = torch.softmax(self.log_weights - 0.5 * (away**2 / variance + variance.log()), dim=-1)
        mean = (r * (self.means + alpha * self.variances / variance * away)).sum(-1)
        if self.discrete_means is not None:
            mean = self.discrete_means(mean, torch.zeros_like(noisy), noisy, alpha.squeeze(-1), sigma.squeeze(-1))
        if self._known is not None:
            values, given = self._known
            mean = torch.where(given, values.double(), mean)
        return mean.to(x_t.dtype), torch.ones_like(x_t[:, :1])

    def conditioned(self, values: Tensor, given: Tensor) -> IndependentDenoiser:
        """Answer given features with their values; they say nothing of the others. See `Denoiser.conditioned`."""
        tensors = self.log_weights, self.means, self.variances
        denoiser = IndependentDenoiser(*tensors, self.schedule, self.discrete_means)
        denoiser._known, denoiser.off_centre = (values, given), True
        return denoiser
