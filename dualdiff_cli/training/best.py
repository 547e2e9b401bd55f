"""The checkpoint of each fold that denoises unseen rows best, in each band of noise levels."""

from __future__ import annotations

import torch
from torch import Tensor

from ..compute.optimiser import FlatParameters
from .unseen import UnseenRows

__all__ = ["BestCheckpoints"]


class BestCheckpoints:
    """For each band and each fold the averaged weights that have denoised unseen rows best until now.

    Args:
        unseen: the rows; its denoiser computes with the averaged weights.
        averages: the averaged weights of all folds.
        bands: B, the number of bands; each has equally many levels.

    Attributes:
        losses: the least losses, (B, F); infinite before the first checkpoint.
        weights: the weights that had the least losses, (B, P); each band has P weights, those of all folds.

    """

    def __init__(self, unseen: UnseenRows, averages: FlatParameters, *, bands: int) -> None:
        self._unseen, self._averages = unseen, averages
        self.losses = torch.full((bands, unseen.folds), torch.inf)
        self.weights = averages.vector.repeat(bands, 1)
        self._answers: Tensor | None = None

    def judge(self) -> Tensor:
        """Judge the averaged weights on unseen rows, and keep them wherever no earlier ones were better.

        Returns:
            Their losses, (B, F).

        """
        answers = self._unseen.answers()
        losses = self._unseen.losses(answers).reshape(len(self.losses), -1, self._unseen.folds).mean(1)
        better = losses < self.losses
        self.losses = torch.where(better, losses, self.losses)
        if not better.all():
            levels, rows = len(answers) // len(better), answers.shape[1] // self._unseen.folds
            of_rows = better.repeat_interleave(levels, 0).repeat_interleave(rows, 1)
            answers = torch.where(of_rows.unsqueeze(-1), answers, self.answers())
        self._answers = answers
        chosen, now = better.to(self.weights.device), self._averages.unpack(self._averages.vector)
        for of_band, kept in zip(chosen, self.weights, strict=True):
            for name, view in self._averages.unpack(kept).items():
                view[of_band] = now[name][of_band]
        return losses

    def answers(self, given: Tensor | None = None) -> Tensor:
        """Ask the network about unseen rows, in each band with the best weights; see `UnseenRows.answers`.

        The answers without given features are remembered.
        """
        if given is None and self._answers is not None:
            return self._answers
        now, levels = self._averages.vector.clone(), len(self._unseen.times) // len(self.weights)
        parts = []
        try:
            for band, kept in enumerate(self.weights):
                self._averages.vector.copy_(kept)
                parts.append(self._unseen.answers(given, levels=slice(band * levels, (band + 1) * levels)))
        finally:
            self._averages.vector.copy_(now)
        answers = torch.cat(parts)
        if given is None:
            self._answers = answers
        return answers

    def merged(self) -> dict[str, Tensor]:
        """Give the best weights as those of one `FoldedMLP` with B bands, by the parameters' names."""
        by_band = [self._averages.unpack(kept) for kept in self.weights]
        return {name: torch.cat([own[name] for own in by_band]) for name in by_band[0]}

    def load(self, losses: Tensor, weights: Tensor) -> None:
        """Continue from the losses and the weights of an earlier training.

        Raises:
            ValueError: they are of another number of bands, folds or weights.

        """
        for own, kept in ((self.losses, losses), (self.weights, weights)):
            if own.shape != kept.shape:
                raise ValueError("another number of bands, folds or weights")
            own.copy_(kept)
        self._answers = None
