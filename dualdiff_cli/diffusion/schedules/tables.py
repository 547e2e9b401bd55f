"""Schedules that are tables of ᾱ_t = α_t² for t = 0 … T−1, all variance preserving."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...config.sections import ScheduleConfig
from .base import Schedule

__all__ = ["Cosine", "LinearBeta", "TableSchedule", "zero_terminal_snr"]


class TableSchedule(Schedule):
    """A table of ᾱ_t for t = 0 … T−1; between two entries log SNR is linear in t, and −∞ before an entry of zero.

    Args:
        alpha_bar: (T,), below 1 and decreasing; the last entry may be zero.

    """

    discrete = True

    def __init__(self, alpha_bar: Tensor) -> None:
        self.t_max = float(len(alpha_bar) - 1)
        super().__init__()
        self.log_snr_table: Tensor
        self.register_buffer("log_snr_table", torch.logit(alpha_bar.double()), persistent=False)

    @classmethod
    def from_config(cls, config: ScheduleConfig) -> TableSchedule:
        """Make the table, rescaled by `zero_terminal_snr` if the configuration asks for that."""
        table = cls.published(config)
        return zero_terminal_snr(table) if config.zero_terminal_snr else table

    @classmethod
    def published(cls, config: ScheduleConfig) -> TableSchedule:
        """Make the table as it was published, before any rescaling."""
        raise NotImplementedError

    def log_snr(self, t: Tensor) -> Tensor:
        """log(α_t²/σ_t²) from the table; see `Schedule.log_snr`."""
        t = t.double()
        below = t.floor().long().clamp(0, len(self.log_snr_table) - 1)
        above = (below + 1).clamp(max=len(self.log_snr_table) - 1)
        lower, upper = self._entries(below), self._entries(above)
        between = torch.where(upper.isinf(), upper, torch.lerp(lower, upper, t - below))  # lerp to −∞ can be NaN
        return torch.where(t == below, lower, between)

    def _entries(self, index: Tensor) -> Tensor:
        # table[index] would read an index of shape () as a number, which makes the program wait for a GPU and leaves a
        # constant in a traced graph.
        return self.log_snr_table.index_select(0, index.reshape(-1)).reshape(index.shape)

    @property
    def lam_start(self) -> Tensor:
        """λ of the last entry whose λ is finite, shape ()."""
        return 0.5 * self.log_snr_table[self.log_snr_table.isfinite()][-1]


class LinearBeta(TableSchedule):
    """ᾱ_t = Π_{s≤t} (1 − β_s) with β_s linear in s (Ho et al. 2020, "Denoising Diffusion Probabilistic Models", §4).

    The paper takes T = 100 together with the β that Ho et al. chose for T = 1000, so that ᾱ_T = 0.364: sampling starts
    from N(0, I), while 60 % of the amplitude of the data is left in x_T.

    Args:
        length: T.
        beta_min, beta_max: the first and the last β.

    """

    def __init__(self, *, length: int = 100, beta_min: float = 1e-4, beta_max: float = 0.02) -> None:
        beta = torch.linspace(beta_min, beta_max, length, dtype=torch.float64)
        super().__init__(torch.cumprod(1 - beta, dim=0))

    @classmethod
    def published(cls, config: ScheduleConfig) -> TableSchedule:
        """Take length, beta_min and beta_max from the configuration."""
        return cls(length=config.length, beta_min=config.beta_min, beta_max=config.beta_max)


class Cosine(TableSchedule):
    """β_t = min(1 − f(t+1)/f(t), 0.999) with f(t) = cos²(((t/T + s)/(1 + s))·π/2) and s = 0.008.

    Nichol & Dhariwal 2021, "Improved Denoising Diffusion Probabilistic Models", eq. 17.

    Args:
        length: T.

    """

    def __init__(self, *, length: int = 100) -> None:
        u = torch.arange(length + 1, dtype=torch.float64) / length
        f = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
        beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)
        super().__init__(torch.cumprod(1 - beta, dim=0))

    @classmethod
    def published(cls, config: ScheduleConfig) -> TableSchedule:
        """Take the length from the configuration."""
        return cls(length=config.length)


def zero_terminal_snr(table: TableSchedule) -> TableSchedule:
    """Shift and scale √ᾱ so that the last entry is zero and the first entry keeps its value.

    Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps are Flawed", Alg. 1.
    """
    alpha = torch.sigmoid(table.log_snr_table).sqrt()
    return TableSchedule(((alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])) ** 2)
