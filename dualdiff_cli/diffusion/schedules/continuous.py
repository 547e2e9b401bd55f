"""Schedules on a continuous time axis, given by a formula."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor

from ...config.sections import ScheduleConfig
from .base import Schedule

__all__ = ["ContinuousLinearBeta", "LogSNRUniform", "StraightLine", "VarianceExploding"]


class ContinuousLinearBeta(Schedule):
    """α_t² = exp(−∫_0^t β) with β(t) linear, t in [1/T, 1]: the limit of many small steps of a table of the same total.

    Song et al. 2021, "Score-Based Generative Modeling through Stochastic Differential Equations", eq. 32 and 33.

    Args:
        length: T of the table; β(t) runs from T·beta_min to T·beta_max.
        beta_min, beta_max: the first and the last β of the table.

    """

    def __init__(self, *, length: int = 100, beta_min: float = 1e-4, beta_max: float = 0.02) -> None:
        self.t_min = 1 / length
        super().__init__()
        self.start, self.end = length * beta_min, length * beta_max

    @classmethod
    def from_config(cls, config: ScheduleConfig) -> Self:
        """Take length, beta_min and beta_max from the configuration."""
        return cls(length=config.length, beta_min=config.beta_min, beta_max=config.beta_max)

    def log_snr(self, t: Tensor) -> Tensor:
        """−log(e^B − 1) with B = ∫_0^t β; see `Schedule.log_snr`."""
        return -torch.log(torch.expm1(self._integral(t.double())))

    def rate(self, t: Tensor) -> Tensor:
        """β(t)/(1 − e^−B); see `Schedule.rate`."""
        t = t.double()
        return (self.start + (self.end - self.start) * t) / -torch.expm1(-self._integral(t))

    def _integral(self, t: Tensor) -> Tensor:
        """B(t) = ∫_0^t β."""
        return self.start * t + 0.5 * (self.end - self.start) * t**2


class LogSNRUniform(Schedule):
    """Variance preserving with σ_t/α_t = σ_max^t·σ_min^(1−t), t in [0, 1], so that log SNR is linear in t.

    Args:
        sigma_min, sigma_max: σ/α at t = 0 and at t = 1.

    """

    def __init__(self, *, sigma_min: float, sigma_max: float) -> None:
        super().__init__()
        self.log_sigma: Tensor
        # The data decides sigma_min. A plain number would become a constant of the compiled program, which would then
        # be compiled anew for every data set; a tensor is an input.
        log_sigma = torch.tensor([math.log(sigma_min), math.log(sigma_max)], dtype=torch.float64)
        self.register_buffer("log_sigma", log_sigma, persistent=False)

    @classmethod
    def from_config(cls, config: ScheduleConfig) -> Self:
        """Take sigma_min and sigma_max from the configuration."""
        assert config.sigma_min is not None, "sigma_min is settled from the data before a run begins"
        return cls(sigma_min=config.sigma_min, sigma_max=config.sigma_max)

    def log_snr(self, t: Tensor) -> Tensor:
        """−2·log(σ_t/α_t); see `Schedule.log_snr`."""
        return -2 * torch.lerp(self.log_sigma[0], self.log_sigma[1], t.double())

    def rate(self, t: Tensor) -> Tensor:
        """2·log(σ_max/σ_min); see `Schedule.rate`."""
        return 2 * torch.diff(self.log_sigma).expand(t.shape)


class VarianceExploding(LogSNRUniform):
    """α = 1 and σ_t = σ_max^t·σ_min^(1−t), t in [0, 1].

    Song et al. 2021, "Score-Based Generative Modeling through Stochastic Differential Equations", eq. 30.

    Args:
        sigma_min, sigma_max: σ at t = 0 and at t = 1.

    """

    def __init__(self, *, sigma_min: float, sigma_max: float) -> None:
        super().__init__(sigma_min=sigma_min, sigma_max=sigma_max)
        self.prior_std = sigma_max

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(1, σ_t), each of the shape of t, float64."""
        sigma = torch.exp(-0.5 * self.log_snr(t))
        return torch.ones_like(sigma), sigma


class StraightLine(Schedule):
    """α_t = 1 − t and σ_t = t (Liu et al. 2023, "Flow Straight and Fast", eq. 1, with time from data to noise).

    Training and sampling stay above t = 0.001, where the noise is negligible.
    """

    t_min = 1e-3

    @classmethod
    def from_config(cls, config: ScheduleConfig) -> Self:
        """Make the schedule, which has no settings."""
        del config
        return cls()

    def log_snr(self, t: Tensor) -> Tensor:
        """2·log((1 − t)/t); see `Schedule.log_snr`."""
        t = t.double()
        return 2 * torch.log((1 - t) / t)

    def rate(self, t: Tensor) -> Tensor:
        """2/(t(1 − t)); see `Schedule.rate`."""
        t = t.double()
        return 2 / (t * (1 - t))

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(1 − t, t), each of the shape of t, float64."""
        return 1 - t.double(), t.double()
