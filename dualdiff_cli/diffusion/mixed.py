"""Gaussian diffusion of numbers and multinomial diffusion of categories, with one network for both.

Kotelnikov et al. 2023, "TabDDPM: Modelling Tabular Data with Diffusion Models". A row is x = [z, c]: d numbers z, and
the one-hot vectors c of C categories. Numbers get Gaussian noise (Ho et al. 2020, "Denoising Diffusion Probabilistic
Models"), z_t = √ᾱ_t z_0 + √(1 − ᾱ_t) ε, and categories that of `multinomial`, at the same step t. The network sees
[z_t, log c_t] and answers with [ε̂, logits of ĉ_0]. With t drawn evenly from T steps its loss is

    ‖ε − ε̂‖²/d  +  T·L_t/C,                                                                 (eq. 7 of Kotelnikov et al.)

where T·L_t estimates the sum of the bound's terms without bias.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .multinomial import Multinomial

__all__ = ["MixedDiffusion"]


class MixedDiffusion(nn.Module):
    """The diffusion of rows of numbers and categories. All methods are functions of the noise that they are given.

    Args:
        network: maps rows (n, d + ΣK) and steps (n,) or (1,) to [ε̂, logits], (n, d + ΣK).
        alpha_bar: ᾱ of every step, (T,), below 1 and decreasing.
        numbers: d.
        sizes: the number of values of each category, K_1 … K_C.

    """

    def __init__(self, network: nn.Module, alpha_bar: Tensor, *, numbers: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.numbers = numbers
        self.multinomial = Multinomial(alpha_bar, sizes)
        self.steps = len(alpha_bar)

    def clean(self, z: Tensor, places: Tensor) -> Tensor:
        """Put numbers (n, d) and the places of the categories' values (n, C) together to rows x_0, (n, d + ΣK)."""
        return torch.cat([z, self.multinomial.one_hot(places).to(z.dtype)], dim=1) if self.multinomial.sizes else z

    def loss(self, x: Tensor, t: Tensor, eps: Tensor, u: Tensor) -> Tensor:
        """Give the loss of rows at random steps; see the module.

        Args:
            x: clean rows, (n, d + ΣK).
            t: steps, (n,).
            eps: standard normal, (n, d).
            u: uniform in [0, 1), float64, (n, ΣK).

        Returns:
            (n,).

        """
        z, log_c = self._parts(x)
        alpha_bar = self.multinomial.alpha_bar[t, None].to(x.dtype)
        z_t = alpha_bar.sqrt() * z + (1 - alpha_bar).sqrt() * eps
        log_ct = self.multinomial.drawn(self.multinomial.noisy(log_c, t), u) if self.multinomial.sizes else log_c
        eps_hat, logits = self._answer(torch.cat([z_t, log_ct], dim=1), t)
        loss = x.new_zeros(len(x))
        if self.numbers:
            loss = loss + (eps - eps_hat).square().mean(dim=1)
        if sizes := self.multinomial.sizes:
            loss = loss + self.steps / len(sizes) * self.multinomial.bound_term(logits, log_c, log_ct, t)
        return loss

    def noise(self, eps: Tensor, u: Tensor) -> Tensor:
        """Give rows x_T of pure noise; for the arguments see `loss`."""
        even = torch.zeros_like(u)
        return torch.cat([eps, self.multinomial.drawn(even, u)], dim=1) if self.multinomial.sizes else eps

    def step(self, x_t: Tensor, t: int, eps: Tensor, u: Tensor) -> Tensor:
        """Draw x_{t−1} given x_t, or x_0 given the rows of step 0.

        Numbers are drawn from N(μ, β_t) with the mean μ of q(z_{t−1} | z_t, ẑ_0) (Ho et al. 2020, eq. 7 and 11, and the
        larger of the two variances there), and the last step gives the mean.

        Args:
            x_t: (n, d + ΣK), float64.
            t: the step, T − 1 … 0.
            eps, u: see `loss`.

        """
        z, log_ct = self._parts(x_t)
        at = torch.full((1,), t, device=x_t.device)
        eps_hat, logits = (answer.to(x_t.dtype) for answer in self._answer(x_t.float(), at))
        alpha, alpha_bar = self.multinomial.alpha[t], self.multinomial.alpha_bar[t]
        mean = (z - (1 - alpha) / (1 - alpha_bar).sqrt() * eps_hat) / alpha.sqrt()
        z = mean + (1 - alpha).sqrt() * eps if t else mean
        if not self.multinomial.sizes:
            return z
        log_p = self.multinomial.posterior(self.multinomial.normalised(logits), log_ct, at)
        return torch.cat([z, self.multinomial.drawn(log_p, u)], dim=1)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, : self.numbers], x[:, self.numbers :]

    def _answer(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Ask the network for ε̂ (n, d) and for the logits (n, ΣK)."""
        return self._parts(self.network(x_t, t))
