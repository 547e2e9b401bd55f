"""Features that take few values: their posterior mean is the mean of the values under posterior probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..data import DiscreteSpan

__all__ = ["DiscreteMeans"]

LEAST_PROBABILITY = 1e-6
"""The least share of a value; the logarithm of zero is no number."""


class DiscreteMeans(nn.Module):
    """Replaces the answers for features with few values by the mean of the values.

    For x = μ + s·b with b one-hot, value k has given x_t = α x + σ ε the probability

        r = softmax_k(log p_k + α s (x_tk − α μ_k)/σ²),

    where p_k is the probability given the other features. The network answers with the difference F_k of log p_k from
    the log of the share of value k in the training rows, and x̂ = μ + s·r. A single feature with b ∈ {0, 1} has the
    probability r = sigmoid(logit p + α s (x_t − α (μ + s/2))/σ²), and F is the difference of logit p from the logit of
    the share.

    Args:
        discrete: the features, ascending; at least one span.

    Attributes:
        one_hot: the features of each category with more than two values.

    """

    def __init__(self, discrete: Sequence[DiscreteSpan]) -> None:
        super().__init__()
        self.one_hot = [span.features for span in discrete if span.width > 1]
        end = discrete[-1].features.stop
        mu, s, prior = (torch.zeros(end, dtype=torch.float64) for _ in range(3))
        is_discrete = torch.zeros(end, dtype=torch.bool)
        middle = mu.clone()
        for span in discrete:
            here = span.features
            mu[here], s[here], is_discrete[here] = torch.tensor(span.shift, dtype=torch.float64), span.scale, True
            share = (-mu[here] / span.scale).clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
            prior[here] = share.log() if span.width > 1 else torch.logit(share)
            middle[here] = mu[here] if span.width > 1 else mu[here] + span.scale / 2
        self.mu: Tensor
        self.s: Tensor
        self.prior: Tensor
        self.middle: Tensor
        self.is_discrete: Tensor
        for name, values in (("mu", mu), ("s", s), ("prior", prior), ("middle", middle), ("is_discrete", is_discrete)):
            self.register_buffer(name, values, persistent=False)  # the encoding has these numbers

    def forward(self, denoised: Tensor, F: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Compute x̂ of all features.

        Args:
            denoised: x̂ for the other features, (n, d).
            F: the output of the network, (n, d).
            x_t: (n, d).
            alpha, sigma: (n, 1) or (1, 1).

        Returns:
            (n, d).

        """
        end = len(self.s)
        mu, s, prior, middle = (values.to(x_t.dtype) for values in (self.mu, self.s, self.prior, self.middle))
        logits = F[:, :end] + prior + alpha * s / sigma**2 * (x_t[:, :end] - alpha * middle)
        parts, done = [], 0
        for here in self.one_hot:
            parts += [torch.sigmoid(logits[:, done : here.start]), torch.softmax(logits[:, here], dim=1)]
            done = here.stop
        r = torch.cat([*parts, torch.sigmoid(logits[:, done:])], dim=1)
        means = torch.where(self.is_discrete, mu + s * r, denoised[:, :end])
        return torch.cat([means, denoised[:, end:]], dim=1)
