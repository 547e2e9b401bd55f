"""The variational bound in continuous time, and a noise schedule that is learnt with it.

With γ = −log SNR the negative log-likelihood of a point is at most (Kingma et al. 2021, "Variational Diffusion Models",
eq. 12 and 17)

    E[−log p(x | x_0)]  +  D(q(x_1 | x) ‖ p(x_1))  +  ½ ∫ γ'(t) E‖ε − ε̂(x_t, γ_t)‖² dt.

Continuous data take p(x | x_0) = N(x; x_0/α_0, (σ_0/α_0)² I), the posterior of x under a flat prior, so that the first
term is ½(log 2π + γ_0 + 1) a column. By the substitution γ = γ(t) the integral depends on the ends γ_0 and γ_1 alone,
not on the shape in between; the shape decides how much an estimate of it from random times scatters.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .schedules import Schedule

__all__ = ["LearnedSchedule", "bound_at_ends"]


def bound_at_ends(schedule: Schedule, x: Tensor) -> Tensor:
    """First and second term of the bound, in nats a column, averaged over points x (n, d); shape ().

    D(q ‖ p) = ½[(σ_1² + α_1² x²)/s² − 1 − log(σ_1²/s²)] a column; sampling starts from standard deviation s.
    """
    alpha, sigma = schedule(schedule.ends)
    variance = (sigma[0] / schedule.prior_std) ** 2
    prior = 0.5 * (variance + (alpha[0] / schedule.prior_std * x).square().mean() - 1 - variance.log())
    reconstruction = 0.5 * (math.log(2 * math.pi) - schedule.log_snr(schedule.ends)[1] + 1)
    bound: Tensor = prior + reconstruction
    return bound


class LearnedSchedule(Schedule):
    """Variance preserving; γ(t) = γ_0 + (γ_1 − γ_0)·u(t), with u a monotone network from u(0) = 0 to u(1) = 1.

    u is γ̃(t) = w t + Σ_k a_k·sigmoid(b_k (t − c_k)) with w, a_k, b_k > 0, shifted and scaled (Kingma et al. 2021,
    appendix H). The bound trains γ_1. The shape has no part in the bound, so `log_snr` and `rate` do not pass its
    gradient, which would be noise; `shape_loss` trains it.

    γ_0 is held. Its derivative of the bound is ½E(d − ‖ε − ε̂‖²) at γ_0, which is positive for any denoiser that is
    better than none: the bound falls all the way to γ_0 = −∞. Where to stop is for the data to say: at the distances
    between the training points, below which the bound would fall by learning these by heart.

    The network is told the level and not the time, which stands for other levels as the shape changes.

    Args:
        sigma_min: σ/α at t = 0, held.
        sigma_max: σ/α at t = 1 where training begins.

    """

    even = False
    BENDS = 16

    def __init__(self, *, sigma_min: float, sigma_max: float) -> None:
        super().__init__()
        self.gamma_start: Tensor
        self.first_span: Tensor
        # tensors, because they come of the data: plain numbers would be a part of what is compiled
        for name, ratio in (("gamma_start", sigma_min), ("first_span", sigma_max / sigma_min)):
            self.register_buffer(name, torch.tensor(2 * math.log(ratio), dtype=torch.float64), persistent=False)
        K = self.BENDS
        self.log_stretch = nn.Parameter(torch.zeros(()))
        self.w = nn.Parameter(torch.tensor(0.5))
        self.a, self.b = nn.Parameter(torch.full((K,), -3.0)), nn.Parameter(torch.full((K,), 2.0 * K))
        self.c = nn.Parameter((torch.arange(K) + 0.5) / K)

    @property
    def span(self) -> Tensor:
        """γ_1 − γ_0; shape ()."""
        return self.first_span * self.log_stretch.double().exp()

    def shape(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(u(t), u'(t)), each of t's shape, float64."""
        w, a, b = (functional.softplus(raw.double()) for raw in (self.w, self.a, self.b))
        at = torch.cat([t.double().reshape(-1), self.ends])
        steps = torch.sigmoid(b * (at.unsqueeze(-1) - self.c.double()))
        value = w * at + (a * steps).sum(-1)
        slope = w + (a * b * steps * (1 - steps)).sum(-1)
        rise = value[-2] - value[-1]
        return ((value[:-2] - value[-1]) / rise).reshape(t.shape), (slope[:-2] / rise).reshape(t.shape)

    def log_snr(self, t: Tensor) -> Tensor:
        """−γ(t)."""
        return -(self.gamma_start + self.span * self.shape(t)[0].detach())

    def rate(self, t: Tensor) -> Tensor:
        """γ'(t)."""
        return self.span * self.shape(t)[1].detach()

    def network_time(self, t: Tensor) -> Tensor:
        """100·(γ(t) − γ_0)/(γ_1 − γ_0) with the γ_1 that training began with."""
        return -100 * (self.log_snr(t) + self.gamma_start) / self.first_span

    def shape_loss(self, t: Tensor, loss: Tensor) -> Tensor:
        """What to minimise so that the estimate of the bound scatters less; its gradient counts, not its value.

        Only E[L²] of the variance of L = γ'·h(γ) depends on the shape. With t uniform γ has the density 1/γ', so that
        E[L²] = ∫ γ' E[h²] dγ, whose gradient is E[L² ∇ log γ'] with γ, not t, held. (Kingma et al., appendix I.2, let
        the gradient go through the network; this one need not.) It is divided by the mean of L².

        Args:
            t: times, (n,).
            loss: L at them, (n,).

        Returns:
            Zero, with that gradient; shape ().

        """
        squared = loss.detach().double().square()
        u, slope = self.shape(t)
        same_level = t - (u - u.detach()) / slope.detach()
        weighted = (squared / squared.mean() * self.shape(same_level)[1].log()).mean()
        return weighted - weighted.detach()
