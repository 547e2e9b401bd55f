"""A noise schedule that is learned together with the network, by the variational bound."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...config.sections import ScheduleConfig
from .base import Schedule

__all__ = ["LearnedSchedule"]


class LearnedSchedule(Schedule):
    """Variance preserving, with −log SNR = γ(t) = γ_0 + (γ_1 − γ_0)·u(t) and a monotone u from u(0) = 0 to u(1) = 1.

    u is γ̃(t) = w t + Σ_k a_k·sigmoid(b_k (t − c_k)) with w, a_k, b_k > 0, shifted and scaled (Kingma et al. 2021,
    "Variational Diffusion Models", appendix H).

    - The bound trains γ_1. The bound does not depend on the shape u, and its gradient with respect to u would be noise;
      therefore `log_snr` and `rate` do not pass a gradient to u, and `shape_loss` trains u instead.
    - γ_0 is fixed. The derivative of the bound with respect to γ_0 is ½E(d − ‖ε − ε̂‖²), which is positive for any
      denoiser that is better than none, so the bound decreases all the way to γ_0 = −∞. The data must say where to
      stop: at the distance between neighbouring training points. Below that, the bound decreases only because the
      network learns the training points by heart.
    - The network receives the noise level as its time argument, because a time stands for other noise levels as soon
      as u changes.

    Args:
        sigma_min: σ/α at t = 0, which stays fixed.
        sigma_max: σ/α at t = 1 at the beginning of the training.

    """

    even = False
    BENDS = 16

    def __init__(self, *, sigma_min: float, sigma_max: float) -> None:
        super().__init__()
        self.gamma_start: Tensor
        self.first_span: Tensor
        # These are tensors because the data decides them: see `LogSNRUniform`.
        for name, ratio in (("gamma_start", sigma_min), ("first_span", sigma_max / sigma_min)):
            self.register_buffer(name, torch.tensor(2 * math.log(ratio), dtype=torch.float64), persistent=False)
        K = self.BENDS
        self.log_stretch = nn.Parameter(torch.zeros(()))
        self.w = nn.Parameter(torch.tensor(0.5))
        self.a, self.b = nn.Parameter(torch.full((K,), -3.0)), nn.Parameter(torch.full((K,), 2.0 * K))
        self.c = nn.Parameter((torch.arange(K) + 0.5) / K)

    @classmethod
    def from_config(cls, config: ScheduleConfig) -> Self:
        """Take sigma_min and sigma_max from the configuration."""
        assert config.sigma_min is not None, "sigma_min is settled from the data before a run begins"
        return cls(sigma_min=config.sigma_min, sigma_max=config.sigma_max)

    @property
    def span(self) -> Tensor:
        """γ_1 − γ_0, shape ()."""
        return self.first_span * self.log_stretch.double().exp()

    def shape(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(u(t), u'(t)), each of the shape of t, float64."""
        w, a, b = (functional.softplus(raw.double()) for raw in (self.w, self.a, self.b))
        at = torch.cat([t.double().reshape(-1), self.ends])
        steps = torch.sigmoid(b * (at.unsqueeze(-1) - self.c.double()))
        value = w * at + (a * steps).sum(-1)
        slope = w + (a * b * steps * (1 - steps)).sum(-1)
        rise = value[-2] - value[-1]
        return ((value[:-2] - value[-1]) / rise).reshape(t.shape), (slope[:-2] / rise).reshape(t.shape)

    def log_snr(self, t: Tensor) -> Tensor:
        """−γ(t); see `Schedule.log_snr`."""
        return -(self.gamma_start + self.span * self.shape(t)[0].detach())

    def rate(self, t: Tensor) -> Tensor:
        """γ'(t); see `Schedule.rate`."""
        return self.span * self.shape(t)[1].detach()

    def network_time(self, t: Tensor) -> Tensor:
        """100·(γ(t) − γ_0)/(γ_1 − γ_0), with the γ_1 of the beginning of the training."""
        return -100 * (self.log_snr(t) + self.gamma_start) / self.first_span

    def shape_loss(self, t: Tensor, loss: Tensor) -> Tensor:
        """The loss that trains the shape u so that the estimate of the bound has less variance.

        Only E[L²] of the variance of L = γ'·h(γ) depends on the shape. With t uniform, γ has the density 1/γ', so
        E[L²] = ∫ γ' E[h²] dγ. The gradient of this integral is E[L² ∇ log γ'], where γ and not t is held fixed.
        Kingma et al. (2021), appendix I.2, send the gradient through the network; this form does not need that. The
        result is divided by the mean of L².

        Args:
            t: times, (n,).
            loss: L at these times, (n,).

        Returns:
            Shape (); the value is zero, and only the gradient matters.

        """
        squared = loss.detach().double().square()
        u, slope = self.shape(t)
        same_level = t - (u - u.detach()) / slope.detach()
        weighted = (squared / squared.mean() * self.shape(same_level)[1].log()).mean()
        return weighted - weighted.detach()
