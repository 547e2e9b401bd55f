"""The training loss: the weighted regression loss, its additional terms, and its estimate on given points."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import seeding
from ..config.sections import ObjectiveConfig
from ..diffusion.denoisers import LearntDenoiser
from ..diffusion.network_denoiser import NetworkDenoiser
from ..diffusion.variational import bound_at_ends
from .batches import Batch, Batches, Draws

__all__ = [
    "LossEstimate",
    "batch_loss",
    "diversity",
    "estimate_loss",
    "expert_usage",
    "imbalance",
    "regression_loss",
]

EVALUATION_BATCH = 4096
"""The number of points whose loss is computed at once in an estimate."""


def diversity(prediction: Tensor) -> Tensor:
    """L_div = −mean_{i,j} ‖F_i − F_j‖ over all ordered pairs of the batch, including i = j (paper, "Networks").

    Args:
        prediction: F, (n, d).

    Returns:
        Shape ().

    """
    return -torch.cdist(prediction, prediction, compute_mode="donot_use_mm_for_euclid_dist").mean()


def imbalance(weights: Tensor) -> Tensor:
    """E·Σ_i ḡ_i² − 1, the squared coefficient of variation of the mean weights ḡ of the experts; zero for equal ḡ.

    Shazeer et al. 2017, "Outrageously Large Neural Networks", eq. 6.

    Args:
        weights: the weights of the experts, (n, E), with rows that sum to one.

    Returns:
        Shape ().

    """
    mean = weights.mean(0)
    return len(mean) * mean.square().sum() - 1


def regression_loss(denoiser: NetworkDenoiser, objective: ObjectiveConfig, batch: Batch) -> Tensor:
    """The weighted mean squared error of the network's output, plus the other terms of the objective.

    With likelihood weighting and without corrections, the loss is the variational bound in nats per column.

    Args:
        denoiser: has the network to train.
        objective: the weighting, and the weights of the terms for diversity and balance.
        batch: n points with noise and times.

    Returns:
        Shape ().

    """
    problem = denoiser.regression(
        batch.x,
        batch.epsilon,
        batch.t,
        correction=batch.correction,
        weighting=objective.weighting,
        stratified=objective.stratified,
        given=batch.given,
    )
    losses = problem.squared_errors.mean(1)
    loss = losses.mean()
    if objective.weighting == "likelihood":
        loss = loss + bound_at_ends(denoiser.schedule, batch.x)
    loss = loss + denoiser.schedule.shape_loss(batch.t, losses)
    if objective.diversity:
        loss = loss + objective.diversity * diversity(problem.output)
    if objective.balance:
        x_t = denoiser.schedule.add_noise(batch.x, batch.epsilon, batch.t)
        shown = x_t if batch.given is None else torch.where(batch.given, batch.x, x_t)
        loss = loss + objective.balance * imbalance(denoiser.gate(shown, batch.t, batch.given))
    return loss


def batch_loss(
    denoiser: NetworkDenoiser, objective: ObjectiveConfig, batches: Batches, draws: Draws, *, bfloat16: bool = False
) -> Tensor:
    """The regression loss of the batch that the draws decide.

    Args:
        denoiser, objective: see `regression_loss`.
        batches: makes the batch.
        draws: the random numbers of the batch.
        bfloat16: whether the matrix products of the network are computed in bfloat16.

    Returns:
        Shape ().

    """
    batch = batches.make(draws)
    with torch.autocast(draws.epsilon.device.type, dtype=torch.bfloat16, enabled=bfloat16):
        return regression_loss(denoiser, objective, batch)


@dataclass(frozen=True)
class LossEstimate:
    """The mean loss of n points, and the standard error of the mean, which is None below two points."""

    mean: float
    standard_error: float | None
    n: int


@torch.no_grad()
def estimate_loss(denoiser: LearntDenoiser, points: Tensor, *, seed: int, noise: Tensor | None = None) -> LossEstimate:
    """Estimate the mean squared error of the network's output on given points, each at one random time.

    The additional terms of the objective, for example diversity, are left out.

    Args:
        denoiser: the denoiser to judge.
        points: (n, d), in the units of the denoiser, on the device of the denoiser.
        seed: the seed of the times and the noise.
        noise: the noise that belongs to each point, (n, d); None draws the noise.

    """
    draws = seeding.torch_stream(seed, "loss estimate", points.device)
    t = denoiser.schedule.draw(len(points), draws)
    epsilon = torch.randn(points.shape, generator=draws, device=points.device) if noise is None else noise
    errors = []
    for first in range(0, len(points), EVALUATION_BATCH):
        rows = slice(first, first + EVALUATION_BATCH)
        errors.append(denoiser.regression(points[rows], epsilon[rows], t[rows]).squared_errors.mean(1))
    error, n = torch.cat(errors).double(), len(points)
    return LossEstimate(float(error.mean()), float(error.std()) / math.sqrt(n) if n > 1 else None, n)


@torch.no_grad()
def expert_usage(denoiser: LearntDenoiser, points: Tensor, *, seed: int) -> list[float]:
    """The mean weight of each expert over points (n, d) at random times: E numbers with the sum one."""
    draws = seeding.torch_stream(seed, "expert usage", points.device)
    t = denoiser.schedule.draw(len(points), draws)
    epsilon = torch.randn(points.shape, generator=draws, device=points.device)
    usage: list[float] = denoiser.gate(denoiser.schedule.add_noise(points, epsilon, t), t).mean(0).tolist()
    return usage
