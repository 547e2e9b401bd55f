"""The exam of the folds: how well each denoises the rows that it has not seen, at each noise level."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from .. import seeding
from ..data import DiscreteSpan
from ..diffusion.mixtures import ClosedFormDenoiser
from ..diffusion.network_denoiser import NetworkDenoiser
from .gaps import together

__all__ = ["Exam", "known_rows"]

JUDGED = 1_500
"""Fewer unseen rows are judged as often, each time with other noise, as makes up to so many noisy rows of a fold."""
LEAST_JUDGED = 20
"""A fold is judged on at least so many unseen rows, if it has them."""
PATTERNS = 8
"""The number of choices of given features with which a fold is judged at once."""


def known_rows(rows: Tensor, seen: Tensor, discrete: Sequence[DiscreteSpan]) -> Tensor:
    """Leave rows out that have a value which no seen row has, such as a rare category, (n, width).

    No network can know such a value. At small noise its error would hide all that the network learns. Where too few
    rows are left, all rows are given.
    """
    known = np.ones(len(rows), dtype=bool)
    for span in discrete:
        part = slice(span.start, span.start + span.width)
        values = torch.cat([seen[:, part], rows[:, part]]).numpy()
        number = np.unique(values, axis=0, return_inverse=True)[1].reshape(-1)
        known &= np.isin(number[len(seen) :], number[: len(seen)])
    return rows[torch.from_numpy(known)] if known.sum() >= LEAST_JUDGED else rows


class Exam:
    """The unseen rows of every fold, with the same noise at every checkpoint; all tensors are on the CPU.

    Args:
        denoiser: whose network takes rows ordered by fold, on any device.
        unseen: for each fold the rows that it has not seen, in the order of the file. Equally many of each fold are
            judged. Of a fold that has two rows more or still more, they are drawn, since a file may be sorted; of one
            that has a single row more, the last row is left out.
        levels: L, the number of noise levels, at the middles of equal slices of the time axis.
        seed: of the noise and of the drawn rows.

    Attributes:
        points: the clean rows, (L, F·m, width).
        scale: the size of an error at each level that counts one, c_out of the prediction, (L,).
        bits: by how much the divergence falls if the squared error at a level falls by one, in bits a row, (L,); the
            divergence is ½ ∫ (squared error) SNR d log SNR up to a constant, see `diffusion.stacking`.
        distinct: the number of different rows in a fold; each may occur several times.

    """

    def __init__(self, denoiser: NetworkDenoiser, unseen: list[Tensor], *, levels: int, seed: int) -> None:
        self.denoiser, self.folds = denoiser, len(unseen)
        schedule = copy.deepcopy(denoiser.schedule).cpu()
        m = min(map(len, unseen))
        self.distinct = m
        drawn = [
            part[:m] if len(part) <= m + 1 else seeding.subsample(part, m, seed=seed, role=f"judged rows of fold {k}")
            for k, part in enumerate(unseen)
        ]
        rows = torch.cat([part.repeat(max(1, JUDGED // m), 1) for part in drawn])
        u = (torch.arange(levels, dtype=torch.float64) + 0.5) / levels
        self.times = schedule.t_min + u * (schedule.t_max - schedule.t_min)
        alpha, sigma = (c.float() for c in schedule(self.times))
        self.scale = denoiser.coefficients(alpha, sigma)[1].abs()
        snr = (alpha / sigma).square()
        self.bits = snr * torch.gradient(snr.log())[0].abs() / (2 * math.log(2))
        noise = torch.randn(levels, *rows.shape, generator=seeding.torch_stream(seed, "held-out loss"))
        self.points = rows.expand(levels, -1, -1)
        self._noisy = alpha.reshape(-1, 1, 1) * rows + sigma.reshape(-1, 1, 1) * noise

    def shown(self, units: Sequence[int], *, least: float, most: float, seed: int) -> Tensor:
        """Choose features that are given, (F·m, width) bool: the same ones for many rows, to save matrices.

        Args:
            units: for each feature the number of its unit; see `data.FeatureLayout`.
            least, most: the share of units that is given, on average.
            seed: of the choice.

        """
        rng = seeding.torch_stream(seed, f"given features of unseen rows, from {least:.2f}")
        patterns = self.folds * PATTERNS
        share = least + (most - least) * torch.rand(patterns, 1, generator=rng)
        chosen = torch.rand(patterns, max(units) + 1, generator=rng) < share
        rows = self.points.shape[1]
        return chosen[:, torch.tensor(units)][torch.arange(rows) * patterns // rows]

    @torch.no_grad()
    def answers(self, denoiser: NetworkDenoiser, given: Tensor | None = None, *, levels: slice = slice(None)) -> Tensor:
        """Ask a denoiser at levels, perhaps with given features, (levels, F·m, width)."""
        answers, place = [], denoiser.schedule.device
        shown = None if given is None else given.to(place)
        for x_t, t in zip(self._noisy[levels], self.times[levels], strict=True):
            seen = x_t if given is None else torch.where(given, self.points[0], x_t)
            answers.append(denoiser(seen.to(place), t.to(place).expand(len(seen)), shown))
        return torch.stack(answers).cpu()

    @torch.no_grad()
    def answers_of(self, denoisers: Sequence[ClosedFormDenoiser], given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Ask each fold's denoiser about the rows of that fold, (L, F·m, width), and for its r, (L, F·m, K)."""
        rows = torch.arange(self.points.shape[1]).reshape(self.folds, -1)
        answers = self.points.clone()  # what is given is known
        r = torch.zeros(*answers.shape[:2], denoisers[0].components)
        for each, own in zip(denoisers, rows, strict=True):
            for part, denoiser in [(own, each)] if given is None else self._conditioned(each, own, given):
                for level, t in enumerate(self.times):
                    answers[level, part], r[level, part] = denoiser.with_responsibilities(self._noisy[level, part], t)
        return answers, r

    def _conditioned(
        self, denoiser: ClosedFormDenoiser, rows: Tensor, given: Tensor
    ) -> Iterator[tuple[Tensor, ClosedFormDenoiser]]:
        """Condition a denoiser on the given features of its rows, in parts with the same given features."""
        for places in together((~given[rows]).numpy()):
            part = rows[torch.from_numpy(places)]
            yield part, denoiser.conditioned(self.points[0, part], given[part[0]])

    def gain(self, answers: Tensor, better: Tensor, features: Tensor | slice = slice(None)) -> tuple[float, float]:
        """Give by how many bits a row the second answers are nearer to the distribution, and the standard error.

        Features can be chosen that count, (width,) bool.
        """
        first, second = ((each - self.points)[..., features].square().sum(-1) for each in (answers, better))
        bits = (self.bits.unsqueeze(1) * (first - second)).sum(0)
        # A row that was judged several times, with several noises, counts once.
        by_row = bits.reshape(self.folds, -1, self.distinct).mean(1).flatten()
        return float(by_row.mean()), float(by_row.std() / len(by_row) ** 0.5)

    def losses(self, answers: Tensor) -> Tensor:
        """Give the mean squared error of the prediction at each level for each fold, (L, F)."""
        errors = ((answers - self.points) / self.scale.reshape(-1, 1, 1)).square().mean(-1)
        return errors.reshape(len(errors), self.folds, -1).mean(-1)
