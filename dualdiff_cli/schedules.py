"""Noise schedules: how much signal and how much noise a point carries at time t.

A schedule gives the two coefficients of the forward process (Kingma et al. 2021, "Variational Diffusion Models", eq. 1)

    x_t = α_t x + σ_t ε,    ε ~ N(0, I),

and everything downstream (objectives, samplers, likelihoods) asks for no more than that. The one number that matters is
the log signal-to-noise ratio λ_t = log(α_t² / σ_t²), which falls as t grows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from .errors import InputError

__all__ = ["LinearBeta", "Schedule", "TableSchedule"]


class Schedule(nn.Module, ABC):
    """α and σ as functions of the time t, which runs from ``t_min`` (data) to ``t_max`` (noise).

    Attributes:
        t_min, t_max: the ends of the time axis, in the schedule's own unit.
        discrete: whether training draws t from the integers t_min … t_max only.
        prior_std: standard deviation of the Gaussian that sampling starts from, in units of x_t.

    """

    t_min: float
    t_max: float
    discrete: bool = False
    prior_std: float = 1.0

    @abstractmethod
    def log_snr(self, t: Tensor) -> Tensor:
        """λ_t = log(α_t² / σ_t²), decreasing in t; same shape as t, float64."""

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(α_t, σ_t), each of t's shape, float64; α² + σ² = 1 unless a subclass says otherwise."""
        log_snr = self.log_snr(t)
        return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()

    def times(self, steps: int) -> Tensor:
        """Decreasing times t_max … t_min at which a sampler with that many steps asks the denoiser, shape (steps,).

        Raises:
            InputError: a discrete schedule has fewer times than steps.

        """
        if self.discrete and steps > self.t_max - self.t_min + 1:
            length = int(self.t_max - self.t_min) + 1
            raise InputError(f"{steps} steps were asked of a schedule with {length} times.", f"Use at most {length}.")
        device = next((buffer.device for buffer in self.buffers()), None)
        times = torch.linspace(self.t_max, self.t_min, steps, dtype=torch.float64, device=device)
        return times.round() if self.discrete else times

    def draw(self, n: int, generator: torch.Generator, *, stratified: bool = False) -> Tensor:
        """Times for n training points, uniform on the time axis, shape (n,), float64, on the generator's device.

        Stratified draws put one point into each of n equal slices of the axis, which leaves every point's distribution
        uniform but removes most of the batch's variance over noise levels (Kingma et al. 2021, appendix I.1).
        """
        device = generator.device
        if self.discrete:
            low, high = int(self.t_min), int(self.t_max) + 1
            return torch.randint(low, high, (n,), generator=generator, device=device).to(torch.float64)
        u = torch.rand(n, generator=generator, device=device, dtype=torch.float64)
        if stratified:
            u = (torch.arange(n, device=device) + u) / n
        return self.t_min + (self.t_max - self.t_min) * u


class TableSchedule(Schedule):
    """A table of ᾱ_t = α_t² for t = 0 … T−1, variance preserving; between entries λ is linear in t.

    Args:
        alpha_bar: shape (T,), strictly between 0 and 1 and decreasing.

    """

    discrete = True

    def __init__(self, alpha_bar: Tensor) -> None:
        super().__init__()
        self.t_min, self.t_max = 0.0, float(len(alpha_bar) - 1)
        self.log_snr_table: Tensor
        self.register_buffer("log_snr_table", torch.logit(alpha_bar.double()), persistent=False)

    def log_snr(self, t: Tensor) -> Tensor:
        """λ_t, read from the table."""
        t = t.double()
        below = t.floor().long().clamp(0, len(self.log_snr_table) - 2)
        return torch.lerp(self.log_snr_table[below], self.log_snr_table[below + 1], t - below)


class LinearBeta(TableSchedule):
    """ᾱ_t = Π_{s≤t} (1 − β_s) with β_s linear in s (Ho et al. 2020, "Denoising Diffusion Probabilistic Models", §4).

    The paper uses T = 100 with the endpoints that Ho et al. chose for T = 1000, so that ᾱ_T = 0.364: sampling starts
    from N(0, I) where the noised data still has 60 % of its amplitude.
    """

    def __init__(self, *, length: int = 100, beta_min: float = 1e-4, beta_max: float = 0.02) -> None:
        beta = torch.linspace(beta_min, beta_max, length, dtype=torch.float64)
        super().__init__(torch.cumprod(1 - beta, dim=0))
