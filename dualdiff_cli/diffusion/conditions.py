"""Denoisers of conditional distributions, and guidance.

A denoiser that has learnt every conditional distribution answers E[x | x_t, x_G] for any set G of given features
(`Denoiser.conditioned`). Guidance (Ho & Salimans 2022, "Classifier-free diffusion guidance", eq. 6) goes further in the
direction in which the condition changes the answer,

    D_W = D(x_t) + W (D(x_t | x_G) − D(x_t)),

where W = 1 samples the conditional distribution, and W > 1 exaggerates what is typical of the condition.
"""

from __future__ import annotations

from torch import Tensor

from .denoisers import Denoiser

__all__ = ["FreeDenoiser", "GuidedDenoiser"]


class GuidedDenoiser(Denoiser):
    """D + W (D_given − D).

    Args:
        plain: D(x_t).
        conditioned: D(x_t | x_G).
        weight: W.

    """

    def __init__(self, plain: Denoiser, conditioned: Denoiser, weight: float) -> None:
        super().__init__()
        self.plain, self.given, self.weight, self.schedule = plain, conditioned, weight, plain.schedule
        self.off_centre = weight != 0

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser.forward`."""
        plain = self.plain(x_t, t)
        guided: Tensor = plain + self.weight * (self.given(x_t, t) - plain)
        return guided


class FreeDenoiser(Denoiser):
    """E[x_F | x_F,t, x_G], where F are the features that are not given: a conditioned denoiser of these features alone.

    Args:
        conditioned: E[x | x_t, x_G], whose answers do not depend on the noisy values of the given features.
        values: the clean features, of which the given ones matter, (d,).
        free: the numbers of the features in F, ascending, (f,).

    """

    def __init__(self, conditioned: Denoiser, values: Tensor, free: Tensor) -> None:
        super().__init__()
        self.conditioned_on_all, self.values, self.free = conditioned, values, free
        self.schedule, self.off_centre = conditioned.schedule, True

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser.forward`; x_t has the features in F, (n, f)."""
        whole = self.values.to(x_t.dtype).expand(len(x_t), -1).index_copy(1, self.free, x_t)
        answers: Tensor = self.conditioned_on_all(whole, t)
        return answers[:, self.free]
