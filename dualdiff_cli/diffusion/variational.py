"""The variational bound in continuous time.

With γ = −log SNR the negative log-likelihood of x is at most (Kingma et al. 2021, "Variational Diffusion Models",
eq. 12 and 17)

    E[−log p(x | x_0)]  +  D(q(x_1 | x) ‖ p(x_1))  +  ½ ∫ γ'(t) E‖ε − ε̂(x_t, γ_t)‖² dt.

For continuous data p(x | x_0) = N(x; x_0/α_0, (σ_0/α_0)² I), which is the posterior of x under a flat prior, so the
first term is ½(log 2π + γ_0 + 1) per column. Substituting γ = γ(t) shows that the integral depends only on the ends γ_0
and γ_1, and not on the shape of γ between them. The shape decides the variance of an estimate of the integral from
random times; `LearnedSchedule` makes use of this. `NetworkDenoiser.regression` estimates the integral.
"""

from __future__ import annotations

import math

from torch import Tensor

from .schedules import Schedule

__all__ = ["bound_at_ends"]


def bound_at_ends(schedule: Schedule, x: Tensor) -> Tensor:
    """The first and the second term of the bound, averaged over data points.

    With s the standard deviation of the Gaussian that sampling starts from, the second term is per column
    D(q ‖ p) = ½[(σ_1² + α_1² x²)/s² − 1 − log(σ_1²/s²)].

    Args:
        schedule: gives α, σ and log SNR at both ends of the time axis.
        x: clean points, (n, d).

    Returns:
        Nats per column, shape ().

    """
    alpha, sigma = schedule(schedule.ends)
    variance = (sigma[0] / schedule.prior_std) ** 2
    prior = 0.5 * (variance + (alpha[0] / schedule.prior_std * x).square().mean() - 1 - variance.log())
    reconstruction = 0.5 * (math.log(2 * math.pi) - schedule.log_snr(schedule.ends)[1] + 1)
    bound: Tensor = prior + reconstruction
    return bound
