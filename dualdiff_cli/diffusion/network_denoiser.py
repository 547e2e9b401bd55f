"""The denoiser of a network, D(x_t, t) = E[x | x_t], whatever the output of the network stands for.

Only this module knows what the output F of a network stands for. With x_t = α x + σ ε, every parametrisation is affine
in F: D = c_skip x_t + c_out F (Salimans & Ho 2022, "Progressive Distillation", appendix D; Karras et al. 2022, §5):

    prediction   F stands for              c_skip            c_out
    noise        ε                         1/α               −σ/α
    data         x                         0                 1
    velocity     α ε − σ x                 α/(α² + σ²)       −σ/(α² + σ²)
    flow         ε − x                     1/(α + σ)         −σ/(α + σ)
    score        −ε/σ                      1/α               σ²/α
    edm          (σ x − α ε)/√(α² + σ²)    α/(α² + σ²)       σ/√(α² + σ²)

``edm`` is the preconditioning of Karras et al. for data of unit variance, which is minus velocity prediction where
α² + σ² = 1. The input of the network is x_t/√(α² + σ²), which is of order one at every noise level.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..config.sections import Prediction, Weighting
from ..data import DiscreteSpan
from ..errors import InputError
from .denoisers import Denoiser, LearntDenoiser, Regression
from .discrete import DiscreteMeans
from .schedules import Schedule

__all__ = ["ConditionedDenoiser", "NetworkDenoiser"]

MIN_SNR_GAMMA = 5.0
"""γ of min-SNR weighting (Hang et al. 2023)."""


class NetworkDenoiser(LearntDenoiser):
    """E[x | x_t] from the output of a network.

    Args:
        network: maps points (n, d), time arguments and shares of noise, (1,) or (n,), to outputs (n, d), in the dtype
            of the network.
        schedule: gives α_t and σ_t.
        prediction: the quantity that the output stands for.
        discrete: the features that take few values; the output of the network stands for their logits.

    Attributes:
        limits: the range of the training points, (2, d), once `limit` has been called; before that None, and answers
            are not limited.

    Raises:
        InputError: the schedule ends with α = 0, where a prediction of noise or score does not determine x.

    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        *,
        prediction: Prediction,
        discrete: Sequence[DiscreteSpan] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.prediction = prediction
        self.discrete_means = DiscreteMeans(discrete) if discrete else None
        self.limits: Tensor | None
        self.register_buffer("limits", None)
        if schedule.ends_in_pure_noise and prediction in ("noise", "score"):
            raise InputError(
                f"A {prediction} prediction says nothing about x where α = 0, and this schedule ends there.",
                "Use objective.prediction=velocity, flow, data or edm with it.",
            )

    def limit(self, points: Tensor) -> None:
        """Limit all later answers to what the range of the training points allows; see ``_limited``.

        Args:
            points: clean training points, (N, d), in the units of the denoiser.

        """
        self.limits = torch.stack([points.amin(0), points.amax(0)])

    def _limited(self, denoised: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Project x̂ on the interval of each column that the range [p, q] of the training points and x_t allow.

        A posterior mean is a mean of data points, so x̂ is in [p, q] if all data are. A network does not know this.
        Where a sample meets an x_t unlike any in the training, which happens with many columns and few rows, the
        network may answer with a multiple of x_t; the next x_t is larger still, and the sample grows from step to step
        without bound. Data beyond the training points are possible, however, so an excess of y = x_t/α over q, or under
        p, is allowed as far as a Gaussian of unit variance would allow it:

            p − k (αp − x_t)⁺  ≤  x̂  ≤  q + k (x_t − αq)⁺,    k = α/(σ² + α²),

        which is [p, q] in pure noise and admits y where no noise is left. Whatever the network answers, a sample is
        then at worst a draw from the normal distribution of unit variance at p or q. The projection on an interval that
        contains the exact answer never increases an error, and answers within [p, q] stay as they are.
        """
        if self.limits is None:
            return denoised
        p, q = self.limits[0].to(x_t.dtype), self.limits[1].to(x_t.dtype)
        k = alpha / (sigma**2 + alpha**2)
        lower = p - k * (alpha * p - x_t).clamp(min=0)
        upper = q + k * (x_t - alpha * q).clamp(min=0)
        return torch.minimum(torch.maximum(denoised, lower), upper)

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(c_skip, c_out) at noise levels α, σ of any shape."""
        if self.prediction in ("noise", "score"):
            return 1 / alpha, (-sigma if self.prediction == "noise" else sigma**2) / alpha
        if self.prediction == "data":
            return torch.zeros_like(alpha), torch.ones_like(alpha)
        if self.prediction == "edm":
            total = sigma**2 + alpha**2
            return alpha / total, sigma / total.sqrt()
        total = alpha**2 + sigma**2 if self.prediction == "velocity" else alpha + sigma
        return (alpha if self.prediction == "velocity" else torch.ones_like(alpha)) / total, -sigma / total

    def forward(self, x_t: Tensor, t: Tensor, given: Tensor | None = None) -> Tensor:
        """See `Denoiser.forward`; the network computes in the dtype of its weights, the affine map in that of x_t.

        Args:
            x_t, t: see `Denoiser.forward`.
            given: the features whose clean values are known and stand in x_t, (d,) or (n, d) bool; None where all of
                x_t is noisy.

        """
        alpha, sigma = self.schedule.alpha_sigma(t, x_t)
        output = self._output(x_t, t, alpha, sigma, given=given).to(x_t.dtype)
        denoised = self._denoised(output, x_t, alpha, sigma)
        return denoised if given is None else torch.where(given, x_t, denoised)

    def _denoised(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Turn the output F of the network into x̂."""
        c_skip, c_out = self.coefficients(alpha, sigma)
        denoised = self._limited(c_skip * x_t + c_out * output, x_t, alpha, sigma)
        if self.discrete_means is None:
            return denoised
        means: Tensor = self.discrete_means(denoised, output, x_t, alpha, sigma)
        return means

    def conditioned(self, values: Tensor, given: Tensor) -> Denoiser:
        """Hand the given features to the network; see `Denoiser.conditioned`."""
        return ConditionedDenoiser(self, values, given)

    def regression(
        self,
        x: Tensor,
        epsilon: Tensor,
        t: Tensor,
        *,
        correction: Tensor | None = None,
        weighting: Weighting = "uniform",
        stratified: bool = False,
        given: Tensor | None = None,
    ) -> Regression:
        """Give the regression problem of the network at x_t = α x + σ ε.

        An error of F makes an error of x̂ that is c_out times as large, and one of ε̂ that is α/σ·c_out times as large.
        A squared error of F has the weight

            uniform       1, and σ² for a score (Song & Ermon 2019, "Generative Modeling by Estimating Gradients of the
                          Data Distribution", eq. 5)
            min-snr       min(SNR, γ)·c_out² (Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting
                          Strategy", eq. 7)
            likelihood    ½(t_max − t_min)·(−d log SNR/dt)·SNR·c_out², as in the variational bound (Kingma et al. 2021,
                          "Variational Diffusion Models", eq. 17)

        Args:
            x: clean points, (n, d).
            epsilon: noise ε, (n, d).
            t: times, (n,).
            correction: the network is to predict x + correction instead of x; (n, d).
            weighting: the name of the weight.
            stratified: whether t has one time in each of n equal slices of the time axis, in increasing order.
            given: the features that the network is shown without noise, (n, d) bool; their errors weigh nothing.

        Raises:
            InputError: the weighting is ``likelihood``, and the schedule is a table, which has no rate of change.

        """
        alpha, sigma = self.schedule.alpha_sigma(t, x)
        x_t = alpha * x + sigma * epsilon
        shown = x_t if given is None else torch.where(given, x, x_t)
        output = self._output(shown, t, alpha, sigma, stratified=stratified and self.schedule.even, given=given)
        c_skip, c_out = self.coefficients(alpha, sigma)
        if self.discrete_means is not None:  # where F stands for logits, the error of F is that of x̂ in the unit of F
            means = self.discrete_means(c_skip * x_t + c_out * output, output, x_t, alpha, sigma)
            output = (means - c_skip * x_t) / c_out
        weight = self._weight(alpha, sigma, t, weighting)
        target = self._target(x, epsilon, alpha, sigma)
        if correction is not None:
            target = target + correction / c_out
        if given is not None:
            weight = weight * ~given
        return Regression(output, target, weight)

    def _weight(self, alpha: Tensor, sigma: Tensor, t: Tensor, weighting: Weighting) -> Tensor:
        """Give the weight of a squared error of F, (n, 1); see `regression`."""
        if weighting == "uniform":
            return sigma**2 if self.prediction == "score" else torch.ones_like(sigma)
        if weighting == "min-snr":
            return (alpha / sigma).square().clamp(max=MIN_SNR_GAMMA) * self.coefficients(alpha, sigma)[1].square()
        rate = 0.5 * (self.schedule.t_max - self.schedule.t_min) * self.schedule.rate(t).reshape(-1, 1).to(sigma.dtype)
        return rate * (alpha / sigma * self.coefficients(alpha, sigma)[1]).square()

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
        # Karras et al. write (x − c_skip x_t)/c_out, whose difference would lose all digits at small σ.
        return (sigma * x - alpha * epsilon) / (sigma**2 + alpha**2).sqrt()

    def weights(self) -> dict[str, Tensor]:
        """Give all tensors that training decides, by name: of the network, of a learned schedule, and the limits."""
        schedule = {f"schedule.{name}": tensor for name, tensor in self.schedule.state_dict().items()}
        limits = {} if self.limits is None else {"limits": self.limits}
        return {**self.network.state_dict(), **schedule, **limits}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Load the tensors that `weights` gave.

        Raises:
            RuntimeError: the names or the shapes are those of another model.

        """
        network, schedule = dict(weights), {}
        limits = network.pop("limits", None)
        for key in [key for key in network if key.startswith("schedule.")]:
            schedule[key.removeprefix("schedule.")] = network.pop(key)
        self.schedule.load_state_dict(schedule)
        self.network.load_state_dict(network)
        self.limits = None if limits is None else limits.to(self.schedule.device)

    def gate(self, x_t: Tensor, t: Tensor, given: Tensor | None = None) -> Tensor:
        """Evaluate the experts' weights, (n, E), for the arguments of `forward`; only for a network with experts."""
        alpha, sigma = self.schedule.alpha_sigma(t, x_t)
        inputs = self._network_inputs(x_t, t, alpha, sigma, given)
        weights: Tensor = self.network.gate(*inputs)  # type: ignore[operator]
        return weights

    def _output(
        self,
        x_t: Tensor,
        t: Tensor,
        alpha: Tensor,
        sigma: Tensor,
        *,
        stratified: bool = False,
        given: Tensor | None = None,
    ) -> Tensor:
        output: Tensor = self.network(*self._network_inputs(x_t, t, alpha, sigma, given), stratified=stratified)
        return output

    def _network_inputs(
        self, x_t: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor, given: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The inputs of the network: x_t/√(α² + σ²), the time argument, and the share of noise σ/√(α² + σ²).

        A feature that is given has no noise, so that its share is zero and its value is not rescaled.
        """
        dtype = next(itertools.chain(self.network.buffers(), self.network.parameters())).dtype
        scale = torch.rsqrt(alpha**2 + sigma**2)
        t = self.schedule.network_time(t).reshape(-1)
        x, s = scale * x_t, (scale * sigma).reshape(-1)
        if given is not None:
            x, s = torch.where(given, x_t, x), torch.where(given, 0.0, s.reshape(-1, 1).expand_as(x_t))
        return x.to(dtype), t.to(dtype), s.to(dtype)


class ConditionedDenoiser(Denoiser):
    """E[x | x_t, x_G]: a denoiser that sees the clean values of the given features in place of noisy ones.

    Args:
        denoiser: takes ``given`` as a third argument.
        values, given: see `Denoiser.conditioned`.

    """

    def __init__(self, denoiser: NetworkDenoiser, values: Tensor, given: Tensor) -> None:
        super().__init__()
        self.denoiser, self.schedule = denoiser, denoiser.schedule
        self.values, self.given, self.off_centre = values, given, True

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser.forward`."""
        denoised: Tensor = self.denoiser(torch.where(self.given, self.values.to(x_t.dtype), x_t), t, self.given)
        return denoised
