"""The rows that the network of a fold does not learn, and how well it denoises them at each noise level.

These rows are called unseen here, because they are training rows: the other networks learn them. The rows of a table
that no network learns are the held-out rows.
"""

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
from .gaps import rows_by_pattern

__all__ = ["UnseenRows", "known_rows"]

NOISY_ROWS = 1_500
"""If a fold has fewer unseen rows, each row is used several times, each time with other noise, up to so many in all."""
LEAST_KNOWN = 20
"""If fewer unseen rows than this have only known values, all unseen rows are used."""
PATTERNS = 8
"""The number of different sets of given features that the rows of a fold have."""


def known_rows(rows: Tensor, seen: Tensor, discrete: Sequence[DiscreteSpan]) -> Tensor:
    """Give the unseen rows without those that have a value which no seen row has, such as a rare category, (n, width).

    No network can know such a value. At small noise the error of this value would hide all that the network learns. If
    fewer than `LEAST_KNOWN` rows would be left, all rows are given.

    Args:
        rows: the unseen rows of a fold, (m, width).
        seen: the rows that its network learns, (n, width).
        discrete: the features with few values.

    """
    known = np.ones(len(rows), dtype=bool)
    for span in discrete:
        values = torch.cat([seen[:, span.features], rows[:, span.features]]).numpy()
        number = np.unique(values, axis=0, return_inverse=True)[1].reshape(-1)
        known &= np.isin(number[len(seen) :], number[: len(seen)])
    return rows[torch.from_numpy(known)] if known.sum() >= LEAST_KNOWN else rows


class UnseenRows:
    """The unseen rows of every fold, with the same noise at every checkpoint; all tensors are on the CPU.

    Args:
        denoiser: the denoiser of all folds, whose network takes rows ordered by fold, on any device.
        parts: for each fold the rows that its network does not learn, in the order of the file. Equally many of each
            fold are judged. Of a fold that has two rows more or still more, they are drawn, since a file may be sorted;
            of one that has a single row more, the last row is left out.
        levels: L, the number of noise levels, at the middles of equal slices of the time axis.
        seed: of the noise and of the drawn rows.

    Attributes:
        folds: F.
        schedule: of the denoiser, on the CPU.
        times: the times of the levels, (L,), float64.
        points: the clean rows, (L, F·m, width).
        scale: the unit of errors at each level, c_out of the prediction, (L,).
        bits: by how much the divergence falls if the squared error at a level falls by one, in bits a row, (L,); the
            divergence is ½ ∫ (squared error) SNR d log SNR up to a constant, see `diffusion.stacking`.
        distinct: the number of different rows of a fold; each of them may be there several times.

    """

    def __init__(self, denoiser: NetworkDenoiser, parts: Sequence[Tensor], *, levels: int, seed: int) -> None:
        self.denoiser, self.folds = denoiser, len(parts)
        self.schedule = schedule = copy.deepcopy(denoiser.schedule).cpu()
        self.distinct = m = min(map(len, parts))
        judged = [
            part[:m] if len(part) <= m + 1 else seeding.subsample(part, m, seed=seed, role=f"judged rows of fold {k}")
            for k, part in enumerate(parts)
        ]
        rows = torch.cat([part.repeat(max(1, NOISY_ROWS // m), 1) for part in judged])
        u = (torch.arange(levels, dtype=torch.float64) + 0.5) / levels
        self.times = schedule.t_min + u * (schedule.t_max - schedule.t_min)
        alpha, sigma = (c.float() for c in schedule(self.times))
        self.scale = denoiser.coefficients(alpha, sigma)[1].abs()
        snr = (alpha / sigma).square()
        self.bits = snr * torch.gradient(snr.log())[0].abs() / (2 * math.log(2))
        noise = torch.randn(levels, *rows.shape, generator=seeding.torch_stream(seed, "held-out loss"))
        self.points = rows.expand(levels, -1, -1)
        self._noisy = schedule.add_noise(self.points, noise, self.times)

    def choose_given(self, units: Sequence[int], *, least: float, most: float, seed: int) -> Tensor:
        """Choose the features that are given, (F·m, width) bool.

        Many rows have the same given features, because rows with the same ones share the matrices of the conditioning.

        Args:
            units: for each feature the number of its unit; see `data.FeatureLayout`.
            least, most: the share of units that is given, on average.
            seed: of the choice.

        """
        rng = seeding.torch_stream(seed, f"given features of unseen rows, from {least:.2f}")
        patterns = self.folds * PATTERNS
        share = least + (most - least) * torch.rand(patterns, 1, generator=rng)
        chosen = torch.rand(patterns, max(units) + 1, generator=rng) < share
        # The rows of a fold are in the order of the file, which may be sorted.
        m = self.points.shape[1] // self.folds
        number = [fold * PATTERNS + torch.randperm(m, generator=rng) * PATTERNS // m for fold in range(self.folds)]
        return chosen[:, torch.tensor(units)][torch.cat(number)]

    @torch.no_grad()
    def answers(self, given: Tensor | None = None, *, levels: slice = slice(None)) -> Tensor:
        """Ask the folds' denoiser about the noisy rows.

        Args:
            given: which features are given, (F·m, width) bool; None where none is.
            levels: the noise levels to ask about.

        Returns:
            The denoised rows, (levels, F·m, width).

        """
        answers, device = [], self.denoiser.schedule.device
        shown = None if given is None else given.to(device)
        for x_t, t in zip(self._noisy[levels], self.times[levels], strict=True):
            seen = x_t if given is None else torch.where(given, self.points[0], x_t)
            answers.append(self.denoiser(seen.to(device), t.to(device).expand(len(seen)), shown))
        return torch.stack(answers).cpu()

    @torch.no_grad()
    def answers_of(self, denoisers: Sequence[ClosedFormDenoiser], given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Ask a closed-form denoiser of each fold about the noisy rows of its fold.

        Args:
            denoisers: for each fold its denoiser.
            given: which features are given, (F·m, width) bool; None where none is.

        Returns:
            The denoised rows, (L, F·m, width), and r, the probabilities of the components, (L, F·m, K).

        """
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
        for places in rows_by_pattern((~given[rows]).numpy()):
            part = rows[torch.from_numpy(places)]
            yield part, denoiser.conditioned(self.points[0, part], given[part[0]])

    def gain(self, answers: Tensor, better: Tensor, features: Tensor | slice = slice(None)) -> tuple[float, float]:
        """Give how many bits a row the second answers gain over the first ones, and the standard error of this gain.

        Args:
            answers: the first answers, (L, F·m, width).
            better: the second answers, (L, F·m, width).
            features: which features count, (width,) bool; all features if nothing is said.

        """
        first, second = ((each - self.points)[..., features].square().sum(-1) for each in (answers, better))
        bits = (self.bits.unsqueeze(1) * (first - second)).sum(0)
        # A row that is there several times, each time with other noise, counts as one row.
        by_row = bits.reshape(self.folds, -1, self.distinct).mean(1).flatten()
        return float(by_row.mean()), float(by_row.std() / len(by_row) ** 0.5)

    def losses(self, answers: Tensor) -> Tensor:
        """Give the mean squared error of the prediction at each level for each fold, (L, F)."""
        errors = ((answers - self.points) / self.scale.reshape(-1, 1, 1)).square().mean(-1)
        return errors.reshape(len(errors), self.folds, -1).mean(-1)
