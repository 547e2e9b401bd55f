"""A learnt expert, two in closed form, and a gate that unseen rows decide.

All experts estimate E[x | x_t], so any weighted mean of them does:

    D(x_t, t) = Σ_e w_e D_e(x_t, t),    w_e = Σ_k r_k(x_t, t) W_ke(t),    W_ke ≥ 0,  Σ_e W_ke = 1,

where r_k is the probability of component k of the Gaussian mixture given x_t. The experts are the networks, the
mixture, which knows how the features depend on each other as far as Gaussians can, and independent features, each with
a density of its own, which know nothing of this and each feature best. So the gate knows the noise level, and where the
row is: a narrow peak that the network has missed can be left to the mixture, and a curved part to the network.

The weights are the least-squares fit on rows that no expert has seen (stacking: Wolpert 1992; Breiman 1996, "Stacked
regressions"). With the errors a_e = D_e − x at a noise level, W minimises

    E‖Σ_e w_e a_e‖² = Σ_{ke,jf} W_ke W_jf E[r_k r_j a_e·a_f],

and the weights of the components are drawn towards the best common weights of all rows, as if so many more rows had
them as their optimum.

How good an expert is depends on the given features, too: a mixture is conditioned exactly on any of them, while a
network has seen few rows with just these. So there are S tables of weights: one for rows without given features, and
one for each of S − 1 equal slices of the share of features that is given.

The denoising loss, integrated over the log signal-to-noise ratio, is the divergence up to a constant (Guo, Shamai &
Verdú 2005; Kingma et al. 2021), so that what lowers this loss on unseen rows lowers the divergence.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from .denoisers import Denoiser, LearntDenoiser, Regression
from .independent import IndependentDenoiser
from .mixtures import FullMixtureDenoiser
from .network_denoiser import NetworkDenoiser

__all__ = ["EXPERT_NAMES", "StackedDenoiser", "stacking_weights"]

EXPERT_NAMES = ("networks", "Gaussian mixture", "independent features")
"""The names of the experts, in the order of their weights."""
OF_MIXTURE = ("log_weights", "means", "eigenvalues", "axes")
"""The tensors of the Gaussian mixture."""
OF_INDEPENDENT = ("log_weights", "means", "variances")
"""The tensors of the independent features."""
STRICT = 1e4
"""How much an error of a sum of weights counts, in units of the largest error of an expert."""


def stacking_weights(
    answers: Tensor, x: Tensor, r: Tensor, scale: Tensor, *, prior: float = 0.0, set_aside: float = 0.0
) -> Tensor:
    """Fit W at each noise level.

    Args:
        answers: of the experts, (E, L, n, d).
        x: the clean points, (n, d) or (L, n, d).
        r: the probabilities of the components, (L, n, K).
        scale: the size of an error that counts one at each level, (L,); neighbouring levels are fitted together.
        prior: what the common weights count for each component beside the rows, as a share of all rows.
        set_aside: the share of rows, those on which an expert is farthest off, that do not count; of each expert.

    Returns:
        (L, K, E), not negative, with the sum one over the experts.

    """
    a = ((answers - x) / scale.reshape(-1, 1, 1)).double()
    sizes = a.square().sum(-1)
    a = a * (sizes <= sizes.quantile(1 - set_aside, dim=-1, keepdim=True)).all(0).unsqueeze(-1)
    E, L, K = *a.shape[:2], r.shape[-1]
    A = torch.empty(L, K, E, K, E, dtype=torch.float64)
    A_0 = torch.empty(L, E, E, dtype=torch.float64)
    for e in range(E):
        for f in range(E):
            product = (a[e] * a[f]).sum(-1)
            A[:, :, e, :, f] = (r.double() * product.unsqueeze(-1)).mT @ r.double()
            A_0[:, e, f] = product.sum(1)
    A, A_0 = _mean_of_neighbours(A).reshape(L, K * E, K * E), _mean_of_neighbours(A_0)
    common = torch.stack([_least_of_weights(each, torch.zeros(E, dtype=torch.float64)) for each in A_0])
    # prior · Σ_k (W_k − w)ᵀ A_0 (W_k − w), where w are the common weights
    A = A + prior * torch.stack([torch.kron(torch.eye(K), each) for each in A_0])
    c = (-prior * (A_0 @ common.unsqueeze(-1))).squeeze(-1).repeat(1, K)
    W = torch.stack([_least_of_weights(*each, experts=E) for each in zip(A, c, strict=True)])
    return W.reshape(L, K, E).to(answers.dtype)


def _mean_of_neighbours(values: Tensor) -> Tensor:
    """Give for each level the mean over the level and those beside it, (L, …)."""
    padded = torch.cat([values[:1], values, values[-1:]])
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3


def _least_of_weights(A: Tensor, c: Tensor, experts: int | None = None) -> Tensor:
    """Find the W ≥ 0 with the least Wᵀ A W + 2 cᵀ W whose sum over the experts is one for each component, (K·E,).

    Args:
        A: positive semi-definite, (K·E, K·E).
        c: (K·E,).
        experts: E; None for K = 1.

    """
    E = experts or len(A)
    largest = float(A.diagonal().max()) or 1.0
    root = np.linalg.cholesky(A.numpy() / largest + 1e-12 * np.eye(len(A))).T
    target = np.linalg.solve(root.T, -c.numpy() / largest)
    sums = STRICT * np.kron(np.eye(len(A) // E), np.ones(E))
    W = nnls(np.concatenate([root, sums]), np.concatenate([target, STRICT * np.ones(len(sums))]))[0].reshape(-1, E)
    return torch.from_numpy(W / W.sum(1, keepdims=True)).reshape(-1)


class StackedDenoiser(LearntDenoiser):
    """Σ_e w_e D_e, with W interpolated linearly between levels that are evenly spaced on the time axis.

    Args:
        learnt: the networks.
        weights: W at the middles of L equal slices of the time axis, for S slices of given features, (S, L, K, E), or
            (S, L, 1, E) for the same weights for all components.

    Attributes:
        mixture, independent: the experts in closed form; None before they are fitted or loaded.

    """

    def __init__(self, learnt: NetworkDenoiser, weights: Tensor) -> None:
        super().__init__()
        self.learnt, self.schedule, self.network = learnt, learnt.schedule, learnt.network
        self.mixture: FullMixtureDenoiser | None = None
        self.independent: IndependentDenoiser | None = None
        self.gate_weights: Tensor
        self.register_buffer("gate_weights", weights.double())

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser.forward`."""
        return self._combined(x_t, t)[0]

    def conditioned(self, values: Tensor, given: Tensor) -> Denoiser:
        """Weigh the experts' conditional answers as their plain answers; see `Denoiser.conditioned`."""
        return _ConditionedStack(self, values, given)

    def regression(self, x: Tensor, epsilon: Tensor, t: Tensor) -> Regression:
        """Set up the regression of the learnt expert with the answers of all; see `NetworkDenoiser.regression`."""
        problem = self.learnt.regression(x, epsilon, t)
        alpha, sigma = (c.reshape(-1, 1).to(x.dtype) for c in self.schedule(t))
        c_skip, c_out = self.learnt.coefficients(alpha, sigma)
        x_t = alpha * x + sigma * epsilon
        return problem._replace(output=(self(x_t, t) - c_skip * x_t) / c_out)

    def gate(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Give the weights w of the experts at x_t (n, d) and t, (n, E); see `EXPERT_NAMES`."""
        return self._combined(x_t, t)[1]

    def _combined(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Give D, (n, d), and w, (n, E)."""
        assert self.mixture is not None
        assert self.independent is not None
        return _combine(
            (self.learnt, self.mixture, self.independent), x_t, t, self.interpolated(t, self.gate_weights[:1])
        )

    def weights(self) -> dict[str, Tensor]:
        """Give all tensors that training decides, by name."""
        mixture = {f"mixture.{name}": getattr(self.mixture, name) for name in OF_MIXTURE}
        independent = {f"independent.{name}": getattr(self.independent, name) for name in OF_INDEPENDENT}
        return {**self.learnt.weights(), **mixture, **independent, "gate_weights": self.gate_weights}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Load the tensors that `weights` gave.

        Raises:
            KeyError, RuntimeError: the names or the shapes are those of another model.

        """
        rest = _of_three_experts(weights) if "closed.means" in weights else dict(weights)
        self.gate_weights = rest.pop("gate_weights")
        self.mixture = FullMixtureDenoiser.load(
            {name: rest.pop(f"mixture.{name}") for name in OF_MIXTURE}, self.schedule
        )
        log_weights, means, variances = (rest.pop(f"independent.{name}") for name in OF_INDEPENDENT)
        of_few_values = self.learnt.discrete_means
        self.independent = IndependentDenoiser(log_weights, means, variances, self.schedule, of_few_values)
        self.learnt.load_weights(rest)

    def interpolated(self, t: Tensor, table: Tensor) -> Tensor:
        """Give W at times t () or (n,), (1 or n, K, E), from that of all rows (1, L, K, E) or each row (n, L, K, E)."""
        levels = table.shape[1]
        share = (t - self.schedule.t_min) / (self.schedule.t_max - self.schedule.t_min)
        place = (share * levels - 0.5).clamp(0, levels - 1).reshape(-1)
        below = place.floor().long().clamp(max=max(levels - 2, 0))
        above = (below + 1).clamp(max=levels - 1)
        if len(table) == 1:
            low, high = table[0, below], table[0, above]
        else:
            rows = torch.arange(len(table), device=table.device)
            low, high = table[rows, below], table[rows, above]
        return torch.lerp(low, high, (place - below).reshape(-1, 1, 1))


def _combine(
    experts: tuple[Denoiser, FullMixtureDenoiser, IndependentDenoiser], x_t: Tensor, t: Tensor, W: Tensor
) -> tuple[Tensor, Tensor]:
    """Ask the experts, and weigh their answers by W, (1 or n, K, E); give D, (n, d), and w, (n, E)."""
    learnt, mixture, independent = experts
    of_mixture, r = mixture.with_responsibilities(x_t, t)
    w = (r.unsqueeze(-1) * W).sum(1).to(x_t.dtype)
    of_features, _ = independent.with_responsibilities(x_t, t)
    answers = torch.stack([learnt(x_t, t), of_mixture, of_features], dim=-1)
    return (answers * w.unsqueeze(1)).sum(-1), w


def _of_three_experts(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the tensors of a run of format 2, whose two experts share the weights w and 1 − w, into those of three."""
    now = {
        f"mixture.{name.removeprefix('closed.')}" if name.startswith("closed.") else name: weights[name]
        for name in weights
    }
    w = weights["gate_weights"]
    w = w.reshape(1, -1, 1) if w.dim() == 1 else w  # a still older file has one weight a level
    d = weights["closed.means"].shape[1]
    standard = {"log_weights": torch.zeros(d, 1), "means": torch.zeros(d, 1), "variances": torch.ones(d, 1)}
    return {
        **now,
        **{f"independent.{name}": tensor.to(w) for name, tensor in standard.items()},
        "gate_weights": torch.stack([w, 1 - w, torch.zeros_like(w)], dim=-1),
    }


class _ConditionedStack(Denoiser):
    """A `StackedDenoiser` of which some features are given."""

    def __init__(self, stack: StackedDenoiser, values: Tensor, given: Tensor) -> None:
        super().__init__()
        assert stack.mixture is not None
        assert stack.independent is not None
        self.schedule, self._interpolated, self.off_centre = stack.schedule, stack.interpolated, True
        self.learnt = stack.learnt.conditioned(values, given)
        self.mixture = stack.mixture.conditioned(values, given)
        self.independent = stack.independent.conditioned(values, given)
        slices = len(stack.gate_weights) - 1
        share = given.reshape(-1, given.shape[-1]).double().mean(1)
        self._table = stack.gate_weights[(share * slices).ceil().long()]

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser.forward`."""
        return _combine((self.learnt, self.mixture, self.independent), x_t, t, self._interpolated(t, self._table))[0]
