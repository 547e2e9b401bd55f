"""Features that take few values: their posterior mean is the mean of the values under posterior probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..data import DiscreteSpan

__all__ = ["discrete_means"]


def discrete_means(
    denoised: Tensor, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor, discrete: Sequence[DiscreteSpan]
) -> Tensor:
    """Replace the answers for features with few values by the mean of the values.

    For x = μ + s·b with b one-hot, value k has given x_t = α x + σ ε the probability

        r = softmax_k(log p_k + α s (x_tk − α μ_k)/σ²),

    where p_k is the probability given the other features. The network answers with the difference F_k of log p_k from
    the log of the share of value k in the training rows, and x̂ = μ + s·r. A single feature with b ∈ {0, 1} has the
    probability r = sigmoid(logit p + α s (x_t − α (μ + s/2))/σ²).

    Args:
        denoised: x̂ for the other features, (n, d).
        output: F, (n, d).
        x_t: (n, d).
        alpha, sigma: (n, 1) or (1, 1).
        discrete: the features, ascending.

    Returns:
        (n, d).

    """
    parts, done = [], 0
    for span in discrete:
        here = slice(span.start, span.start + span.width)
        parts.append(denoised[:, done : span.start])
        mu = torch.tensor(span.shift, dtype=x_t.dtype, device=x_t.device)
        share = (-mu / span.scale).clamp(1e-6, 1 - 1e-6)
        F, x = output[:, here], x_t[:, here]
        evidence = alpha * span.scale / sigma**2
        if span.width > 1:
            r = torch.softmax(F + share.log() + evidence * (x - alpha * mu), dim=1)
        else:
            r = torch.sigmoid(F + torch.logit(share) + evidence * (x - alpha * (mu + span.scale / 2)))
        parts.append(mu + span.scale * r)
        done = span.start + span.width
    return torch.cat([*parts, denoised[:, done:]], dim=1)
