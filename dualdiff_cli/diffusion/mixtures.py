"""The denoisers of Gaussian mixtures, in closed form.

The tests compare with these denoisers, the errors of a schedule and a sampler can be measured with them before any
network is trained, and a fitted mixture is one of the experts that `stacking` combines.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from .denoisers import Denoiser
from .schedules import Schedule

__all__ = ["ClosedFormDenoiser", "FullMixtureDenoiser", "MixtureDenoiser", "condition"]

LEAST_VARIANCE = 1e-6
"""Added to the variances of given features, so that they can be inverted."""


class MixtureDenoiser(Denoiser):
    """The exact posterior mean for x ~ Σ_k w_k N(μ_k, diag s_k²).

    Component k of the distribution of x_t is N(α μ_k, α² s_k² + σ²). With r_k the probability of component k given x_t,

        D = Σ_k r_k [ μ_k + α s_k² / (α² s_k² + σ²) · (x_t − α μ_k) ].

    Args:
        weights: w, (k,), with the sum one.
        means, stds: μ and s, (k, d).
        schedule: gives α_t and σ_t.

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
        """See `Denoiser.forward`; computed in float64."""
        noisy = x_t.double().unsqueeze(1)
        alpha, sigma = self.schedule.alpha_sigma(t, noisy)
        variance = alpha**2 * self.variances + sigma**2
        residual = noisy - alpha * self.means
        log_density = self.log_weights - 0.5 * (residual**2 / variance + variance.log()).sum(-1)
        responsibility = torch.softmax(log_density, dim=1).unsqueeze(-1)
        posterior = self.means + alpha * self.variances / variance * residual
        return (responsibility * posterior).sum(1).to(x_t.dtype)


class ClosedFormDenoiser(Denoiser):
    """The denoiser of a distribution that was fitted to rows; it computes in float64."""

    @property
    @abstractmethod
    def components(self) -> int:
        """The number of components K."""

    @abstractmethod
    def with_responsibilities(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Give D (n, d) and r, the probabilities of the components given x_t, (n, K); see `Denoiser.forward`."""

    @abstractmethod
    def conditioned(self, values: Tensor, given: Tensor) -> ClosedFormDenoiser:
        """See `Denoiser.conditioned`."""

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser.forward`."""
        return self.with_responsibilities(x_t, t)[0]


class FullMixtureDenoiser(ClosedFormDenoiser):
    """The exact posterior mean for x ~ Σ_k w_k N(μ_k, Σ_k) with any covariances.

    With the eigenvectors V_k and eigenvalues e_k of Σ_k, component k of the distribution of x_t has along its own axes
    the variances v_k = α² e_k + σ², and with y_k = V_kᵀ (x_t − α μ_k) and r_k the probability of component k given x_t,

        D = Σ_k r_k [ μ_k + V_k (α e_k / v_k · y_k) ].

    Args:
        weights: w, (k,), with the sum one, or (n, k) for a mixture of its own for each of n points.
        means: μ, (k, d) or (n, k, d).
        covariances: Σ, (k, d, d) or (n, k, d, d).
        schedule: gives α_t and σ_t.

    """

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        eigenvalues, axes = torch.linalg.eigh(covariances.double())
        self.log_weights: Tensor
        self.means: Tensor
        self.eigenvalues: Tensor
        self.axes: Tensor
        self.register_buffer("log_weights", weights.double().log())
        self.register_buffer("means", means.double())
        self.register_buffer("eigenvalues", eigenvalues.clamp(min=0))
        self.register_buffer("axes", axes)

    @property
    def components(self) -> int:
        """The number of Gaussians."""
        return self.means.shape[-2]

    def with_responsibilities(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """See `ClosedFormDenoiser.with_responsibilities`."""
        noisy = x_t.double().unsqueeze(1)
        alpha, sigma = self.schedule.alpha_sigma(t, noisy)
        variance = alpha**2 * self.eigenvalues + sigma**2
        y = _turned(noisy - alpha * self.means, self.axes)
        log_density = self.log_weights - 0.5 * (y**2 / variance + variance.log()).sum(-1)
        r = torch.softmax(log_density, dim=1)
        posterior = self.means + _turned(alpha * self.eigenvalues / variance * y, self.axes.mT)
        mean = (r.unsqueeze(-1) * posterior).sum(1)
        return mean.to(x_t.dtype), r.to(x_t.dtype)

    @property
    def covariances(self) -> Tensor:
        """Σ, (k, d, d) or (n, k, d, d)."""
        return self.axes @ torch.diag_embed(self.eigenvalues) @ self.axes.mT

    @classmethod
    def load(cls, tensors: dict[str, Tensor], schedule: Schedule) -> FullMixtureDenoiser:
        """Make the denoiser of which these are the tensors, by name.

        Raises:
            KeyError: a tensor is missing.

        """
        eigenvalues = torch.diag_embed(tensors["eigenvalues"])
        denoiser = cls(tensors["log_weights"].exp(), tensors["means"], eigenvalues, schedule)
        for name in ("log_weights", "eigenvalues", "axes"):  # bit for bit
            setattr(denoiser, name, tensors[name])
        return denoiser

    def conditioned(self, values: Tensor, given: Tensor) -> FullMixtureDenoiser:
        """Condition every Gaussian on the given features; see `Denoiser.conditioned` and `condition`."""
        log_weights, means, covariances = condition(self.log_weights, self.means, self.covariances, values, given)
        denoiser = FullMixtureDenoiser(torch.softmax(log_weights, -1), means, covariances, self.schedule)
        denoiser.off_centre = True
        return denoiser


def condition(
    log_weights: Tensor, means: Tensor, covariances: Tensor, values: Tensor, given: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Condition a Gaussian mixture on given features.

    With G the given and F the other features, component k of the conditional distribution has

        μ_F + Σ_FG Σ_GG⁻¹ (x_G − μ_G),    Σ_FF − Σ_FG Σ_GG⁻¹ Σ_GF,    w_k ∝ w_k N(x_G; μ_G, Σ_GG).

    Args:
        log_weights, means, covariances: log w (k,), μ (k, d) and Σ (k, d, d), all in float64.
        values: x, (n, d) or (1, d), which counts where it is given.
        given: which features are G, (d,) or (n, d) bool.

    Returns:
        log w (n, k), up to a constant of the row; μ (n, k, d), where given features are x; and Σ, (n, k, d, d) or, if
        all rows have the same G, (k, d, d), where everything about given features is zero.

    """
    G = given.reshape(-1, 1, given.shape[-1])
    # Where a feature is not given, the matrix to be inverted is that of the identity, and all else is zero.
    inside = covariances * (G.unsqueeze(-1) & G.unsqueeze(-2))
    factor = torch.linalg.cholesky(inside + torch.diag_embed(torch.where(G, LEAST_VARIANCE, 1.0).double()))
    across = covariances * (~G.unsqueeze(-1) & G.unsqueeze(-2))
    regression = torch.cholesky_solve(across.mT, factor).mT
    away = (values.double().unsqueeze(1) - means) * G
    scaled = _solved(factor, away)
    log_volume = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    log_weights = log_weights - 0.5 * scaled.square().sum(-1) - log_volume
    by_rows = regression.mT[0] if len(regression) == 1 else regression.mT
    means = torch.where(G, values.double().unsqueeze(1), means + _turned(away, by_rows))
    conditional = (covariances - regression @ across.mT) * (~G.unsqueeze(-1) & ~G.unsqueeze(-2))
    return log_weights, means, conditional[0] if len(conditional) == 1 else conditional


def _solved(factor: Tensor, rows: Tensor) -> Tensor:
    """Solve L y = x for rows x (n, k, d), with lower triangles L of each row, (n, k, d, d), or of all, (1, k, d, d).

    Broadcasting would copy the matrices of all rows for each of them.
    """
    if len(factor) == 1:
        columns: Tensor = torch.linalg.solve_triangular(factor[0], rows.permute(1, 2, 0), upper=False)
        return columns.permute(2, 0, 1)
    each: Tensor = torch.linalg.solve_triangular(factor, rows.unsqueeze(-1), upper=False)
    return each.squeeze(-1)


def _turned(rows: Tensor, axes: Tensor) -> Tensor:
    """Multiply rows (n, k, d) by matrices that all points share, (k, d, d), or by those of each point, (n, k, d, d)."""
    if axes.dim() == 3:
        return torch.bmm(rows.transpose(0, 1), axes).transpose(0, 1)
    return (rows.unsqueeze(-2) @ axes).squeeze(-2)
