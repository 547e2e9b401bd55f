"""The forward process, and the interface of every noise schedule.

A schedule gives the two coefficients of the forward process (Kingma et al. 2021, "Variational Diffusion Models", eq. 1)

    x_t = α_t x + σ_t ε,    ε ~ N(0, I).

Objectives, samplers and likelihoods ask a schedule for nothing else. Two things distinguish schedules. One is the log
signal-to-noise ratio log(α_t²/σ_t²), which decreases as t grows. The other is the gauge: variance preserving
(α² + σ² = 1), variance exploding (α = 1) or straight (α + σ = 1). The gauge only chooses the unit of x_t, because
x_t/α_t depends on the ratio α_t/σ_t alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ...config.sections import ScheduleConfig
from ...errors import InputError

__all__ = ["Schedule"]


class Schedule(nn.Module, ABC):
    """α and σ as functions of the time t, which runs from ``t_min`` (data) to ``t_max`` (noise).

    Attributes:
        t_min, t_max: the ends of the time axis, in the schedule's own unit of time.
        discrete: whether training draws t from the integers t_min … t_max only.
        even: whether slices of equal length on the time axis have equal length on the axis of `network_time` too.
        prior_std: standard deviation of the Gaussian that sampling starts from, in units of x_t.
        LARGEST_LOG_SNR: the absolute value at which `lam_start` and `lam_end` cut an infinite log SNR off.

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
        # The buffer holds (t_max, t_min) in float64, and its device is the device of the schedule.
        self.register_buffer("ends", torch.tensor([self.t_max, self.t_min], dtype=torch.float64), persistent=False)

    @classmethod
    @abstractmethod
    def from_config(cls, config: ScheduleConfig) -> Schedule:
        """Make the schedule from the settings that it uses; ``sigma_min``, where used, has been settled from data."""

    @property
    def device(self) -> torch.device:
        """The device that holds the constants of the schedule."""
        return self.ends.device

    @abstractmethod
    def log_snr(self, t: Tensor) -> Tensor:
        """log(α_t²/σ_t²), which decreases in t.

        Args:
            t: times, any shape.

        Returns:
            Same shape as t, float64.

        """

    def rate(self, t: Tensor) -> Tensor:
        """d(−log SNR)/dt, which is positive.

        Args:
            t: times, any shape.

        Returns:
            Same shape as t, float64.

        Raises:
            InputError: the schedule is a table, which has no derivative.

        """
        raise InputError("A table of noise levels has no rate of change.", "Use a continuous schedule.")

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(α_t, σ_t), each of the shape of t, float64; α² + σ² = 1 unless a subclass overrides this method."""
        log_snr = self.log_snr(t)
        return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()

    def alpha_sigma(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """(α_t, σ_t) with the number of axes and the dtype of the tensor that they are to multiply.

        Args:
            t: one time for all rows, (), or one time per row, (n,).
            like: (n, …).

        Returns:
            Each (1, 1, …) or (n, 1, …).

        """
        alpha, sigma = self(t)
        shape = (-1, *(1,) * (like.dim() - 1))
        return alpha.reshape(shape).to(like.dtype), sigma.reshape(shape).to(like.dtype)

    def add_noise(self, x: Tensor, epsilon: Tensor, t: Tensor) -> Tensor:
        """x_t = α_t x + σ_t ε.

        Args:
            x: clean points, (n, …).
            epsilon: noise ε, (n, …).
            t: one time for all points, (), or one time per point, (n,).

        Returns:
            (n, …).

        """
        alpha, sigma = self.alpha_sigma(t, x)
        return alpha * x + sigma * epsilon

    def shape_loss(self, t: Tensor, loss: Tensor) -> Tensor:
        """The term that a schedule adds to the training loss; zero unless the schedule is learned.

        Args:
            t: times of the batch, (n,).
            loss: losses of the points, (n,).

        Returns:
            Shape ().

        """
        del t
        return loss.new_zeros(())

    def time(self, log_snr: Tensor) -> Tensor:
        """Invert `log_snr`.

        The method bisects, which requires only that log SNR decreases; 60 halvings reach the rounding of float64.

        Args:
            log_snr: any shape, float64.

        Returns:
            The times with these values, same shape; t_min or t_max for values beyond the ends.

        """
        low, high = torch.full_like(log_snr, self.t_min), torch.full_like(log_snr, self.t_max)
        for _ in range(60):
            middle = (low + high) / 2
            noisier = self.log_snr(middle) < log_snr
            low, high = torch.where(noisier, low, middle), torch.where(noisier, middle, high)
        return (low + high) / 2

    @property
    def lam_start(self) -> Tensor:
        """λ = log(α/σ) at t_max, shape (); where α = 0 at t_max, the finite value −LARGEST_LOG_SNR/2."""
        return 0.5 * self.log_snr(self.ends)[0].clamp(min=-self.LARGEST_LOG_SNR)

    @property
    def lam_end(self) -> Tensor:
        """λ = log(α/σ) at t_min, shape (); at most LARGEST_LOG_SNR/2."""
        return 0.5 * self.log_snr(self.ends)[1].clamp(max=self.LARGEST_LOG_SNR)

    @property
    @torch.no_grad()
    def terminal_alpha_bar(self) -> float:
        """α²/(α² + σ²) at t_max: how much of data of unit variance is left where sampling assumes pure noise."""
        alpha, sigma = self(self.ends)
        return float(alpha[0] ** 2 / (alpha[0] ** 2 + sigma[0] ** 2))

    @property
    @torch.no_grad()
    def ends_in_pure_noise(self) -> bool:
        """Whether α = 0 at t_max."""
        return float(self(self.ends)[0][0]) == 0.0

    def network_time(self, t: Tensor) -> Tensor:
        """The time argument of a network at t: the entry's number for a table, 0 … 100 for a continuous axis."""
        return t if self.discrete else 100 * (t - self.t_min) / (self.t_max - self.t_min)

    @property
    def network_span(self) -> float:
        """The length of the axis of `network_time`: the number of entries of a table, or 100."""
        return self.t_max - self.t_min + 1 if self.discrete else 100.0

    def times(self, steps: int) -> Tensor:
        """The times t_max … t_min, evenly spaced and decreasing, at which a sampler evaluates the denoiser.

        Returns:
            (steps,), float64.

        Raises:
            InputError: the schedule is a table with fewer entries than steps.

        """
        if self.discrete and steps > self.t_max - self.t_min + 1:
            length = int(self.t_max - self.t_min) + 1
            raise InputError(f"{steps} steps were asked of a schedule with {length} times.", f"Use at most {length}.")
        fraction = torch.linspace(0, 1, steps, dtype=torch.float64, device=self.device)
        times = torch.lerp(self.ends[0], self.ends[1], fraction)
        return times.round() if self.discrete else times

    def draw(self, n: int, generator: torch.Generator, *, stratified: bool = False) -> Tensor:
        """Draw the times of n training points, uniform on the time axis: (n,), float64, on the generator's device."""
        u = torch.rand(n, generator=generator, device=generator.device, dtype=torch.float64)
        return self.place(u, stratified=stratified)

    def place(self, u: Tensor, *, stratified: bool = False) -> Tensor:
        """Map uniform numbers to times.

        With ``stratified``, each of n equal slices of the time axis receives one time. Every single time is still
        uniform, but most of the variance of a batch over noise levels is gone (Kingma et al. 2021, appendix I.1).

        Args:
            u: (n,), in [0, 1).
            stratified: whether the times are spread evenly; the result is then in increasing order.

        Returns:
            (n,), float64.

        """
        if stratified:
            u = (torch.arange(len(u), device=u.device) + u) / len(u)
        if self.discrete:
            entries = self.t_max - self.t_min + 1
            return self.t_min + (u * entries).floor().clamp(max=entries - 1)
        return self.t_min + (self.t_max - self.t_min) * u
