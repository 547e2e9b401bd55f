"""Denoisers: D(x_t, t) = E[x | x_t], the one face that samplers, likelihoods and exports see.

What a network predicts is adapted here and nowhere else. With x_t = α x + σ ε every parametrisation is affine in the
network's output F, D = c_skip x_t + c_out F (Salimans & Ho 2022, "Progressive Distillation", appendix D; Karras et al.
2022, §5):

    prediction   F stands for        c_skip            c_out
    noise        ε                   1/α               −σ/α
    data         x                   0                 1
    velocity     α ε − σ x           α/(α² + σ²)       −σ/(α² + σ²)
    flow         ε − x               1/(α + σ)         −σ/(α + σ)
    score        −ε/σ                1/α               σ²/α
    edm          (x − c_skip x_t)/c_out   α σ_d²/(σ² + α²σ_d²)   σ σ_d/√(σ² + α²σ_d²)

EDM's preconditioning with σ_d = 1 is velocity prediction up to its sign where α² + σ² = 1. The network sees
x_t/√(α² + σ²), which is of the order of one at every level.

The closed-form denoisers of a Gaussian and of a Gaussian mixture have the same face: they are the tests' oracle, and
they tell what a schedule and a sampler cost before any network does.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import InputError
from .schedules import Schedule

__all__ = ["Denoiser", "GaussianDenoiser", "MixtureDenoiser", "NetworkDenoiser", "Prediction", "Regression"]

Prediction = Literal["noise", "data", "velocity", "flow", "score", "edm"]


def _column(coefficient: Tensor) -> Tensor:
    """() or (n,) → (1, 1) or (n, 1), to multiply (n, d)."""
    return coefficient.reshape(-1, 1)


class Regression(NamedTuple):
    """What a network is trained on: its output F, its target (n, d), and what each point's error counts, (n, 1)."""

    output: Tensor
    target: Tensor
    weight: Tensor


class Denoiser(nn.Module, ABC):
    """E[x | x_t] under a schedule."""

    schedule: Schedule

    @abstractmethod
    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Posterior mean of the clean points, (n, d) of x_t's dtype.

        Args:
            x_t: noisy points, (n, d).
            t: one time for all points, shape (), or one each, (n,).

        """


class NetworkDenoiser(Denoiser):
    """A network's output read as a prediction.

    Args:
        network: (x (n, d), time argument and share of noise (1,) or (n,)) → (n, d), in its own dtype.
        schedule: gives α_t, σ_t.
        prediction: what the output stands for.
        sigma_data: σ_d of the ``edm`` preconditioning, the standard deviation of a column.

    Raises:
        InputError: the schedule ends in pure noise, where the prediction does not determine x.

    """

    def __init__(
        self, network: nn.Module, schedule: Schedule, *, prediction: Prediction, sigma_data: float = 1.0
    ) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.prediction = prediction
        self.sigma_data = sigma_data
        if schedule.ends_in_pure_noise and prediction in ("noise", "score"):
            raise InputError(
                f"A {prediction} prediction says nothing about x where α = 0, and this schedule ends there.",
                "Use objective.prediction=velocity, flow, data or edm with it.",
            )

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(c_skip, c_out) at levels of any shape."""
        if self.prediction in ("noise", "score"):
            return 1 / alpha, (-sigma if self.prediction == "noise" else sigma**2) / alpha
        if self.prediction == "data":
            return torch.zeros_like(alpha), torch.ones_like(alpha)
        if self.prediction == "edm":
            total = sigma**2 + (alpha * self.sigma_data) ** 2
            return alpha * self.sigma_data**2 / total, sigma * self.sigma_data / total.sqrt()
        total = alpha**2 + sigma**2 if self.prediction == "velocity" else alpha + sigma
        return (alpha if self.prediction == "velocity" else torch.ones_like(alpha)) / total, -sigma / total

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x | x_t]; the affine map is evaluated in x_t's dtype, the network in its own."""
        alpha, sigma = (_column(c).to(x_t.dtype) for c in self.schedule(t))
        c_skip, c_out = self.coefficients(alpha, sigma)
        return c_skip * x_t + c_out * self._output(x_t, t, alpha, sigma).to(x_t.dtype)

    def regression(
        self,
        x: Tensor,
        epsilon: Tensor,
        t: Tensor,
        *,
        correction: Tensor | None = None,
        snr_cap: float | None = None,
        likelihood: bool = False,
        stratified: bool = False,
    ) -> Regression:
        """Set the training problem at clean points x, noise ε (n, d) and times t (n,).

        Errors count the same in the network's own unit, but σ² for a score (Song & Ermon 2019, eq. 5). With a cap γ an
        error in x counts min(SNR, γ), which is min(SNR, γ)·c_out² in the network's unit (Hang et al. 2023, "Efficient
        Diffusion Training via Min-SNR Weighting Strategy", eq. 7). With ``likelihood`` an error in ε counts
        ½(t_max − t_min)·γ'(t), γ = −log SNR, as in the variational bound (Kingma et al. 2021, eq. 17). A correction
        (n, d) moves what should be predicted from x to x + correction. ``stratified`` says that t has one time in each
        of n equal slices of the axis, in order.
        """
        alpha, sigma = (_column(c).to(x.dtype) for c in self.schedule(t))
        x_t = alpha * x + sigma * epsilon
        output = self._output(x_t, t, alpha, sigma, stratified=stratified and self.schedule.even)
        weight = sigma**2 if self.prediction == "score" else torch.ones_like(sigma)
        if snr_cap is not None:
            weight = (alpha / sigma).square().clamp(max=snr_cap) * self.coefficients(alpha, sigma)[1].square()
        if likelihood:
            rate = 0.5 * (self.schedule.t_max - self.schedule.t_min) * _column(self.schedule.rate(t)).to(x.dtype)
            weight = rate * (alpha / sigma * self.coefficients(alpha, sigma)[1]).square()
        target = self._target(x, epsilon, alpha, sigma)
        if correction is not None:
            target = target + correction / self.coefficients(alpha, sigma)[1]
        return Regression(output, target, weight)

    def _target(self, x: Tensor, epsilon: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        if self.prediction == "noise":
            return epsilon
        if self.prediction == "data":
            return x
        if self.prediction == "velocity":
            return alpha * epsilon - sigma * x
        if self.prediction == "flow":
            return epsilon - x
        if self.prediction == "score":
            return -epsilon / sigma
        # (x − c_skip x_t)/c_out with the difference taken by hand, which would cancel at small σ
        total = (sigma**2 + (alpha * self.sigma_data) ** 2).sqrt()
        return (sigma / self.sigma_data * x - alpha * self.sigma_data * epsilon) / total

    def weights(self) -> dict[str, Tensor]:
        """Everything that is trained, by name: the network's, and the schedule's if it is learnt."""
        schedule = {f"schedule.{name}": tensor for name, tensor in self.schedule.state_dict().items()}
        return {**self.network.state_dict(), **schedule}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Take what `weights` gave.

        Raises:
            RuntimeError: they are another model's.

        """
        schedule = {key: tensor for key, tensor in weights.items() if key.startswith("schedule.")}
        self.schedule.load_state_dict({key.removeprefix("schedule."): tensor for key, tensor in schedule.items()})
        self.network.load_state_dict({key: tensor for key, tensor in weights.items() if key not in schedule})

    def gate(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Weights of the experts, (n, experts); only where the network has a gate."""
        alpha, sigma = (_column(c).to(x_t.dtype) for c in self.schedule(t))
        weights: Tensor = self.network.gate(*self._network_inputs(x_t, t, alpha, sigma))  # type: ignore[operator]
        return weights

    def _output(self, x_t: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor, *, stratified: bool = False) -> Tensor:
        output: Tensor = self.network(*self._network_inputs(x_t, t, alpha, sigma), stratified=stratified)
        return output

    def _network_inputs(self, x_t: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Points of order one, what the network is told of t, and the share of noise σ/√(α² + σ²)."""
        dtype = next(itertools.chain(self.network.buffers(), self.network.parameters())).dtype
        scale = torch.rsqrt(alpha**2 + sigma**2)
        t = self.schedule.network_time(t).reshape(-1)
        return (scale * x_t).to(dtype), t.to(dtype), (scale * sigma).reshape(-1).to(dtype)


class MixtureDenoiser(Denoiser):
    """Exact posterior mean when x ~ Σ_k w_k N(μ_k, diag s_k²).

    Component k of x_t is N(α μ_k, α² s_k² + σ²), so with responsibilities r_k(x_t)

        D = Σ_k r_k [ μ_k + α s_k² / (α² s_k² + σ²) · (x_t − α μ_k) ].

    Args:
        weights: (k,), summing to one.
        means, stds: (k, d).
        schedule: gives α_t, σ_t.

    """

    def __init__(self, weights: Tensor, means: Tensor, stds: Tensor, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        self.log_weights: Tensor
        self.means: Tensor
        self.variances: Tensor
        self.register_buffer("log_weights", weights.double().log())
        self.register_buffer("means", means.double())
        self.register_buffer("variances", stds.double() ** 2)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x | x_t], computed in float64."""
        alpha, sigma = (c.reshape(-1, 1, 1) for c in self.schedule(t))
        variance = alpha**2 * self.variances + sigma**2
        residual = x_t.double().unsqueeze(1) - alpha * self.means
        log_density = self.log_weights - 0.5 * (residual**2 / variance + variance.log()).sum(-1)
        responsibility = torch.softmax(log_density, dim=1).unsqueeze(-1)
        posterior = self.means + alpha * self.variances / variance * residual
        mean: Tensor = (responsibility * posterior).sum(1)
        return mean.to(x_t.dtype)


class GaussianDenoiser(MixtureDenoiser):
    """Exact posterior mean when x ~ N(μ, diag s²): the mixture of one."""

    def __init__(self, mean: Tensor, std: Tensor, schedule: Schedule) -> None:
        super().__init__(torch.ones(1), mean.unsqueeze(0), std.unsqueeze(0), schedule)
