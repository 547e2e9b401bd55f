"""Classifier guidance: a classifier of noisy points turns an unconditional denoiser into a conditional one.

The score of noisy points with the label y is the sum of two, ∇log p(x_t | y) = ∇log p(x_t) + ∇log p(y | x_t). With
Tweedie's formula, x̂ = (x_t + σ² ∇log p(x_t)) / α, this becomes (Dhariwal & Nichol 2021, "Diffusion models beat GANs on
image synthesis", section 4; W is their scale s)

    D_W = D(x_t) + W σ²/α ∇log p(y | x_t).

W = 1 samples p(x | y) as far as denoiser and classifier are right, and W > 1 exaggerates. This is the older way: the
denoiser knows nothing of labels, which may come later. `conditions` has the newer one, whose denoiser has learnt them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .. import seeding
from .denoisers import Denoiser
from .schedules import Schedule

__all__ = ["ClassifierGuided", "LogProbability", "by_differences", "classifier_inputs", "noisy_inputs"]

LogProbability = Callable[[Tensor, Tensor], Tensor]
"""Gives log p(y | x_t), (n,), of the label that is wanted, from x_t (n, d) and one time t, ()."""
LEAST_PROBABILITY = 1e-12
"""Classifiers may answer with a probability of zero, whose logarithm is infinite."""
DIFFERENCE = 0.02
"""The distance of the two points of a difference, as a share of the spread of x_t."""


class ClassifierGuided(Denoiser):
    """D + W σ²/α ∇log p(y | x_t), for a schedule whose α is nowhere zero.

    Args:
        plain: D, of points of all labels.
        log_p: log p(y | x_t), which PyTorch can differentiate with respect to x_t.
        weight: W.

    """

    def __init__(self, plain: Denoiser, log_p: LogProbability, weight: float = 1.0) -> None:
        super().__init__()
        self.plain, self.log_p, self.weight, self.schedule = plain, log_p, weight, plain.schedule
        self.off_centre = True

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser.forward`; t is one time for all points."""
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.log_p(x, t).sum(), x)
        alpha, sigma = self.schedule.alpha_sigma(t, x_t)
        guided: Tensor = self.plain(x_t, t) + self.weight * sigma**2 / alpha * slope
        return guided


def classifier_inputs(x_t: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """Give what a classifier sees of noisy points: x_t with a spread of about one, and half the log SNR, (n, d + 1)."""
    alpha, sigma = schedule.alpha_sigma(t, x_t)
    lam = torch.log(alpha / sigma).expand(len(x_t), 1)
    return torch.cat([x_t / torch.sqrt(alpha**2 + sigma**2), lam], dim=1)


def noisy_inputs(x: Tensor, schedule: Schedule, *, copies: int = 10, seed: int) -> Tensor:
    """Give the inputs to train a classifier on: points (n, d) with noise of levels between all and none.

    Args:
        x: clean points of variance about one.
        schedule: of the denoiser that the classifier will guide.
        copies: how many levels each point is shown at.
        seed: of levels and noise.

    Returns:
        (copies · n, d + 1) float64: all points once, then all points again. The labels are to be repeated alike.

    """
    stream = seeding.torch_stream(seed, "noisy points of a classifier", x.device)
    x = x.double().repeat(copies, 1)
    u = torch.rand(len(x), generator=stream, dtype=torch.float64, device=x.device)
    t = schedule.time(2 * torch.lerp(schedule.lam_start, schedule.lam_end, u))
    epsilon = torch.randn(x.shape, generator=stream, dtype=torch.float64, device=x.device)
    return classifier_inputs(schedule.add_noise(x, epsilon, t), t, schedule)


def by_differences(
    probabilities: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]], label: int, schedule: Schedule
) -> LogProbability:
    """Make log p(y | x_t) of a classifier without gradients, such as any of scikit-learn, by central differences.

    Args:
        probabilities: of each label, (n, K), from `classifier_inputs`; the method ``predict_proba`` of a classifier.
        label: the number of the label that is wanted, among the K.
        schedule: of the denoiser that is guided.

    """

    def log_p(x_t: Tensor, t: Tensor) -> Tensor:
        inputs = classifier_inputs(x_t, t, schedule).double().cpu().numpy()
        found = np.log(np.maximum(probabilities(inputs)[:, label], LEAST_PROBABILITY))
        return torch.from_numpy(found).to(x_t)

    class _Differences(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x_t: Tensor, t: Tensor) -> Tensor:
            ctx.save_for_backward(x_t, t)
            return log_p(x_t, t)

        @staticmethod
        def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
            x_t, t = ctx.saved_tensors
            alpha, sigma = schedule(t)
            h = DIFFERENCE * torch.sqrt(alpha**2 + sigma**2).to(x_t.dtype)
            ahead, behind = (
                torch.stack([log_p(x_t + side * h * e, t) for e in torch.eye(x_t.shape[1]).to(x_t)], dim=1)
                for side in (0.5, -0.5)
            )
            return upstream[0][:, None] * (ahead - behind) / h, None

    return lambda x_t, t: _Differences.apply(x_t, t)  # type: ignore[no-untyped-call]
