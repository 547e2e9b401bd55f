"""A denoiser in closed form that only the tests ask."""

from __future__ import annotations

import torch
from torch import Tensor

from dualdiff_cli.diffusion.mixtures import MixtureDenoiser
from dualdiff_cli.diffusion.schedules import Schedule


def gaussian_denoiser(mean: Tensor, std: Tensor, schedule: Schedule) -> MixtureDenoiser:
    """The exact posterior mean for x ~ N(μ, diag s²), a mixture with one component; μ and s are (d,)."""
    return MixtureDenoiser(torch.ones(1), mean.unsqueeze(0), std.unsqueeze(0), schedule)
