"""A learnt expert, two in closed form, and a gate that unseen rows decide.

All experts estimate E[x | x_t], so any weighted mean of them does:

    D(x_t, t) = Σ_e w_e D_e(x_t, t),    w_e = Σ_k r_k(x_t, t) W_ke(t),    W_ke ≥ 0,  Σ_e W_ke = 1,

where r_k is the probability of component k of the Gaussian mixture given x_t. The experts are the networks, the
mixture, which knows how the features depend on each other as far as Gaussians can, and independent features, each with
a density of its own, which know nothing of this and each feature best. So the gate knows the noise level, and where the
row is: a narrow peak that the network has missed can be left to the mixture, and a curved part to the network.

The expert that knows a date best need not know a weight best. So each feature i mixes this mean with the experts anew:

    D_i = V_i0 Σ_e w_e D_ei + Σ_e V_ie D_ei,    V_ie ≥ 0,  V_i0 + Σ_e V_ie = 1,

with the same V(t) for all features of a column, or of any other unit that is known or unknown as a whole.

W and V are least-squares fits on rows that no expert has seen; see `training.weights`. W is drawn towards the best
common weights of all rows, and V towards (1, 0, …, 0), as if so many more rows had these as their optimum.

How good an expert is depends on the given features, too: a mixture is conditioned exactly on any of them, while a
network has seen few rows with just these. So there are S tables of weights: one for rows without given features, and
one for each of S − 1 equal slices of the share of columns, or of other units, that is given.

The denoising loss, integrated over the log signal-to-noise ratio, is the divergence up to a constant (Guo, Shamai &
Verdú 2005; Kingma et al. 2021), so that what lowers this loss on unseen rows lowers the divergence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .denoisers import Denoiser, LearntDenoiser, Regression
from .independent import IndependentDenoiser
from .mixtures import FullMixtureDenoiser
from .network_denoiser import NetworkDenoiser

__all__ = ["EXPERT_NAMES", "StackedDenoiser", "mean_weights", "weighted"]

EXPERT_NAMES = ("networks", "Gaussian mixture", "independent features")
"""The names of the experts, in the order of their weights."""
OF_MIXTURE = ("log_weights", "means", "eigenvalues", "axes")
"""The tensors of the Gaussian mixture."""
OF_INDEPENDENT = ("log_weights", "means", "variances")
"""The tensors of the independent features."""


def weighted(answers: Tensor, w: Tensor, V: Tensor) -> Tensor:
    """Weigh the answers of the experts by w and V.

    Args:
        answers: (…, n, d, E).
        w: (…, n, E).
        V: (…, 1 or n, d, 1 + E).

    Returns:
        D, (…, n, d).

    """
    by_component = (answers * w.unsqueeze(-2)).sum(-1)
    return V[..., 0] * by_component + (V[..., 1:] * answers).sum(-1)


def mean_weights(w: Tensor, V: Tensor) -> Tensor:
    """Give what each expert counts in the mean over the features, (…, n, E); w and V as in `weighted`."""
    mean = V.mean(-2)
    return mean[..., :1] * w + mean[..., 1:]


class StackedDenoiser(LearntDenoiser):
    """The experts' answers, weighed by W and V, which are linear between levels evenly spaced on the time axis.

    Args:
        learnt: the networks, which have the whole weight until other weights are set or loaded.
        levels: L, the number of levels; the weights are those of the middles of so many equal slices of the time axis.
        units: for each of the d features the number of its unit, ascending; the features of a unit are given together.

    Attributes:
        mixture, independent: the experts in closed form; None before they are fitted or loaded.
        gate_weights: W for S slices of given features, (S, L, K, E), or (S, L, 1, E) for all components alike.
        feature_weights: V, (S, L, d, 1 + E).

    """

    def __init__(self, learnt: NetworkDenoiser, *, levels: int, units: Sequence[int]) -> None:
        super().__init__()
        self.units = tuple(units)
        self.learnt, self.schedule, self.network = learnt, learnt.schedule, learnt.network
        self.mixture: FullMixtureDenoiser | None = None
        self.independent: IndependentDenoiser | None = None
        self.gate_weights: Tensor
        self.feature_weights: Tensor
        self.register_buffer("gate_weights", _first(1, levels, 1, len(EXPERT_NAMES)))
        self.register_buffer("feature_weights", _first(1, levels, len(self.units), 1 + len(EXPERT_NAMES)))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser.forward`."""
        return weighted(*self._asked(x_t, t))

    def conditioned(self, values: Tensor, given: Tensor) -> Denoiser:
        """Weigh the experts' conditional answers as their plain answers; see `Denoiser.conditioned`."""
        return _ConditionedStack(self, values, given)

    def regression(self, x: Tensor, epsilon: Tensor, t: Tensor) -> Regression:
        """Set up the regression of the learnt expert with the answers of all; see `NetworkDenoiser.regression`."""
        problem = self.learnt.regression(x, epsilon, t)
        c_skip, c_out = self.learnt.coefficients(*self.schedule.alpha_sigma(t, x))
        x_t = self.schedule.add_noise(x, epsilon, t)
        return problem._replace(output=(self(x_t, t) - c_skip * x_t) / c_out)

    def gate(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Give the weights of the experts at x_t (n, d) and t in the mean over the features, (n, E)."""
        answers, w, V = self._asked(x_t, t)
        return mean_weights(w, V).to(answers.dtype)

    def _asked(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give the answers of the experts, w and V; see `weighted`."""
        assert self.mixture is not None
        assert self.independent is not None
        W, V = (self.interpolated(t, table) for table in (self.gate_weights, self.feature_weights))
        return _ask((self.learnt, self.mixture, self.independent), x_t, t, W, V)

    def weights(self) -> dict[str, Tensor]:
        """Give all tensors that training decides, by name."""
        mixture = {f"mixture.{name}": getattr(self.mixture, name) for name in OF_MIXTURE}
        independent = {f"independent.{name}": getattr(self.independent, name) for name in OF_INDEPENDENT}
        own = {"gate_weights": self.gate_weights, "feature_weights": self.feature_weights}
        return {**self.learnt.weights(), **mixture, **independent, **own}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Load the tensors that `weights` gave.

        Raises:
            KeyError, RuntimeError: the names or the shapes are those of another model.

        """
        rest = _of_three_experts(weights) if "closed.means" in weights else dict(weights)
        self.gate_weights = rest.pop("gate_weights")
        as_components_say = _first(*self.gate_weights.shape[:2], *self.feature_weights.shape[2:])
        self.feature_weights = rest.pop("feature_weights", as_components_say.to(self.gate_weights))
        self.mixture = FullMixtureDenoiser.load(
            {name: rest.pop(f"mixture.{name}") for name in OF_MIXTURE}, self.schedule
        )
        log_weights, means, variances = (rest.pop(f"independent.{name}") for name in OF_INDEPENDENT)
        of_few_values = self.learnt.discrete_means
        self.independent = IndependentDenoiser(log_weights, means, variances, self.schedule, of_few_values)
        self.learnt.load_weights(rest)

    def interpolated(self, t: Tensor, table: Tensor, of_slice: Tensor | int = 0) -> Tensor:
        """Give the weights at times t () or (n,), (1 or n, …), from a table (S, L, …) and the slice of each row."""
        levels = table.shape[1]
        share = (t - self.schedule.t_min) / (self.schedule.t_max - self.schedule.t_min)
        place = (share * levels - 0.5).clamp(0, levels - 1).reshape(-1)
        below = place.floor().long().clamp(max=max(levels - 2, 0))
        above = (below + 1).clamp(max=levels - 1)
        return torch.lerp(table[of_slice, below], table[of_slice, above], (place - below).reshape(-1, 1, 1))


def _first(*shape: int) -> Tensor:
    """Give weights of this shape of which the first has all, in float64."""
    weights = torch.zeros(shape, dtype=torch.float64)
    weights[..., 0] = 1
    return weights


def _ask(
    experts: tuple[Denoiser, FullMixtureDenoiser, IndependentDenoiser], x_t: Tensor, t: Tensor, W: Tensor, V: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Ask the experts, and find w by W, (1 or n, K, E); give the answers, w and V, see `weighted`."""
    learnt, mixture, independent = experts
    of_mixture, r = mixture.with_responsibilities(x_t, t)
    w = (r.unsqueeze(-1) * W).sum(1).to(x_t.dtype)
    of_features, _ = independent.with_responsibilities(x_t, t)
    return torch.stack([learnt(x_t, t), of_mixture, of_features], dim=-1), w, V.to(x_t.dtype)


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
        first_features = [stack.units.index(unit) for unit in sorted(set(stack.units))]
        share = given.reshape(-1, given.shape[-1])[:, first_features].double().mean(1)
        self._slice = (share * slices).ceil().long()
        self._tables = stack.gate_weights, stack.feature_weights

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser.forward`."""
        W, V = (self._interpolated(t, table, self._slice) for table in self._tables)
        return weighted(*_ask((self.learnt, self.mixture, self.independent), x_t, t, W, V))
