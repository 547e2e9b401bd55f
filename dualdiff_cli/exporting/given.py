"""Given cells as inputs of an exported sampler: D(x_t, t | x_G) as a graph for any values and any set G.

A network takes the values and the set as they are. A Gaussian mixture is conditioned by inverting matrices that depend
on the set, and ONNX has no operator that inverts a matrix or finds its eigenvectors. The graph therefore inverts by
Gauss and Jordan's elimination, one step a feature. It does so at each noise level, because it treats a given feature as
one that is observed without noise: with a_i = 1 and s_i² = `LEAST_VARIANCE` for i in G and otherwise a_i = α and
s_i² = σ², what is observed is y = a x + s ε, and component k of the mixture has

    A_k = diag(a) Σ_k diag(a) + diag(s²),    E_k[x | y] = μ_k + Σ_k diag(a) A_k⁻¹ (y − a μ_k),

with the probability of the component given y, ∝ w_k N(y; a μ_k, A_k).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..diffusion.denoisers import Denoiser
from ..diffusion.mixtures import LEAST_VARIANCE, FullMixtureDenoiser
from ..errors import InputError

__all__ = ["GIVEN_INPUTS", "GivenDenoiser", "nothing_given", "require_few_features"]

GIVEN_INPUTS = ("values", "given")
"""The inputs of a file that takes given cells: features (n, width) float64, and which are given, (width,) bool."""

MOST_GIVEN_FEATURES = 64
"""The elimination has one step for each feature, and each step adds a dozen operators to the graph."""


def require_few_features(width: int) -> None:
    """Refuse a model whose graph with given cells would be too large.

    Raises:
        InputError: it has too many features.

    """
    if width > MOST_GIVEN_FEATURES:
        raise InputError(
            f"--given exports models of at most {MOST_GIVEN_FEATURES} features, and this model has {width}.",
            "Leave --given out, or train a model of fewer columns.",
        )


def nothing_given(n: int, width: int) -> dict[str, Tensor]:
    """Give the inputs of `GIVEN_INPUTS` for n rows without a given cell."""
    return dict(zip(GIVEN_INPUTS, (torch.zeros(n, width).double(), torch.zeros(width, dtype=torch.bool)), strict=True))


class GivenDenoiser(nn.Module):
    """D(x_t, t | x_G) of features: x_t and values (n, width), t () float64, given (width,) bool → (n, width).

    Args:
        denoiser: one that takes given features.

    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = _eliminating(copy.deepcopy(denoiser))
        self.schedule = denoiser.schedule

    def forward(self, x_t: Tensor, t: Tensor, values: Tensor, given: Tensor) -> Tensor:
        """Evaluate E[x | x_t, x_G]."""
        denoised: Tensor = self.denoiser.conditioned(values, given)(x_t, t)
        return denoised


def _eliminating(module: Denoiser) -> Denoiser:
    """Replace the Gaussian mixtures inside of a denoiser, in place, by ones that a graph can condition."""
    for name, child in list(module.named_children()):
        if isinstance(child, FullMixtureDenoiser):
            setattr(module, name, _EliminatingMixture.of(child))
        elif isinstance(child, Denoiser):
            _eliminating(child)
    return module


class _EliminatingMixture(FullMixtureDenoiser):
    """A `FullMixtureDenoiser` whose conditional mean is computed by elimination."""

    @classmethod
    def of(cls, mixture: FullMixtureDenoiser) -> _EliminatingMixture:
        """Give the same mixture, with the same eigenvectors to the last digit."""
        covariances = torch.diag_embed(mixture.eigenvalues)
        same = cls(mixture.log_weights.exp(), mixture.means, covariances, mixture.schedule)
        same.load_state_dict(mixture.state_dict())
        return same

    def conditioned(self, values: Tensor, given: Tensor) -> Denoiser:  # type: ignore[override]
        """Give the conditional mean; given is (d,). See `Denoiser.conditioned`."""
        return _Observed(self, values, given)


class _Observed(Denoiser):
    """E[x | x_t, x_G] of a mixture; see the module."""

    off_centre = True

    def __init__(self, mixture: FullMixtureDenoiser, values: Tensor, given: Tensor) -> None:
        super().__init__()
        self.mixture, self.schedule = mixture, mixture.schedule
        self.values, self.given = values, given

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser.forward`."""
        return self.with_responsibilities(x_t, t)[0]

    def with_responsibilities(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """See `FullMixtureDenoiser.with_responsibilities`; one time for all points, computed in float64."""
        mixture, given = self.mixture, self.given
        alpha, sigma = self.schedule(t)
        covariances = mixture.covariances
        a = torch.where(given, torch.ones_like(alpha), alpha)
        noise = torch.where(given, torch.full_like(sigma, LEAST_VARIANCE), sigma**2)
        identity = torch.eye(len(given), dtype=torch.float64, device=noise.device)
        inverse, log_volume = inverted(a.unsqueeze(-1) * covariances * a + identity * noise)
        y = torch.where(given, self.values.double(), x_t.double())
        away = y.unsqueeze(1) - a * mixture.means
        solved = (away.transpose(0, 1) @ inverse).transpose(0, 1)
        log_density = mixture.log_weights - 0.5 * ((away * solved).sum(-1) + log_volume)
        r = torch.softmax(log_density, dim=1)
        posterior = mixture.means + ((a * solved).transpose(0, 1) @ covariances).transpose(0, 1)
        mean = (r.unsqueeze(-1) * posterior).sum(1)
        return torch.where(given, self.values.double(), mean).to(x_t.dtype), r.to(x_t.dtype)


def inverted(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Invert symmetric positive definite matrices (k, d, d); give the inverses and the logs of the determinants, (k,).

    Gauss and Jordan's elimination without a choice of pivots, which is stable for such matrices (Higham 2002, "Accuracy
    and Stability of Numerical Algorithms", section 14.4).
    """
    d = matrices.shape[-1]
    units = torch.eye(d, dtype=torch.bool, device=matrices.device)
    log_volume = torch.zeros_like(matrices[:, 0, 0])
    for j in range(d):
        row, column = matrices[:, j : j + 1, :], matrices[:, :, j : j + 1]
        pivot = matrices[:, j : j + 1, j : j + 1]
        here, across = units[j].unsqueeze(0), units[j].unsqueeze(1)
        rest = torch.where(here | across, torch.zeros_like(matrices), matrices)
        matrices = rest - torch.where(across, -torch.ones_like(column), column) * (
            torch.where(here, torch.ones_like(row), row) / pivot
        )
        log_volume = log_volume + pivot[:, 0, 0].log()
    return matrices, log_volume
