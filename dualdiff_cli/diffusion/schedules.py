"""Noise schedules: how much signal and how much noise a point carries at time t.

A schedule gives the two coefficients of the forward process (Kingma et al. 2021, "Variational Diffusion Models", eq. 1)

    x_t = α_t x + σ_t ε,    ε ~ N(0, I),

and everything downstream (objectives, samplers, likelihoods) asks for no more than that. What tells schedules apart is
the log signal-to-noise ratio log(α_t²/σ_t²), which falls as t grows, and the gauge: variance preserving (α² + σ² = 1),
variance exploding (α = 1) or straight (α + σ = 1). The gauge is a matter of units: x_t/α_t depends on the ratio alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ..errors import InputError

__all__ = [
    "ContinuousLinearBeta",
    "Cosine",
    "LinearBeta",
    "LogSNRUniform",
    "Schedule",
    "StraightLine",
    "TableSchedule",
    "VarianceExploding",
    "zero_terminal_snr",
]


class Schedule(nn.Module, ABC):
    """α and σ as functions of the time t, which runs from ``t_min`` (data) to ``t_max`` (noise).

    Attributes:
        t_min, t_max: the ends of the time axis, in the schedule's own unit.
        discrete: whether training draws t from the integers t_min … t_max only.
        even: whether equal slices of the time axis are equal slices of `network_time`.
        prior_std: standard deviation of the Gaussian that sampling starts from, in units of x_t.
        LARGEST_LOG_SNR: where solvers that need a finite log SNR begin if α_t is zero at t_max.

    """

    t_min: float = 0.0
    t_max: float = 1.0
    discrete: bool = False
    even: bool = True
    prior_std: float = 1.0
    LARGEST_LOG_SNR = 20.0

    def __init__(self) -> None:
        super().__init__()
        self.ends: Tensor
        # float64 and on the schedule's device: the one place that tells where that is
        self.register_buffer("ends", torch.tensor([self.t_max, self.t_min], dtype=torch.float64), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the schedule's constants are."""
        return self.ends.device

    @abstractmethod
    def log_snr(self, t: Tensor) -> Tensor:
        """log(α_t²/σ_t²), decreasing in t; same shape as t, float64."""

    def rate(self, t: Tensor) -> Tensor:
        """d(−log SNR)/dt, positive; same shape as t, float64.

        Raises:
            InputError: the schedule is a table.

        """
        raise InputError("A table of noise levels has no rate of change.", "Use a continuous schedule.")

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(α_t, σ_t), each of t's shape, float64; α² + σ² = 1 unless a subclass says otherwise."""
        log_snr = self.log_snr(t)
        return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()

    def time(self, log_snr: Tensor) -> Tensor:
        """Invert log_snr: the times with given values, of their shape; values beyond the ends give the ends.

        By bisection, which needs no more than that log_snr decreases; 60 halvings leave float64's rounding.
        """
        low, high = torch.full_like(log_snr, self.t_min), torch.full_like(log_snr, self.t_max)
        for _ in range(60):
            middle = (low + high) / 2
            noisier = self.log_snr(middle) < log_snr
            low, high = torch.where(noisier, low, middle), torch.where(noisier, middle, high)
        return (low + high) / 2

    @property
    def lam_start(self) -> Tensor:
        """λ = log(α/σ) at t_max; where α is zero there, a finite one on the way to it; shape ()."""
        return 0.5 * self.log_snr(self.ends)[0].clamp(min=-self.LARGEST_LOG_SNR)

    @property
    def lam_end(self) -> Tensor:
        """λ = log(α/σ) at t_min; shape ()."""
        return 0.5 * self.log_snr(self.ends)[1].clamp(max=self.LARGEST_LOG_SNR)

    @property
    @torch.no_grad()
    def terminal_alpha_bar(self) -> float:
        """α²/(α² + σ²) at t_max: the share of a unit-variance signal in what sampling takes for pure noise."""
        alpha, sigma = self(self.ends)
        return float(alpha[0] ** 2 / (alpha[0] ** 2 + sigma[0] ** 2))

    @property
    @torch.no_grad()
    def ends_in_pure_noise(self) -> bool:
        """Whether α is zero at t_max."""
        return float(self(self.ends)[0][0]) == 0.0

    def network_time(self, t: Tensor) -> Tensor:
        """What a network is told of t: an entry's number for a table, and 0 … 100 across a continuous axis."""
        return t if self.discrete else 100 * (t - self.t_min) / (self.t_max - self.t_min)

    @property
    def network_span(self) -> float:
        """Length of the axis that `network_time` maps to: the number of a table's entries, or 100."""
        return self.t_max - self.t_min + 1 if self.discrete else 100.0

    def times(self, steps: int) -> Tensor:
        """Decreasing times t_max … t_min at which a sampler with that many steps asks the denoiser, (steps,).

        Raises:
            InputError: a discrete schedule has fewer times than steps.

        """
        if self.discrete and steps > self.t_max - self.t_min + 1:
            length = int(self.t_max - self.t_min) + 1
            raise InputError(f"{steps} steps were asked of a schedule with {length} times.", f"Use at most {length}.")
        fraction = torch.linspace(0, 1, steps, dtype=torch.float64, device=self.device)
        times = torch.lerp(self.ends[0], self.ends[1], fraction)
        return times.round() if self.discrete else times

    def draw(self, n: int, generator: torch.Generator, *, stratified: bool = False) -> Tensor:
        """Draw times for n training points, uniform on the time axis, (n,), float64, on the generator's device."""
        u = torch.rand(n, generator=generator, device=generator.device, dtype=torch.float64)
        return self.place(u, stratified=stratified)

    def place(self, u: Tensor, *, stratified: bool = False) -> Tensor:
        """Place uniform numbers u in [0, 1) on the time axis, (n,) → (n,), float64.

        Stratified ones put one point into each of n equal slices of the axis, which leaves every point's distribution
        uniform but removes most of the batch's variance over noise levels (Kingma et al. 2021, appendix I.1).
        """
        if stratified:
            u = (torch.arange(len(u), device=u.device) + u) / len(u)
        if self.discrete:
            entries = self.t_max - self.t_min + 1
            return self.t_min + (u * entries).floor().clamp(max=entries - 1)
        return self.t_min + (self.t_max - self.t_min) * u


class TableSchedule(Schedule):
    """A table of ᾱ_t = α_t² for t = 0 … T−1, variance preserving; between entries log SNR is linear in t.

    Args:
        alpha_bar: (T,), below 1 and decreasing; the last entry may be zero.

    """

    discrete = True

    def __init__(self, alpha_bar: Tensor) -> None:
        self.t_max = float(len(alpha_bar) - 1)
        super().__init__()
        self.log_snr_table: Tensor
        self.register_buffer("log_snr_table", torch.logit(alpha_bar.double()), persistent=False)

    def log_snr(self, t: Tensor) -> Tensor:
        """log(α_t²/σ_t²), read from the table."""
        t = t.double()
        below = t.floor().long().clamp(0, len(self.log_snr_table) - 1)
        above = (below + 1).clamp(max=len(self.log_snr_table) - 1)
        lower, upper = self._entries(below), self._entries(above)
        return torch.where(t == below, lower, torch.lerp(lower, upper, t - below))

    def _entries(self, index: Tensor) -> Tensor:
        # table[index] would read an index of shape () as a number: a wait for a GPU, and a constant in a traced graph
        return self.log_snr_table.index_select(0, index.reshape(-1)).reshape(index.shape)

    @property
    def lam_start(self) -> Tensor:
        """λ of the last entry that has a finite one; shape ()."""
        return 0.5 * self.log_snr_table[self.log_snr_table.isfinite()][-1]


class LinearBeta(TableSchedule):
    """ᾱ_t = Π_{s≤t} (1 − β_s) with β_s linear in s (Ho et al. 2020, "Denoising Diffusion Probabilistic Models", §4).

    The paper uses T = 100 with the endpoints that Ho et al. chose for T = 1000, so that ᾱ_T = 0.364: sampling starts
    from N(0, I) where the noised data still has 60 % of its amplitude.
    """

    def __init__(self, *, length: int = 100, beta_min: float = 1e-4, beta_max: float = 0.02) -> None:
        beta = torch.linspace(beta_min, beta_max, length, dtype=torch.float64)
        super().__init__(torch.cumprod(1 - beta, dim=0))


class Cosine(TableSchedule):
    """β_t = min(1 − f(t+1)/f(t), 0.999), f(t) = cos²(((t/T + s)/(1 + s))·π/2), s = 0.008.

    Nichol & Dhariwal 2021, "Improved Denoising Diffusion Probabilistic Models", eq. 17.
    """

    def __init__(self, *, length: int = 100) -> None:
        u = torch.arange(length + 1, dtype=torch.float64) / length
        f = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
        beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)
        super().__init__(torch.cumprod(1 - beta, dim=0))


def zero_terminal_snr(table: TableSchedule) -> TableSchedule:
    """Shift and scale √ᾱ so that it ends at zero and begins where it did.

    Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps are Flawed", Alg. 1.
    """
    alpha = torch.sigmoid(table.log_snr_table).sqrt()
    return TableSchedule(((alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])) ** 2)


class ContinuousLinearBeta(Schedule):
    """The limit of many small steps of a β table of the same total: α_t² = exp(−∫_0^t β), β(t) linear, t in [1/T, 1].

    Song et al. 2021, "Score-Based Generative Modeling through SDEs", eq. 32 and 33.

    Args:
        length: T of the table; β(t) runs from T·beta_min to T·beta_max.
        beta_min, beta_max: the table's ends.

    """

    def __init__(self, *, length: int = 100, beta_min: float = 1e-4, beta_max: float = 0.02) -> None:
        self.t_min = 1 / length
        super().__init__()
        self.start, self.end = length * beta_min, length * beta_max

    def log_snr(self, t: Tensor) -> Tensor:
        """−log(e^B − 1) with B = ∫_0^t β."""
        return -torch.log(torch.expm1(self._integral(t.double())))

    def rate(self, t: Tensor) -> Tensor:
        """β(t)/(1 − e^−B)."""
        t = t.double()
        return (self.start + (self.end - self.start) * t) / -torch.expm1(-self._integral(t))

    def _integral(self, t: Tensor) -> Tensor:
        """B(t)."""
        return self.start * t + 0.5 * (self.end - self.start) * t**2


class LogSNRUniform(Schedule):
    """Variance preserving, with σ_t/α_t = σ_max^t·σ_min^(1−t): every factor of noise gets the same share of [0, 1].

    Args:
        sigma_min, sigma_max: the ends of σ/α.

    """

    def __init__(self, *, sigma_min: float, sigma_max: float) -> None:
        super().__init__()
        self.log_sigma: Tensor
        # a tensor, because it comes of the data: a plain number would be a part of what is compiled
        log_sigma = torch.tensor([math.log(sigma_min), math.log(sigma_max)], dtype=torch.float64)
        self.register_buffer("log_sigma", log_sigma, persistent=False)

    def log_snr(self, t: Tensor) -> Tensor:
        """−2·log(σ_t/α_t)."""
        return -2 * torch.lerp(self.log_sigma[0], self.log_sigma[1], t.double())

    def rate(self, t: Tensor) -> Tensor:
        """2·log(σ_max/σ_min)."""
        return 2 * torch.diff(self.log_sigma).expand(t.shape)


class VarianceExploding(LogSNRUniform):
    """α = 1, σ_t = σ_max^t·σ_min^(1−t) (Song et al. 2021, eq. 30), t in [0, 1]."""

    def __init__(self, *, sigma_min: float, sigma_max: float) -> None:
        super().__init__(sigma_min=sigma_min, sigma_max=sigma_max)
        self.prior_std = sigma_max

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(1, σ_t)."""
        sigma = torch.exp(-0.5 * self.log_snr(t))
        return torch.ones_like(sigma), sigma


class StraightLine(Schedule):
    """α_t = 1 − t, σ_t = t (Liu et al. 2023, "Flow Straight and Fast", eq. 1, with time from data to noise).

    Training and sampling stay above t = 0.001, where a point is as good as clean.
    """

    t_min = 1e-3

    def log_snr(self, t: Tensor) -> Tensor:
        """2·log((1 − t)/t)."""
        t = t.double()
        return 2 * torch.log((1 - t) / t)

    def rate(self, t: Tensor) -> Tensor:
        """2/(t(1 − t))."""
        t = t.double()
        return 2 / (t * (1 - t))

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(1 − t, t)."""
        return 1 - t.double(), t.double()

