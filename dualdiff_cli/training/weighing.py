"""The end of a training in folds: closed forms join the networks, and unseen rows decide how much each expert counts.

The weights depend on the noise level, on the Gaussian that a row probably belongs to, on the column, and on the share
of features that are given; `diffusion.stacking` has the equations, and `weights` the least-squares fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config.schema import DiffusionConfig
from ..data import FeatureLayout, FloatArray
from ..diffusion.mixtures import FullMixtureDenoiser
from ..diffusion.schedules import Schedule
from ..diffusion.stacking import StackedDenoiser, mean_weights, weighted
from .exam import Exam
from .gaussians import FittedMixture
from .marginals import SIZES, FittedMarginals
from .mixture import COMPONENT_NUMBERS, fit_mixture, spread
from .tails import ScaleMixture
from .weights import errors_of, weights_by_component, weights_by_unit

__all__ = ["Ask", "weigh_experts"]

Ask = Callable[[Tensor | None], Tensor]
"""Asks the networks about unseen rows, of which some features may be given; see `Exam.answers`."""

CLEAR = 2.0
"""The networks are worth having if they gain more than so many standard errors on unseen rows, …"""
WORTH = 0.05
"""… and more than so many bits a row."""
UNSURE = 1.0
"""With a larger standard error, in bits a row, nothing is said of what the networks are worth."""
SLICES = 3
"""The number of slices of the share of given features that have weights of the experts of their own."""
PRIOR = 30
"""The number of rows that the common weights of the experts count as, beside the rows of each Gaussian or column."""
SET_ASIDE = 0.01
"""The share of unseen rows, those with the largest errors of an expert, that do not count for the weights: no expert
can know a few rows far from all others, and they would decide."""


def weigh_experts(
    stacked: StackedDenoiser,
    exam: Exam,
    ask: Ask,
    points: Tensor,
    seen: list[Tensor],
    *,
    config: DiffusionConfig,
    layout: FeatureLayout,
) -> dict[str, Any]:
    """Give the denoiser of trained networks its experts in closed form, and all experts their weights.

    Args:
        stacked: with trained networks; its closed forms and its weights are set.
        exam: of the networks.
        ask: answers the exam with the networks.
        points: the training rows as features, (N, width).
        seen: for each fold the rows that its network has learnt, (n, width); the closed forms that are judged on the
            other rows are fitted to these.
        config: of the run.
        layout: of the features.

    Returns:
        What is to be said of the experts: their losses on unseen rows, what all gain over the mixture, whether the
        mixture or independent columns alone are as good, and how much each counts.

    """
    c, seed = config.folds, config.seed
    sizes = COMPONENT_NUMBERS if c.mixture else (1,)
    mixture = fit_mixture(_spread(points, layout, seed), sizes=sizes, seed=seed)
    of_feature = SIZES if c.independent else (1,)  # what is left out costs little
    marginals = FittedMarginals.fit(points, layout.discrete, sizes=of_feature, seed=seed)
    stacked.mixture = _denoiser_of(mixture, stacked.schedule)
    stacked.independent = marginals.denoiser(stacked.schedule)
    used = [e for e, is_there in enumerate((True, c.mixture, c.independent)) if is_there]
    mixtures = [_denoiser_of(mixture.refit(_spread(rows, layout, seed)), stacked.schedule) for rows in seen]
    independent = [marginals.refit(rows).denoiser(stacked.schedule) for rows in seen]

    def answers_and_weights(net: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Give the answers of the experts, (E, L, F·m, width), r of the mixture, W and V."""
        of_mixture, r = exam.answers_of(mixtures, given)
        answers = torch.stack([net, of_mixture, exam.answers_of(independent, given)[0]])
        W = torch.zeros(c.levels, r.shape[-1], len(answers), dtype=torch.float64)
        V = torch.zeros(c.levels, layout.width, 1 + len(answers), dtype=torch.float64)
        a, prior = errors_of(answers[used], exam.points, exam.scale, set_aside=SET_ASIDE), PRIOR / len(points)
        W[..., used] = weights_by_component(a, r, prior=prior)
        by_unit = weights_by_unit(a, r.double() @ W[..., used], layout.units, prior=prior)
        V[..., [0, *(1 + e for e in used)]] = by_unit
        return answers, r, W, V

    def weights_by_given() -> Iterator[tuple[Tensor, Tensor]]:
        for k in range(SLICES if config.objective.conditional and len(used) > 1 else 0):
            given = exam.shown(layout.units, least=k / SLICES, most=(k + 1) / SLICES, seed=seed)
            yield answers_and_weights(ask(given), given)[2:]

    answers, r, *weights = answers_and_weights(ask(None))
    stacked.gate_weights, stacked.feature_weights = map(torch.stack, zip(weights, *weights_by_given(), strict=True))
    W, V = (each.float() for each in weights)
    w, V = r @ W, V.unsqueeze(1)
    combined = weighted(answers.movedim(0, -1), w, V)
    simpler = None
    if c.mixture and _as_good(*exam.gain(answers[1], combined)):
        simpler = f"On unseen rows {_named(mixture)} is as good here: --model mixture."
    elif c.independent and len(set(layout.units)) > 1 and _as_good(*exam.gain(answers[2], combined)):
        simpler = "On unseen rows independent columns are as good here."
    losses = [float(exam.losses(each).mean()) if e in used else None for e, each in enumerate(answers)]
    return {
        "unseen_loss": float(exam.losses(combined).mean()),
        "unseen_loss_of": dict(zip(("network", "mixture", "independent"), losses, strict=True)),
        "components": mixture.components if c.mixture else 0,
        "gain_over_mixture": _gain(exam, answers[1], combined, layout) if c.mixture else None,
        "simpler": simpler,
        "expert_usage": mean_weights(w, V).mean((0, 1)).tolist(),
    }


def _spread(rows: Tensor, layout: FeatureLayout, seed: int) -> FloatArray:
    """Give rows (n, width) as a mixture is fitted to them; see `mixture.spread`."""
    return spread(rows.double().numpy(), layout.discrete, seed=seed)


def _gain(exam: Exam, of_mixture: Tensor, combined: Tensor, layout: FeatureLayout) -> dict[str, Any] | None:
    """Say how much all experts gain over the mixture in features that are no categories, of which it is no density."""
    numbers = torch.ones(layout.width, dtype=torch.bool)
    for span in layout.discrete:
        numbers[span.start : span.start + span.width] = False
    if not numbers.any():
        return None
    bits, error = exam.gain(of_mixture, combined, numbers)
    unit = "bits a row" if numbers.all() else "bits a row, without categories"
    return {"value": bits, "standard_error": error, "unit": unit}


def _as_good(gain: float, error: float) -> bool:
    """Say whether all experts together gain little, or not clearly, over one of them; see `Exam.gain`."""
    return gain <= max(CLEAR * error, WORTH) and error <= UNSURE


def _named(mixture: FittedMixture) -> str:
    """Name a mixture in a sentence."""
    k = mixture.components
    gaussians = "one Gaussian" if k == 1 else f"a mixture of {k} Gaussians"
    return f"{gaussians} with heavier tails" if isinstance(mixture, ScaleMixture) else gaussians


def _denoiser_of(mixture: FittedMixture, schedule: Schedule) -> FullMixtureDenoiser:
    weights, means, covariances = (torch.from_numpy(np.array(array)) for array in mixture.gaussians)
    return FullMixtureDenoiser(weights, means, covariances, schedule)
