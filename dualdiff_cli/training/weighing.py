"""The experts of a training in folds: closed forms join the networks, and unseen rows decide how much each counts.

The weights depend on the noise level, on the Gaussian that a row probably belongs to, on the column, and on the share
of columns that is given; `diffusion.stacking` has the equations, and `weights` the least-squares fits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .. import seeding
from ..config.schema import DiffusionConfig
from ..data import FeatureLayout, FloatArray
from ..diffusion.stacking import StackedDenoiser, mean_weights, weighted
from .best import BestCheckpoints
from .gaussians import FittedMixture
from .marginals import SIZES, FittedMarginals
from .mixture import COMPONENT_NUMBERS, MOST_MIXTURE_ROWS, dequantised, fit_to_completions
from .tails import ScaleMixture
from .unseen import UnseenRows
from .weights import common_weights, errors_of, weights_by_component, weights_by_unit

__all__ = ["Weighing"]

CLEAR = 2.0
"""A gain on unseen rows is clear if it is larger than so many standard errors."""
WORTH = 0.05
"""A gain is worth having if it is larger than so many bits a row."""
UNSURE = 1.0
"""If the standard error of a gain is larger than this, in bits a row, the gain says nothing."""
SLICES = 3
"""The share of given columns is divided into so many slices, and each slice has its own weights of the experts."""
PRIOR = 30
"""The common weights of the experts count as much as so many rows, beside the rows of each Gaussian or column."""
SET_ASIDE = 0.01
"""The share of unseen rows that do not count for the weights: those with the largest errors of an expert. No expert can
know a few rows that are far from all others, and these few rows would decide the weights."""


class Weighing:
    """The experts of a training in folds: the closed forms are fitted here, and unseen rows weigh all of them.

    Args:
        unseen: the rows that weigh the experts.
        completions: the training rows as features, (M, N, width); see `folds.FoldTrainer`.
        seen: for each fold all completions of the rows that its network has learnt, (M·n, width); the closed forms that
            are judged on the other rows are fitted to these.
        config: of the run.
        layout: of the features.

    """

    def __init__(
        self,
        unseen: UnseenRows,
        completions: Tensor,
        seen: list[Tensor],
        *,
        config: DiffusionConfig,
        layout: FeatureLayout,
    ) -> None:
        c, seed = config.folds, config.seed
        self._unseen, self._config, self._layout = unseen, config, layout
        # An expert that is left out is fitted all the same, but with one Gaussian, which costs little.
        sizes = COMPONENT_NUMBERS if c.mixture else (1,)
        of_feature = SIZES if c.independent else (1,)

        def continuous(rows: Tensor) -> FloatArray:
            return dequantised(rows.double().numpy(), layout.discrete, seed=seed)

        z = completions.double().numpy()
        self._mixture = fit_to_completions(z, layout.discrete, sizes=sizes, seed=seed)
        marginals = FittedMarginals.fit(completions[0], layout, sizes=of_feature, seed=seed)
        self._marginals = marginals.refit(completions.flatten(0, 1)) if len(completions) > 1 else marginals
        self._used = [e for e, is_there in enumerate((True, c.mixture, c.independent)) if is_there]
        self._prior = PRIOR / completions.shape[1]
        some = [seeding.subsample(rows, MOST_MIXTURE_ROWS, seed=seed, role="rows of a fold's mixture") for rows in seen]
        self._mixtures = [self._mixture.refit(continuous(rows)).denoiser(unseen.schedule) for rows in some]
        self._independent = [self._marginals.refit(rows).denoiser(unseen.schedule) for rows in seen]
        self._plain = self._closed_forms()

    def _closed_forms(self, given: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Give the answers of the mixture and of independent features, (L, F·m, width), and r, (L, F·m, K)."""
        of_mixture, r = self._unseen.answers_of(self._mixtures, given)
        return of_mixture, self._unseen.answers_of(self._independent, given)[0], r

    def weights_of_networks(self, net: Tensor) -> Tensor:
        """Give what the networks count at each level, (L,), with weights that are the same for all rows and features.

        Args:
            net: the answers of the networks, (L, F·m, width).

        """
        of_mixture, of_independent, _ = self._plain
        answers = torch.stack([net, of_mixture, of_independent])[self._used]
        a = errors_of(answers, self._unseen.points, self._unseen.scale, set_aside=SET_ASIDE)
        return common_weights(a)[:, 0]

    def finish(self, stacked: StackedDenoiser, best: BestCheckpoints) -> dict[str, Any]:
        """Give the denoiser of trained networks its experts in closed form, and all experts their weights.

        Args:
            stacked: has the trained networks; its closed forms and its weights are set.
            best: the checkpoints of the networks.

        Returns:
            What is to be said of the experts: the loss of each expert on unseen rows and of all experts together, what
            all experts gain over the mixture, whether the mixture or independent columns alone are as good, and how
            much each expert counts. The weights that are judged on one half of the folds were fitted to the other half.
            But the checkpoints of the networks were chosen on the rows that judge them.

        """
        stacked.mixture = self._mixture.denoiser(stacked.schedule)
        stacked.independent = self._marginals.denoiser(stacked.schedule)
        of_mixture, of_independent, r = self._plain
        answers = torch.stack([best.answers(), of_mixture, of_independent])
        W, V = self._weights(answers, r)
        weights = [(W, V), *self._weights_by_given(best)]
        stacked.gate_weights, stacked.feature_weights = map(torch.stack, zip(*weights, strict=True))
        usage = mean_weights(r @ W.float(), V.float().unsqueeze(1)).mean((0, 1)).tolist()
        return {**self._judgement(answers, self._crossed(answers, r)), "expert_usage": usage}

    def _weights(self, answers: Tensor, r: Tensor, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Fit W and V to some of the unseen rows; the answers are those of all experts, (E, L, F·m, width)."""
        unseen, layout, used, levels = self._unseen, self._layout, self._used, self._config.folds.levels
        a = errors_of(answers[used][:, :, rows], unseen.points[:, rows], unseen.scale, set_aside=SET_ASIDE)
        r = r[:, rows]
        W = torch.zeros(levels, r.shape[-1], len(answers), dtype=torch.float64)
        V = torch.zeros(levels, layout.width, 1 + len(answers), dtype=torch.float64)
        W[..., used] = weights_by_component(a, r, prior=self._prior)
        by_unit = weights_by_unit(a, r.double() @ W[..., used], layout.units, prior=self._prior)
        V[..., [0, *(1 + e for e in used)]] = by_unit
        return W, V

    def _weights_by_given(self, best: BestCheckpoints) -> Iterator[tuple[Tensor, Tensor]]:
        """Fit W and V for each slice of the share of given features, if the networks have learnt given features."""
        for k in range(SLICES if self._config.objective.conditional and len(self._used) > 1 else 0):
            least, most = k / SLICES, (k + 1) / SLICES
            given = self._unseen.choose_given(self._layout.units, least=least, most=most, seed=self._config.seed)
            of_mixture, of_independent, r = self._closed_forms(given)
            yield self._weights(torch.stack([best.answers(given), of_mixture, of_independent]), r)

    def _crossed(self, answers: Tensor, r: Tensor) -> Tensor:
        """Weigh the answers, (L, F·m, width); half of the folds has weights that were fitted to the other half."""
        rows, folds = answers.shape[2], self._config.folds.number
        first, second = slice(rows // folds * (folds // 2)), slice(rows // folds * (folds // 2), rows)
        parts = []
        for part, others in ((first, second), (second, first)):
            W, V = (each.float() for each in self._weights(answers, r, others))
            parts.append(weighted(answers[:, :, part].movedim(0, -1), r[:, part] @ W, V.unsqueeze(1)))
        return torch.cat(parts, dim=1)

    def _judgement(self, answers: Tensor, combined: Tensor) -> dict[str, Any]:
        """Say how good the answers of each expert, (E, L, F·m, width), and all combined, (L, F·m, width), are."""
        unseen, c, layout = self._unseen, self._config.folds, self._layout
        simpler = None
        if c.mixture and _as_good(*unseen.gain(answers[1], combined)):
            simpler = f"On unseen rows {_named(self._mixture)} is as good here: --model mixture."
        elif c.independent and len(set(layout.units)) > 1 and _as_good(*unseen.gain(answers[2], combined)):
            simpler = "On unseen rows independent columns are as good here."
        losses = [float(unseen.losses(each).mean()) if e in self._used else None for e, each in enumerate(answers)]
        return {
            "unseen_loss": float(unseen.losses(combined).mean()),
            "unseen_loss_of": dict(zip(("network", "mixture", "independent"), losses, strict=True)),
            "components": self._mixture.components if c.mixture else 0,
            "gain_over_mixture": _gain(unseen, answers[1], combined, layout) if c.mixture else None,
            "simpler": simpler,
        }


def _gain(unseen: UnseenRows, of_mixture: Tensor, combined: Tensor, layout: FeatureLayout) -> dict[str, Any] | None:
    """Say how much all experts gain over the mixture; None where every feature belongs to a category.

    The features of categories do not count, because a Gaussian mixture is a density of numbers and not of categories.
    """
    numbers = torch.zeros(layout.width, dtype=torch.bool)
    numbers[layout.numbers] = True
    if not numbers.any():
        return None
    bits, error = unseen.gain(of_mixture, combined, numbers)
    unit = "bits a row" if numbers.all() else "bits a row, without categories"
    return {"value": bits, "standard_error": error, "unit": unit}


def _as_good(gain: float, error: float) -> bool:
    """Say whether all experts together gain little, or not clearly, over one of them; see `UnseenRows.gain`."""
    return gain <= max(CLEAR * error, WORTH) and error <= UNSURE


def _named(mixture: FittedMixture) -> str:
    """Name a mixture in a sentence."""
    k = mixture.components
    gaussians = "one Gaussian" if k == 1 else f"a mixture of {k} Gaussians"
    return f"{gaussians} with heavier tails" if isinstance(mixture, ScaleMixture) else gaussians
