"""A Gaussian mixture as a model of its own; see `training.mixture` for the fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import polars as pl
import torch

from .. import seeding
from ..config.schema import MixtureConfig
from ..data import Data, FloatArray, TableEncoding, given_cells
from ..errors import InputError
from ..store.run import Run
from ..training.gaps import draw_hidden
from ..training.gaussians import Gaussians
from ..training.mixture import (
    COMPONENT_NUMBERS,
    COVARIANCE_FORMS,
    MOST_MIXTURE_ROWS,
    fit_to_completions,
    full_covariances,
)
from ..training.session import Callbacks, begin_in_run
from .base import Drawing, DrawingOptions, draw_blocks
from .conditioning import decoding, fill_gaps
from .density import DensityModel
from .trainable import Kept, Plan

__all__ = ["Mixture"]


@dataclass(frozen=True)
class Mixture(DensityModel[MixtureConfig]):
    """A mixture of Gaussians over the features.

    Attributes:
        config: of the run.
        encoding: between columns and features.
        gaussians: the mixture as arrays.

    """

    kind = "mixture"

    config: MixtureConfig
    encoding: TableEncoding
    gaussians: Gaussians = field(repr=False)

    @classmethod
    def plan(
        cls, config: MixtureConfig, data: Data, *, device: torch.device, run: Run | None = None
    ) -> Plan[MixtureConfig]:
        """Prepare a fit, and check the number of Gaussians; see `TrainableModel.plan`."""
        most = min(data.train.height, MOST_MIXTURE_ROWS)
        if config.model.components and config.model.components > most:
            raise InputError(
                f"{config.model.components:,} Gaussians cannot be fitted to {most:,} rows.", "Lower model.components."
            )
        return super().plan(config, data, device=device, run=run)

    @classmethod
    def fit(
        cls, plan: Plan[MixtureConfig], run: Run, *, device: torch.device, callbacks: Callbacks = Callbacks()
    ) -> tuple[Self, dict[str, Any]]:
        """Fit the mixture; see `TrainableModel.fit`."""
        config = plan.config
        begin_in_run(run, callbacks, "a mixture of Gaussians, fitted by expectation maximisation")
        c = config.model
        sizes = (c.components,) if c.components else tuple(k for k in COMPONENT_NUMBERS if k <= c.largest)
        forms = (c.covariance,) if c.covariance else COVARIANCE_FORMS
        z, discrete = plan.completions, plan.encoding.layout.discrete
        fitted = fit_to_completions(z, discrete, sizes=sizes, forms=forms, seed=config.seed)
        model = cls(config, plan.encoding, fitted.gaussians)
        return model, {
            "steps": None,
            "parameters": fitted.parameters,
            "components": fitted.components,
            "covariance": fitted.form,
            **model.held_out_bits(plan.held_out),
        }

    def draw(self, n: int, *, seed: int, options: DrawingOptions = DrawingOptions()) -> Drawing:
        """Draw n rows; see `Model.draw`."""
        options.refuse(f"the model {self.config.model.name}, which draws rows without steps", given=False)
        given = given_cells(self.encoding, options.given) if options.given else None
        z, hidden = np.zeros(self.encoding.width), np.ones(self.encoding.width, dtype=bool)
        if given is not None:
            z, hidden = given.values, ~given.given

        def block(rows: int, rng: np.random.Generator) -> FloatArray:
            return draw_hidden(np.tile(z, (rows, 1)), np.tile(hidden, (rows, 1)), self.gaussians, rng)

        return Drawing(draw_blocks(decoding(self.encoding, given), block, n, seed=seed))

    @property
    def takes_given(self) -> bool:
        """Every conditional distribution of a Gaussian mixture is one."""
        return True

    def fill(self, rows: pl.DataFrame, *, seed: int) -> pl.DataFrame:
        """Draw the missing cells of rows from their exact distribution given the others; see `Model.fill`."""
        rng = seeding.stream(seed, "gaps")
        return fill_gaps(self.encoding, rows, lambda z, given: draw_hidden(z, ~given, self.gaussians, rng))

    def log_density_of_features(self, z: FloatArray) -> FloatArray:
        """Give the log of the mixture's density; see `DensityModel.log_density_of_features`."""
        return self.gaussians.log_density(z)

    def _kept(self) -> Kept:
        """Give weights, means and covariances, of diagonal covariances the diagonals; see `TrainableModel._kept`."""
        arrays, form = self.gaussians._asdict(), "full"
        diagonals = arrays["covariances"].diagonal(axis1=1, axis2=2)
        if np.array_equal(arrays["covariances"], diagonals[:, None] * np.eye(self.encoding.width)):
            arrays["covariances"], form = diagonals, "diag"
        tensors = {name: torch.from_numpy(np.array(values)) for name, values in arrays.items()}
        return Kept(tensors, {"covariance": form, "encoding": self.encoding.model_dump(mode="json")})

    @classmethod
    def _restored(cls, config: MixtureConfig, encoding: TableEncoding, kept: Kept) -> Self:
        """Check that the Gaussians are Gaussians; see `TrainableModel._restored`."""
        weights, means, covariances = (kept.tensors[k].double().numpy() for k in ("weights", "means", "covariances"))
        if means.shape != (len(weights), encoding.width) or (weights < 0).any() or abs(weights.sum() - 1) > 1e-9:
            raise ValueError("weights and means do not suit the encoding")
        # Runs of earlier versions have covariances in any of scikit-learn's forms.
        covariances = full_covariances(covariances, kept.facts["covariance"], means.shape)
        if covariances.shape != (*means.shape, encoding.width):
            raise ValueError("means and covariances do not belong together")
        np.linalg.cholesky(covariances)
        return cls(config, encoding, Gaussians(weights, means, covariances))
