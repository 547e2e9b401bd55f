"""Two experts and a gate on the noise level: a learnt denoiser and one in closed form, weighted by unseen rows.

Both denoisers estimate E[x | x_t], so any mixture of them does:

    D(x_t, t) = w(t) D_net(x_t, t) + (1 − w(t)) D_mix(x_t, t),    0 ≤ w ≤ 1.

The weight is the least-squares fit on rows that neither expert has seen (stacking: Wolpert 1992; Breiman 1996, "Stacked
regressions"). With the errors a = D_net − x and b = D_mix − x at a noise level, E‖w a + (1 − w) b‖² is least at

    w = (E b·b − E a·b) / (E a·a − 2 E a·b + E b·b).

How good an expert is depends on the given features, too: a mixture is conditioned exactly on any of them, while a
network has seen few rows with just these. So there are S weights at each level: one for rows without given features,
and one for each of S − 1 equal slices of the share of features that is given.

The denoising loss, integrated over the log signal-to-noise ratio, is the divergence up to a constant (Guo, Shamai &
Verdú 2005; Kingma et al. 2021), so that what lowers this loss on unseen rows lowers the divergence.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .denoisers import Denoiser, LearntDenoiser, Regression
from .mixtures import FullMixtureDenoiser
from .network_denoiser import NetworkDenoiser

__all__ = ["StackedDenoiser", "stacking_weights"]

CLOSED_FORM = ("log_weights", "means", "eigenvalues", "axes")
"""The tensors of the closed-form expert."""


def stacking_weights(net: Tensor, closed: Tensor, x: Tensor, scale: Tensor, *, set_aside: float = 0.0) -> Tensor:
    """Fit w at each noise level.

    Args:
        net, closed: the answers of both experts, (L, n, d).
        x: the clean points, (n, d) or (L, n, d).
        scale: the size of an error that counts one at each level, (L,); neighbouring levels are fitted together.
        set_aside: the share of rows, those on which either expert is farthest off, that do not count.

    Returns:
        (L,), in [0, 1].

    """
    a, b = net - x, closed - x
    by_row = torch.stack([(p * q).sum(-1) for p, q in ((a, a), (a, b), (b, b))])
    worst = torch.maximum(by_row[0], by_row[2])
    kept = worst <= worst.quantile(1 - set_aside, dim=-1, keepdim=True)
    products = (by_row * kept).sum(-1) / scale**2
    padded = nn.functional.pad(products, (1, 1), mode="replicate")
    aa, ab, bb = nn.functional.avg_pool1d(padded, 3, 1)
    w: Tensor = ((bb - ab) / (aa - 2 * ab + bb).clamp(min=1e-12)).clamp(0, 1)
    return w


class StackedDenoiser(LearntDenoiser):
    """w D_net + (1 − w) D_mix, with w interpolated linearly between levels that are evenly spaced on the time axis.

    Args:
        learnt: D_net.
        closed: D_mix; None before the tensors are loaded.
        weights: w at the middles of L equal slices of the time axis, (L,) or, for S slices of given features, (S, L).

    """

    def __init__(self, learnt: NetworkDenoiser, closed: FullMixtureDenoiser | None, weights: Tensor) -> None:
        super().__init__()
        self.learnt, self.closed, self.schedule = learnt, closed, learnt.schedule
        self.network = learnt.network
        self.gate_weights: Tensor
        self.register_buffer("gate_weights", weights.reshape(-1, weights.shape[-1]).double())

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser.forward`."""
        assert self.closed is not None
        return _stacked(self.learnt(x_t, t), self.closed(x_t, t), self._weight(t, self.gate_weights[:1]))

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
        w = self._weight(t, self.gate_weights[:1]).to(x_t.dtype)
        return torch.cat([w, 1 - w], dim=1).expand(len(x_t), 2)

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
        self.gate_weights = table.reshape(-1, table.shape[-1])  # an older file has one row
        parts = {name: learnt.pop(f"closed.{name}") for name in CLOSED_FORM}
        self.closed = FullMixtureDenoiser(
            parts["log_weights"].exp(), parts["means"], torch.diag_embed(parts["eigenvalues"]), self.schedule
        )
        for name, tensor in parts.items():
            setattr(self.closed, name, tensor)
        self.learnt.load_weights(learnt)

    def _weight(self, t: Tensor, table: Tensor) -> Tensor:
        """w(t) for times () or (n,), by a table of one row or of n rows (·, L); (1, 1) or (n, 1)."""
        levels = table.shape[1]
        share = (t - self.schedule.t_min) / (self.schedule.t_max - self.schedule.t_min)
        place = (share * levels - 0.5).clamp(0, levels - 1).reshape(-1, 1)
        below = place.floor().long().clamp(max=max(levels - 2, 0))
        above = (below + 1).clamp(max=levels - 1)
        if len(table) == 1:
            low, high = table[0].take(below), table[0].take(above)
        else:
            rows = torch.arange(len(table), device=table.device).unsqueeze(1)
            low, high = table[rows, below], table[rows, above]
        return torch.lerp(low, high, place - below)


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
        return _stacked(self.learnt(x_t, t), self.closed(x_t, t), self._weight(t, self._table))


def _stacked(learnt: Tensor, closed: Tensor, w: Tensor) -> Tensor:
    """Weigh the answers of both experts (n, d) by w, (n, 1) or (1, 1)."""
    w = w.to(learnt.dtype)
    return w * learnt + (1 - w) * closed
