"""The weights of the experts: the least-squares fit on rows that no expert has seen.

This is stacking (Wolpert 1992; Breiman 1996, "Stacked regressions"). With the errors a_e = D_e − x at a noise level and
with weights w_e that sum to one, the error of the weighted mean is the weighted mean of the errors, so that the best
weights minimise a quadratic form. The weights W of the components are fitted first, and the weights V of the units of
features on top of them; `diffusion.stacking` has the equations. Every fit at a noise level is to the errors at this
level and at those beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

__all__ = ["common_weights", "errors_of", "weights_by_component", "weights_by_unit"]

STRICT = 1e4
"""How much the constraint counts that weights have the sum one, in units of the largest error of an expert."""


def errors_of(answers: Tensor, x: Tensor, scale: Tensor, *, set_aside: float = 0.0) -> Tensor:
    """Give the errors a of experts; the errors of rows that do not count are zero.

    Args:
        answers: of the experts, (E, L, n, d).
        x: the clean points, (n, d) or (L, n, d).
        scale: the unit of errors at each level, (L,).
        set_aside: for each expert the share of rows that do not count, those on which this expert is farthest off.

    Returns:
        (E, L, n, d), float64.

    """
    a = ((answers - x) / scale.reshape(-1, 1, 1)).double()
    sizes = a.square().sum(-1)
    counts = (sizes <= sizes.quantile(1 - set_aside, dim=-1, keepdim=True)).all(0)
    return a * counts.unsqueeze(-1)


def common_weights(a: Tensor) -> Tensor:
    """Fit weights at each noise level that are the same for all rows and features.

    Args:
        a: the errors, (E, L, n, d); see `errors_of`.

    Returns:
        (L, E), not negative, with the sum one over the experts.

    """
    return _least_of_each(_mean_of_neighbours(torch.einsum("elnd,flnd->lef", a, a)))


def weights_by_component(a: Tensor, r: Tensor, *, prior: float = 0.0) -> Tensor:
    """Fit W at each noise level. With w_e = Σ_k r_k W_ke, W minimises

        E‖Σ_e w_e a_e‖² = Σ_{ke,jf} W_ke W_jf E[r_k r_j a_e·a_f].

    Args:
        a: the errors, (E, L, n, d); see `errors_of`.
        r: the probabilities of the components, (L, n, K).
        prior: how much the best common weights count for each component beside the rows, as a share of all rows.

    Returns:
        (L, K, E), not negative, with the sum one over the experts.

    """
    E, L, K = *a.shape[:2], r.shape[-1]
    A = torch.empty(L, K, E, K, E, dtype=torch.float64)
    A_0 = torch.empty(L, E, E, dtype=torch.float64)
    for e in range(E):
        for f in range(E):
            product = (a[e] * a[f]).sum(-1)
            A[:, :, e, :, f] = (r.double() * product.unsqueeze(-1)).mT @ r.double()
            A_0[:, e, f] = product.sum(1)
    A, A_0 = _mean_of_neighbours(A).reshape(L, K * E, K * E), _mean_of_neighbours(A_0)
    common = _least_of_each(A_0)
    # prior · Σ_k (W_k − w)ᵀ A_0 (W_k − w), where w are the common weights
    A = A + prior * torch.stack([torch.kron(torch.eye(K), each) for each in A_0])
    c = (-prior * (A_0 @ common.unsqueeze(-1))).squeeze(-1).repeat(1, K)
    W = torch.stack([_least_of_weights(*each, experts=E) for each in zip(A, c, strict=True)])
    return W.reshape(L, K, E)


def weights_by_unit(a: Tensor, w: Tensor, units: Sequence[int], *, prior: float = 0.0) -> Tensor:
    """Fit V at each noise level and for each unit of features.

    The mean Σ_e w_e D_e is itself an expert, the first one, whose error is a_0 = Σ_e w_e a_e. V minimises

        E‖Σ_e V_e a_e‖² = Σ_{ef} V_e V_f E[a_e·a_f],    e, f = 0, …, E,    over the features of the unit.

    Args:
        a: the errors, (E, L, n, d); see `errors_of`.
        w: the weights that the components give to the experts, (L, n, E).
        units: for each feature the number of its unit, (d,); see `data.FeatureLayout`.
        prior: how much V = (1, 0, …, 0) counts beside the rows, as a share of all rows.

    Returns:
        (L, d, 1 + E), the same for all features of a unit, not negative, with the sum one over the last dimension.

    """
    if len(a) == 1:
        return torch.tensor([1.0, 0.0], dtype=torch.float64).expand(a.shape[1], len(units), 2)
    of_all = [torch.einsum("elnd,lne->lnd", a, w.double()), *a]
    unit = torch.tensor(units)
    A = torch.zeros(a.shape[1], max(units) + 1, len(of_all), len(of_all), dtype=torch.float64)
    for e, a_e in enumerate(of_all):
        for f, a_f in enumerate(of_all):
            A[:, :, e, f].index_add_(1, unit, (a_e * a_f).sum(1))
    A = _mean_of_neighbours(A)
    # prior · (V − v)ᵀ A (V − v), where v = (1, 0, …, 0)
    V = [[_least_of_weights((1 + prior) * each, -prior * each[:, 0]) for each in of_level] for of_level in A]
    return torch.stack([torch.stack(of_level) for of_level in V])[:, unit]


def _mean_of_neighbours(values: Tensor) -> Tensor:
    """Give for each level the mean over this level and those beside it, (L, …)."""
    padded = torch.cat([values[:1], values, values[-1:]])
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3


def _least_of_each(A_0: Tensor) -> Tensor:
    """Find for each level the w ≥ 0 with the sum one and the least wᵀ A_0 w, (L, E); A_0 is (L, E, E)."""
    return torch.stack([_least_of_weights(each, torch.zeros(len(each), dtype=torch.float64)) for each in A_0])


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
