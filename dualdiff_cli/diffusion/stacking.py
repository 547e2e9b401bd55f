"""Two experts and a gate: a learnt denoiser and one in closed form, weighted by unseen rows.

Both denoisers estimate E[x | x_t], so any mixture of them does:

    D(x_t, t) = w D_net(x_t, t) + (1 − w) D_mix(x_t, t),    w = Σ_k r_k(x_t, t) w_k(t),    0 ≤ w_k ≤ 1,

where r_k is the probability of component k of the Gaussian mixture given x_t. So the gate knows the noise level, and
where the row is: a narrow peak that the network has missed can be left to the mixture, and a curved part to the
network. The weights are the least-squares fit on rows that neither expert has seen (stacking: Wolpert 1992; Breiman
1996, "Stacked regressions"). With the errors a = D_net − x and b = D_mix − x at a noise level, one weight for all
rows has the least error E‖w a + (1 − w) b‖² at

    w_0 = (E b·b − E a·b) / (E a·a − 2 E a·b + E b·b),

and the weights of the components are drawn towards w_0, as if so many more rows had it as their optimum.

How good an expert is depends on the given features, too: a mixture is conditioned exactly on any of them, while a
network has seen few rows with just these. So there are S tables of weights: one for rows without given features, and
one for each of S − 1 equal slices of the share of features that is given.

The denoising loss, integrated over the log signal-to-noise ratio, is the divergence up to a constant (Guo, Shamai &
Verdú 2005; Kingma et al. 2021), so that what lowers this loss on unseen rows lowers the divergence.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import lsq_linear
from torch import Tensor

from .denoisers import Denoiser, LearntDenoiser, Regression
from .mixtures import FullMixtureDenoiser
from .network_denoiser import NetworkDenoiser

__all__ = ["StackedDenoiser", "stacking_weights"]

CLOSED_FORM = ("log_weights", "means", "eigenvalues", "axes")
"""The tensors of the closed-form expert."""


def stacking_weights(
    net: Tensor, closed: Tensor, x: Tensor, r: Tensor, scale: Tensor, *, prior: float = 0.0, set_aside: float = 0.0
) -> Tensor:
    """Fit w_k at each noise level.

    Args:
        net, closed: the answers of both experts, (L, n, d).
        x: the clean points, (n, d) or (L, n, d).
        r: the probabilities of the components, (L, n, K).
        scale: the size of an error that counts one at each level, (L,); neighbouring levels are fitted together.
        prior: what w_0 counts for each component beside the rows, as a share of all rows.
        set_aside: the share of rows, those on which either expert is farthest off, that do not count.

    Returns:
        (L, K), in [0, 1].

    """
    a, b = (net - x) / scale.reshape(-1, 1, 1), (closed - x) / scale.reshape(-1, 1, 1)
    worst = torch.maximum(a.square().sum(-1), b.square().sum(-1))
    kept = worst <= worst.quantile(1 - set_aside, dim=-1, keepdim=True)
    # ‖w a + (1 − w) b‖² = ‖b + w (a − b)‖² = w² ‖a − b‖² + 2 w b·(a − b) + …
    square, slope = ((p * (a - b)).sum(-1) * kept for p in (a - b, b))
    ones = torch.ones_like(r[..., :1])
    (A_0, c_0), (A, c) = (_pooled(each, square, slope) for each in (ones, r))
    w_0 = (-c_0 / A_0.squeeze(-1).clamp(min=1e-12)).clamp(0, 1)
    strength = (prior * A_0).clamp(min=1e-12)
    A = A + strength * torch.eye(r.shape[-1])
    return torch.stack([_bounded_minimum(*each) for each in zip(A, strength.squeeze(-1) * w_0 - c, strict=True)])


def _pooled(r: Tensor, square: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Give A and c of Σ_i (w·r_i)² square_i + 2 (w·r_i) slope_i = wᵀ A w + 2 cᵀ w, means over neighbouring levels.

    Returns:
        (L, K, K) and (L, K).

    """
    A, c = (r * square.unsqueeze(-1)).mT @ r, (r * slope.unsqueeze(-1)).sum(1)
    return _mean_of_neighbours(A), _mean_of_neighbours(c)


def _mean_of_neighbours(values: Tensor) -> Tensor:
    """Give for each level the mean over the level and those beside it, (L, …)."""
    padded = torch.cat([values[:1], values, values[-1:]])
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3


def _bounded_minimum(A: Tensor, c: Tensor) -> Tensor:
    """Find w in [0, 1] with the least wᵀ A w − 2 cᵀ w, for A (K, K) positive definite and c (K,)."""
    root = np.linalg.cholesky(A.double().numpy())
    target = np.linalg.solve(root, c.double().numpy())
    return torch.from_numpy(lsq_linear(root.T, target, bounds=(0, 1), method="bvls").x).to(c.dtype).clamp(0, 1)


class StackedDenoiser(LearntDenoiser):
    """w D_net + (1 − w) D_mix, with w_k interpolated linearly between levels that are evenly spaced on the time axis.

    Args:
        learnt: D_net.
        closed: D_mix; None before the tensors are loaded.
        weights: w_k at the middles of L equal slices of the time axis, for S slices of given features, (S, L, K) or
            (S, L, 1) for the same weight for all components.

    """

    def __init__(self, learnt: NetworkDenoiser, closed: FullMixtureDenoiser | None, weights: Tensor) -> None:
        super().__init__()
        self.learnt, self.closed, self.schedule = learnt, closed, learnt.schedule
        self.network = learnt.network
        self.gate_weights: Tensor
        self.register_buffer("gate_weights", weights.double())

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser.forward`."""
        assert self.closed is not None
        closed, r = self.closed.with_responsibilities(x_t, t)
        return _stacked(self.learnt(x_t, t), closed, self._weight(t, self.gate_weights[:1], r))

    def conditioned(self, values: Tensor, given: Tensor) -> Denoiser:
        """Weigh both experts' conditional answers as their plain answers; see `Denoiser.conditioned`."""
        return _ConditionedStack(self, values, given)

    def regression(self, x: Tensor, epsilon: Tensor, t: Tensor) -> Regression:
        """Set up the regression of the learnt expert with the answers of both; see `NetworkDenoiser.regression`."""
        problem = self.learnt.regression(x, epsilon, t)
        alpha, sigma = (c.reshape(-1, 1).to(x.dtype) for c in self.schedule(t))
        c_skip, c_out = self.learnt.coefficients(alpha, sigma)
        x_t = alpha * x + sigma * epsilon
        return problem._replace(output=(self(x_t, t) - c_skip * x_t) / c_out)

    def gate(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Give the weights of the learnt and of the closed-form expert at x_t (n, d) and t, (n, 2)."""
        assert self.closed is not None
        _, r = self.closed.with_responsibilities(x_t, t)
        w = self._weight(t, self.gate_weights[:1], r).to(x_t.dtype)
        return torch.cat([w, 1 - w], dim=1)

    def weights(self) -> dict[str, Tensor]:
        """Give all tensors that training decides, by name."""
        assert self.closed is not None
        closed = {f"closed.{name}": getattr(self.closed, name) for name in CLOSED_FORM}
        return {**self.learnt.weights(), **closed, "gate_weights": self.gate_weights}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Load the tensors that `weights` gave.

        Raises:
            KeyError, RuntimeError: the names or the shapes are those of another model.

        """
        learnt = dict(weights)
        table = learnt.pop("gate_weights")
        self.gate_weights = table.reshape(1, -1, 1) if table.dim() == 1 else table  # an older file has one row
        parts = {name: learnt.pop(f"closed.{name}") for name in CLOSED_FORM}
        self.closed = FullMixtureDenoiser(
            parts["log_weights"].exp(), parts["means"], torch.diag_embed(parts["eigenvalues"]), self.schedule
        )
        for name, tensor in parts.items():
            setattr(self.closed, name, tensor)
        self.learnt.load_weights(learnt)

    def _weight(self, t: Tensor, table: Tensor, r: Tensor) -> Tensor:
        """Give w (n, 1) for times t () or (n,), r (n, K), and w_k of all rows (1, L, K) or of each row (n, L, K)."""
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
        w_k = torch.lerp(low, high, (place - below).unsqueeze(-1))
        return (r * w_k).sum(-1, keepdim=True)


class _ConditionedStack(Denoiser):
    """A `StackedDenoiser` of which some features are given."""

    def __init__(self, stack: StackedDenoiser, values: Tensor, given: Tensor) -> None:
        super().__init__()
        assert stack.closed is not None
        self.schedule, self._weight, self.off_centre = stack.schedule, stack._weight, True
        self.learnt, self.closed = stack.learnt.conditioned(values, given), stack.closed.conditioned(values, given)
        slices = len(stack.gate_weights) - 1
        share = given.reshape(-1, given.shape[-1]).double().mean(1)
        self._table = stack.gate_weights[(share * slices).ceil().long()]

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser.forward`."""
        closed, r = self.closed.with_responsibilities(x_t, t)
        return _stacked(self.learnt(x_t, t), closed, self._weight(t, self._table, r))


def _stacked(learnt: Tensor, closed: Tensor, w: Tensor) -> Tensor:
    """Weigh the answers of both experts (n, d) by w, (n, 1)."""
    w = w.to(learnt.dtype)
    return w * learnt + (1 - w) * closed
