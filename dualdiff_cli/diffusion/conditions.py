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

__all__ = ["GuidedDenoiser"]


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
