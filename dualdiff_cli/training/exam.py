"""The exam of the folds: how well each denoises the rows that it has not seen, at each noise level."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import seeding
from ..diffusion.denoisers import Denoiser
from ..diffusion.mixtures import FullMixtureDenoiser
from ..diffusion.network_denoiser import NetworkDenoiser

__all__ = ["Exam"]

JUDGED = 1_500
"""The number of noisy rows on which a fold is judged at each noise level."""


class Exam:
    """The unseen rows of every fold, with the same noise at every checkpoint.

    Args:
        denoiser: whose network takes rows ordered by fold.
        unseen: for each fold the rows that it has not seen.
        levels: L, the number of noise levels, at the middles of equal slices of the time axis.
        seed: of the noise.

    Attributes:
        points: the clean rows, (L, F·m, width).
        scale: the size of an error at each level that counts one, c_out of the prediction, (L,).
        distinct: the number of different rows in a fold; each may occur several times.

    """

    def __init__(self, denoiser: NetworkDenoiser, unseen: list[Tensor], *, levels: int, seed: int) -> None:
        self.denoiser, self.folds = denoiser, len(unseen)
        schedule = denoiser.schedule
        m = min(map(len, unseen))
        repeats = max(1, JUDGED // m)
        self.distinct = m
        rows = torch.cat([part[:m].repeat(repeats, 1)[: max(m, JUDGED)] for part in unseen])
        u = (torch.arange(levels, dtype=torch.float64) + 0.5) / levels
        self.times = schedule.t_min + u * (schedule.t_max - schedule.t_min)
        alpha, sigma = (c.float() for c in schedule(self.times))
        self.scale = denoiser.coefficients(alpha, sigma)[1].abs()
        self._snr = (alpha / sigma).square()
        noise = torch.randn(levels, *rows.shape, generator=seeding.torch_stream(seed, "held-out loss"))
        self.points = rows.expand(levels, -1, -1)
        self._noisy = alpha.reshape(-1, 1, 1) * rows + sigma.reshape(-1, 1, 1) * noise

    @torch.no_grad()
    def answers(self, denoiser: Denoiser) -> Tensor:
        """Ask a denoiser at all levels, (L, F·m, width)."""
        return torch.stack([denoiser(x, t.expand(len(x))) for x, t in zip(self._noisy, self.times, strict=True)])

    @torch.no_grad()
    def answers_of(self, denoisers: list[FullMixtureDenoiser]) -> Tensor:
        """Ask each fold's denoiser about the rows of that fold, (L, F·m, width)."""
        asked = self._noisy.reshape(len(self.times), self.folds, -1, self._noisy.shape[-1])
        answers = [
            torch.stack([each(x, t) for x, t in zip(asked[:, f], self.times, strict=True)])
            for f, each in enumerate(denoisers)
        ]
        return torch.cat(answers, dim=1)

    def gain(self, answers: Tensor, better: Tensor) -> tuple[float, float]:
        """Give by how many bits a row the second answers are nearer to the distribution, and the standard error.

        The divergence falls by ½ ∫ (difference of the mean squared errors) SNR d log SNR; see `diffusion.stacking`.
        """
        first, second = ((each - self.points).square().sum(-1) for each in (answers, better))
        slices = torch.gradient(self._snr.log())[0].abs()
        bits = ((self._snr * slices).unsqueeze(1) * (first - second)).sum(0) / (2 * math.log(2))
        # A row that was judged several times, with several noises, counts once.
        by_fold = bits.reshape(self.folds, -1)
        whole = by_fold[:, : by_fold.shape[1] // self.distinct * self.distinct]
        by_row = whole.reshape(self.folds, -1, self.distinct).mean(1).flatten()
        return float(by_row.mean()), float(by_row.std() / len(by_row) ** 0.5)

    def losses(self, answers: Tensor) -> Tensor:
        """Give the mean squared error of the prediction at each level for each fold, (L, F)."""
        errors = ((answers - self.points) / self.scale.reshape(-1, 1, 1)).square().mean(-1)
        return errors.reshape(len(errors), self.folds, -1).mean(-1)
