"""Multinomial diffusion of categories (Hoogeboom et al. 2021, "Argmax flows and multinomial diffusion", section 4).

A category of K values is a one-hot vector x. At every step it is replaced, with probability β_t, by a value drawn
evenly from all K, so that with α_t = 1 − β_t and ᾱ_t = Π_{s≤t} α_s

    q(x_t | x_{t−1}) = Cat(α_t x_{t−1} + (1 − α_t)/K),                                      (eq. 11)
    q(x_t | x_0)     = Cat(ᾱ_t x_0 + (1 − ᾱ_t)/K),                                          (eq. 12)
    q(x_{t−1} | x_t, x_0) ∝ [α_t x_t + (1 − α_t)/K] ⊙ [ᾱ_{t−1} x_0 + (1 − ᾱ_{t−1})/K].      (eq. 13)

A network answers with the probabilities x̂_0 of the clean values, and p(x_{t−1} | x_t) = q(x_{t−1} | x_t, x̂_0). This is
the true p(x_{t−1} | x_t) if x̂_0 is the distribution of x_0 given the other entries of the noisy row: eq. 13 adds what
x_t itself says. The variational bound is −log p(x_0) ≤ Σ_t L_t + D(q(x_T | x_0) ‖ Cat(1/K)), with
L_0 = −log p(x_0 | x_1) and otherwise

    L_t = D(q(x_{t−1} | x_t, x_0) ‖ p(x_{t−1} | x_t)).                                      (eq. 15)

Everything is computed with logarithms of probabilities; log 0 is `LOG_ZERO`. The steps are counted from 0, so that
step t = 0 leads from x_1 of these equations to x_0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["LOG_ZERO", "Multinomial"]

LOG_ZERO = math.log(1e-30)
"""What stands for log 0, as published; the network sees the logarithms of one-hot vectors."""


class Multinomial(nn.Module):
    """The diffusion of C categories, whose one-hot vectors stand side by side.

    Args:
        alpha_bar: ᾱ of every step, (T,), below 1 and decreasing.
        sizes: the number of values of each category, K_1 … K_C.

    """

    def __init__(self, alpha_bar: Tensor, sizes: Sequence[int]) -> None:
        super().__init__()
        alpha_bar = alpha_bar.double()
        alpha = alpha_bar / torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
        of = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes, dtype=torch.long))
        self.alpha: Tensor
        self.alpha_bar: Tensor
        self.log_sizes: Tensor
        self.of: Tensor
        self.register_buffer("alpha", alpha, persistent=False)
        self.register_buffer("alpha_bar", alpha_bar, persistent=False)
        self.register_buffer("log_sizes", torch.tensor(sizes, dtype=torch.float64).log()[of], persistent=False)
        self.register_buffer("of", of, persistent=False)  # the category of each entry of the vectors
        self.sizes = tuple(sizes)
        self.width = sum(sizes)

    def one_hot(self, places: Tensor) -> Tensor:
        """Turn the places of values (n, C) into logarithms of one-hot vectors, (n, ΣK), float32."""
        first = torch.tensor([0, *self.sizes[:-1]], device=places.device).cumsum(0)
        log_x = torch.full((len(places), self.width), LOG_ZERO, device=places.device)
        return log_x.scatter_(1, places + first, 0.0)

    def places(self, log_x: Tensor) -> Tensor:
        """Find the place of the most probable value of each category: (n, ΣK) to (n, C)."""
        found = [part.argmax(dim=1) for part in torch.split(log_x, [*self.sizes], dim=1)]
        return torch.stack(found, dim=1) if found else log_x.new_empty(len(log_x), 0, dtype=torch.long)

    def normalised(self, log_p: Tensor) -> Tensor:
        """Give logarithms of probabilities, each known up to a summand of its category, the right summand; (n, ΣK)."""
        index = self.of.expand_as(log_p)
        most = log_p.detach().new_full((len(log_p), len(self.sizes)), -math.inf)
        most = most.scatter_reduce(1, index, log_p.detach(), "amax").index_select(1, self.of)
        total = log_p.new_zeros(len(log_p), len(self.sizes)).scatter_add(1, index, (log_p - most).exp())
        return log_p - most - total.log().index_select(1, self.of)

    def noisy(self, log_x0: Tensor, t: Tensor) -> Tensor:
        """Give log q(x_t | x_0) by eq. 12.

        Args:
            log_x0: the logarithms of x_0 or of probabilities of x_0, (n, ΣK).
            t: the steps, (n,) or (1,).

        """
        return self._mixed(log_x0, self.alpha_bar[t])

    def posterior(self, log_x0: Tensor, log_xt: Tensor, t: Tensor) -> Tensor:
        """Give log q(x_{t−1} | x_t, x_0) by eq. 13, where x_{−1} is x_0; shapes as in `noisy`."""
        before = torch.where(t[:, None] > 0, self.noisy(log_x0, (t - 1).clamp(min=0)), log_x0)
        return self.normalised(self._mixed(log_xt, self.alpha[t]) + before)

    def drawn(self, log_p: Tensor, u: Tensor) -> Tensor:
        """Draw one-hot vectors from probabilities, by the largest of log p plus Gumbel noise.

        Args:
            log_p: (n, ΣK).
            u: uniform in [0, 1), float64, so that no two sums are equal; (n, ΣK).

        Returns:
            The logarithms of one-hot vectors, (n, ΣK), in the type of ``log_p``.

        """
        gumbel = -torch.log(-torch.log(u.clamp(min=torch.finfo(u.dtype).tiny)))
        return self.one_hot(self.places(log_p + gumbel)).to(log_p.dtype)

    def bound_term(self, logits: Tensor, log_x0: Tensor, log_xt: Tensor, t: Tensor) -> Tensor:
        """Give L_t, summed over the categories, in nats.

        Args:
            logits: what the network answers, x̂_0 before it is normalised, (n, ΣK).
            log_x0, log_xt, t: see `noisy`.

        Returns:
            (n,).

        """
        truth, guess = self.posterior(log_x0, log_xt, t), self.posterior(self.normalised(logits), log_xt, t)
        divergence = (truth.exp() * (truth - guess)).sum(dim=1)
        return torch.where(t > 0, divergence, -(log_x0.exp() * guess).sum(dim=1))

    def _mixed(self, log_x: Tensor, kept: Tensor) -> Tensor:
        """Give log(kept·x + (1 − kept)/K) for log x (n, ΣK) and shares (n,) or (1,)."""
        kept = kept[:, None]
        stays, even = kept.log().to(log_x.dtype), ((1 - kept).log() - self.log_sizes).to(log_x.dtype)
        return torch.logaddexp(log_x + stays, even)
