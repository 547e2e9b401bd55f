"""The density of each feature by itself, fitted to the training rows: an expert that leaves every dependence out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from .. import seeding
from ..data import FeatureLayout, FloatArray
from ..diffusion.discrete import DiscreteMeans
from ..diffusion.independent import IndependentDenoiser, Marginal
from ..diffusion.schedules import Schedule
from .gaussians import FittedMixture
from .mixture import fit_mixture

__all__ = ["SIZES", "FittedMarginals"]

SIZES = (1, 2, 3, 4, 6, 8, 10, 15)
"""The numbers of Gaussians that are tried for a feature."""
MOST_ROWS = 5_000
"""A density is fitted to at most so many rows; more would hardly change it."""


@dataclass(frozen=True)
class FittedMarginals:
    """A mixture of Gaussians for each feature, except for the features with few values.

    Attributes:
        mixtures: by the number of the feature.
        layout: of the features.
        seed: of the starting points, and of the choice of rows where there are very many.

    """

    mixtures: Mapping[int, FittedMixture]
    layout: FeatureLayout
    seed: int

    @classmethod
    def fit(cls, points: Tensor, layout: FeatureLayout, *, sizes: tuple[int, ...] = SIZES, seed: int) -> Self:
        """Fit a mixture to each feature of rows (N, width), with the number of Gaussians that suits the feature."""
        rows = _some(points, seed)
        mixtures = {i: fit_mixture(rows[:, [i]], sizes=sizes, forms=("full",), seed=seed) for i in layout.numbers}
        return cls(mixtures, layout, seed)

    def refit(self, points: Tensor) -> Self:
        """Fit mixtures of the same sizes to some of the rows; see `FittedMixture.refit`."""
        rows = _some(points, self.seed)
        mixtures = {i: mixture.refit(rows[:, [i]]) for i, mixture in self.mixtures.items()}
        return type(self)(mixtures, self.layout, self.seed)

    def denoiser(self, schedule: Schedule) -> IndependentDenoiser:
        """Make the denoiser of these densities."""
        unknown = Marginal(*(torch.full((1,), value, dtype=torch.float64) for value in (1.0, 0.0, 1.0)))
        known = {
            i: Marginal(*(torch.from_numpy(part.reshape(-1)) for part in mixture.gaussians))
            for i, mixture in self.mixtures.items()
        }
        means = DiscreteMeans(self.layout.discrete) if self.layout.discrete else None
        return IndependentDenoiser.of([known.get(i, unknown) for i in range(self.layout.width)], schedule, means)


def _some(points: Tensor, seed: int) -> FloatArray:
    """Give all rows, or `MOST_ROWS` of them, (n, width)."""
    rows: FloatArray = points.double().numpy()
    return seeding.subsample(rows, MOST_ROWS, seed=seed, role="rows of the densities of features")
