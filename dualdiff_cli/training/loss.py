"""What a network is trained on and judged by: the weighted regression loss, its extra terms, and its estimate.

Everything here is a pure function of weights and draws; the loop around it is in training.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import seeding
from ..config.schema import ObjectiveConfig
from ..diffusion.denoisers import NetworkDenoiser
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
MIN_SNR_GAMMA = 5.0


def diversity(prediction: Tensor) -> Tensor:
    """L_div = −mean_{i,j} ‖F_i − F_j‖ over all ordered pairs of the batch, self-pairs included (paper, "Networks").

    Args:
        prediction: (n, d).

    """
    return -torch.cdist(prediction, prediction, compute_mode="donot_use_mm_for_euclid_dist").mean()


def imbalance(weights: Tensor) -> Tensor:
    """E·Σ_i ḡ_i² − 1, the squared coefficient of variation of the experts' mean weights ḡ; zero when they are equal.

    Shazeer et al. 2017, "Outrageously Large Neural Networks", eq. 6.

    Args:
        weights: (n, E), rows that sum to one.

    """
    mean = weights.mean(0)
    return len(mean) * mean.square().sum() - 1


def regression_loss(denoiser: NetworkDenoiser, objective: ObjectiveConfig, batch: Batch) -> Tensor:
    """Weighted mean squared error of the network's output, plus the objective's terms on diversity and balance; ().

    Weighted by likelihood it is the variational bound in nats a column, as long as targets are plain.
    """
    snr_cap = MIN_SNR_GAMMA if objective.weighting == "min-snr" else None
    output, target, weight = denoiser.regression(
        batch.x,
        batch.epsilon,
        batch.t,
        correction=batch.correction,
        snr_cap=snr_cap,
        likelihood=objective.weighting == "likelihood",
        stratified=objective.stratified,
    )
    losses = (weight * (output - target).square()).mean(1)
    loss = losses.mean()
    if objective.weighting == "likelihood":
        loss = loss + bound_at_ends(denoiser.schedule, batch.x)
    loss = loss + denoiser.schedule.shape_loss(batch.t, losses)
    if objective.diversity:
        loss = loss + objective.diversity * diversity(output)
    if objective.balance:
        alpha, sigma = (c.to(batch.x.dtype).reshape(-1, 1) for c in denoiser.schedule(batch.t))
        weights = denoiser.gate(alpha * batch.x + sigma * batch.epsilon, batch.t)
        loss = loss + objective.balance * imbalance(weights)
    return loss


def batch_loss(
    denoiser: NetworkDenoiser, objective: ObjectiveConfig, batches: Batches, draws: Draws, *, bfloat16: bool = False
) -> Tensor:
    """The regression loss of the batch that was drawn, (); in bfloat16 are the network's matrix products alone."""
    batch = batches.make(draws)
    with torch.autocast(draws.epsilon.device.type, dtype=torch.bfloat16, enabled=bfloat16):
        return regression_loss(denoiser, objective, batch)


@dataclass(frozen=True)
class LossEstimate:
    """A mean over points and its standard error."""

    mean: float
    standard_error: float
    n: int


@torch.no_grad()
def estimate_loss(denoiser: NetworkDenoiser, points: Tensor, *, seed: int, noise: Tensor | None = None) -> LossEstimate:
    """Mean squared error of the network's output on given points, each at one random time; no diversity term.

    Args:
        denoiser: with the weights to judge.
        points: (n, d), in the denoiser's units, on its device.
        seed: of the times and the noise.
        noise: what each point is paired with, (n, d); None draws it.

    """
    draws = seeding.torch_stream(seed, "loss estimate", points.device)
    t = denoiser.schedule.draw(len(points), draws)
    epsilon = torch.randn(points.shape, generator=draws, device=points.device) if noise is None else noise
    errors = []
    for first in range(0, len(points), EVALUATION_BATCH):
        rows = slice(first, first + EVALUATION_BATCH)
        output, target, weight = denoiser.regression(points[rows], epsilon[rows], t[rows])
        errors.append((weight * (output - target).square()).mean(1))
    error = torch.cat(errors).double()
    return LossEstimate(float(error.mean()), float(error.std()) / math.sqrt(len(points)), len(points))


@torch.no_grad()
def expert_usage(denoiser: NetworkDenoiser, points: Tensor, *, seed: int) -> list[float]:
    """Mean weight of each expert over points (n, d) noised at random times; sums to one."""
    draws = seeding.torch_stream(seed, "expert usage", points.device)
    t = denoiser.schedule.draw(len(points), draws)
    epsilon = torch.randn(points.shape, generator=draws, device=points.device)
    alpha, sigma = (c.to(points.dtype).reshape(-1, 1) for c in denoiser.schedule(t))
    usage: list[float] = denoiser.gate(alpha * points + sigma * epsilon, t).mean(0).tolist()
    return usage
