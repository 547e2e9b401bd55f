"""A kernel density: a Gaussian about every training row, whose width cross-validation chooses.

p(z) = (1/n) Σ_i N(z; z_i, h² I) over the features (Silverman 1986, "Density Estimation", §4.2). The bandwidth h has the
greatest likelihood on folds that it was not fitted to (§3.4.4). This model keeps the training rows: whoever must not
pass these on must not pass the model on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KernelDensity as Fitted

from .. import seeding
from ..config.schema import KernelDensityConfig
from ..data import FloatArray, TableEncoding
from ..store.run import Run
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
        fitted: scikit-learn's kernel density, with the training rows.
        rows: the training rows as features, (n, width).

    """

    kind = "kernel-density"

    config: KernelDensityConfig
    encoding: TableEncoding
    fitted: Fitted = field(repr=False)
    rows: FloatArray = field(repr=False)

    @classmethod
    def fit(
        cls, plan: Plan[KernelDensityConfig], run: Run, *, device: torch.device, callbacks: Callbacks = Callbacks()
    ) -> tuple[Self, dict[str, Any]]:
        """Choose the bandwidth; see `TrainableModel.fit`."""
        config, z = plan.config, plan.features
        begin_in_run(run, callbacks, "a kernel density, whose bandwidth cross-validation chooses")
        h = config.model.bandwidth or _cross_validated(z, folds=config.model.folds, seed=config.seed)
        model = cls(config, plan.encoding, Fitted(bandwidth=h, rtol=RELATIVE_ERROR).fit(z), z)
        bits = model.held_out_bits(plan.held_out)
        return model, {"steps": None, "parameters": 1, "bandwidth": h, "keeps_training_rows": True, **bits}

    def draw(self, n: int, *, seed: int, options: DrawingOptions = DrawingOptions()) -> Drawing:
        """Draw n rows; see `Model.draw`."""
        options.refuse(f"the model {self.config.model.name}, which draws rows without steps")

        def block(rows: int, rng: np.random.Generator) -> FloatArray:
            noise = self.fitted.bandwidth * rng.standard_normal((rows, self.rows.shape[1]))
            features: FloatArray = self.rows[rng.integers(len(self.rows), size=rows)] + noise
            return features

        return Drawing(draw_blocks(self.encoding.decode, block, n, seed=seed))

    def log_density_of_features(self, z: FloatArray) -> FloatArray:
        """Give the log of the kernel density; see `DensityModel.log_density_of_features`."""
        log_p: FloatArray = self.fitted.score_samples(z)
        return log_p

    def _kept(self) -> Kept:
        """Give the training rows and the bandwidth; see `TrainableModel._kept`."""
        facts = {"bandwidth": self.fitted.bandwidth, "encoding": self.encoding.model_dump(mode="json")}
        return Kept({"rows": torch.from_numpy(self.rows)}, facts)

    @classmethod
    def _restored(cls, config: KernelDensityConfig, encoding: TableEncoding, kept: Kept) -> Self:
        """Fit the kernels to the kept rows; see `TrainableModel._restored`."""
        z, bandwidth = kept.tensors["rows"].double().numpy(), kept.facts["bandwidth"]
        if not (isinstance(bandwidth, float) and bandwidth > 0 and z.shape[1] == encoding.width):
            raise ValueError("rows and bandwidth do not suit the encoding")
        return cls(config, encoding, Fitted(bandwidth=bandwidth, rtol=RELATIVE_ERROR).fit(z), z)


def _cross_validated(z: FloatArray, *, folds: int, seed: int) -> float:
    """Give the bandwidth with the greatest held-out likelihood, scaled to n rows by n^(−1/(d + 4)) (Scott 1992)."""
    some = seeding.shuffled(z, MOST_ROWS, seeding.stream(seed, "rows of the bandwidth"))
    parts = KFold(folds, shuffle=True, random_state=seeding.integer(seed, "folds of the bandwidth"))
    search = GridSearchCV(Fitted(rtol=RELATIVE_ERROR), {"bandwidth": BANDWIDTHS}, cv=parts).fit(some)
    learnt_from = len(some) * (folds - 1) / folds
    return float(search.best_params_["bandwidth"] * (learnt_from / len(z)) ** (1 / (z.shape[1] + 4)))
