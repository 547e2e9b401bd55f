"""A kernel density: a Gaussian about every training row, whose width cross-validation chooses.

p(z) = (1/n) Σ_i Π_j N(z_j; z_ij, w_j²) over the features (Silverman 1986, "Density Estimation", §4.2). The width w_j is
the bandwidth h, except for features with few values, such as those of a category. Their kernel is so narrow that a row
keeps its category: a width of such features that the likelihood chooses shrinks to zero, and would take h with it. The
bandwidth h has the greatest likelihood on folds that it was not fitted to (§3.4.4). This model keeps the training rows:
whoever must not pass these on must not pass the model on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neighbors import KernelDensity as Fitted

from .. import seeding
from ..config.schema import KernelDensityConfig
from ..data import FeatureLayout, FloatArray, TableEncoding
from ..store.run import Run
from ..training.mixture import DEQUANTISING_NOISE
from ..training.session import Callbacks, begin_in_run
from .base import Drawing, DrawingOptions, draw_blocks
from .density import DensityModel
from .trainable import Kept, Plan

__all__ = ["KernelDensity"]

BANDWIDTHS = np.geomspace(0.01, 1.0, 20)
"""The candidates for h, in standard deviations of a feature."""
RELATIVE_ERROR = 1e-8
"""How far a density may be off, relatively. Without this, far training rows cannot be left out, which takes minutes."""
MOST_ROWS = 5_000
"""Cross-validation uses at most so many rows; the bandwidth is then scaled to all of them by Scott's rule."""


@dataclass(frozen=True)
class KernelDensity(DensityModel[KernelDensityConfig]):
    """A Gaussian kernel about every training row.

    Attributes:
        config: of the run.
        encoding: between columns and features.
        bandwidth: h.
        rows: the training rows as features, (n, width).

    """

    kind = "kernel-density"

    config: KernelDensityConfig
    encoding: TableEncoding
    bandwidth: float
    rows: FloatArray = field(repr=False)

    @classmethod
    def fit(
        cls, plan: Plan[KernelDensityConfig], run: Run, *, device: torch.device, callbacks: Callbacks = Callbacks()
    ) -> tuple[Self, dict[str, Any]]:
        """Choose the bandwidth; see `TrainableModel.fit`."""
        config, z = plan.config, plan.features
        begin_in_run(run, callbacks, "a kernel density, whose bandwidth cross-validation chooses")
        h = config.model.bandwidth or _cross_validated(
            z, plan.encoding.layout, folds=config.model.folds, seed=config.seed
        )
        model = cls(config, plan.encoding, h, z)
        bits = model.held_out_bits(plan.held_out)
        return model, {"steps": None, "parameters": 1, "bandwidth": h, "keeps_training_rows": True, **bits}

    def draw(self, n: int, *, seed: int, options: DrawingOptions = DrawingOptions()) -> Drawing:
        """Draw n rows; see `Model.draw`."""
        options.refuse(f"the model {self.config.model.name}, which draws rows without steps")

        def block(rows: int, rng: np.random.Generator) -> FloatArray:
            noise = self.widths * rng.standard_normal((rows, self.rows.shape[1]))
            features: FloatArray = self.rows[rng.integers(len(self.rows), size=rows)] + noise
            return features

        return Drawing(draw_blocks(self.encoding.decode, block, n, seed=seed))

    def log_density_of_features(self, z: FloatArray) -> FloatArray:
        """Give the log of the kernel density; see `DensityModel.log_density_of_features`."""
        log_p: FloatArray = self._fitted.score_samples(z / self.widths) - np.log(self.widths).sum()
        return log_p

    @cached_property
    def widths(self) -> FloatArray:
        """Give w, the width of the kernel in each feature, (width,)."""
        return _widths(self.bandwidth, self.encoding.layout)

    @cached_property
    def _fitted(self) -> Fitted:
        """Fit scikit-learn's kernel density, which has one width, to the rows in units of the widths."""
        return Fitted(bandwidth=1.0, rtol=RELATIVE_ERROR).fit(self.rows / self.widths)

    def _kept(self) -> Kept:
        """Give the training rows and the bandwidth; see `TrainableModel._kept`."""
        facts = {"bandwidth": self.bandwidth, "encoding": self.encoding.model_dump(mode="json")}
        return Kept({"rows": torch.from_numpy(self.rows)}, facts)

    @classmethod
    def _restored(cls, config: KernelDensityConfig, encoding: TableEncoding, kept: Kept) -> Self:
        """Check the rows and the bandwidth; see `TrainableModel._restored`."""
        z, bandwidth = kept.tensors["rows"].double().numpy(), kept.facts["bandwidth"]
        if not (isinstance(bandwidth, float) and bandwidth > 0 and z.shape[1] == encoding.width):
            raise ValueError("rows and bandwidth do not suit the encoding")
        return cls(config, encoding, bandwidth, z)


def _widths(h: float, layout: FeatureLayout) -> FloatArray:
    """Give the width of the kernel in each feature: h, or for features with few values the noise of `dequantised`."""
    widths = np.full(layout.width, h)
    for span in layout.discrete:
        widths[span.features] = DEQUANTISING_NOISE * span.scale
    return widths


def _cross_validated(z: FloatArray, layout: FeatureLayout, *, folds: int, seed: int) -> float:
    """Give the bandwidth h with the greatest held-out likelihood, scaled to n rows by n^(−1/(d + 4)) (Scott 1992).

    Here d is the number of features that are numbers: for the others h does not matter.
    """
    some = seeding.shuffled(z, MOST_ROWS, seeding.stream(seed, "rows of the bandwidth"))
    parts = KFold(folds, shuffle=True, random_state=seeding.integer(seed, "folds of the bandwidth"))

    def log_likelihood(h: float) -> float:
        widths = _widths(h, layout)
        of_parts = cross_val_score(Fitted(bandwidth=1.0, rtol=RELATIVE_ERROR), some / widths, cv=parts)
        return float(of_parts.sum() - len(some) * np.log(widths).sum())

    best = max(BANDWIDTHS, key=log_likelihood)
    learnt_from = len(some) * (folds - 1) / folds
    d = len(layout.numbers)
    return float(best * (learnt_from / len(z)) ** (1 / (d + 4)))
