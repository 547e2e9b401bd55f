"""A Gaussian mixture as a model of its own; see `training.mixture` for the fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from sklearn.mixture import GaussianMixture as Fitted

from .. import seeding
from ..checked import refusing
from ..compute.machine import describe_machine
from ..config.schema import MixtureConfig, RunConfig
from ..data import Data, FloatArray, TableEncoding, given_cells
from ..errors import InputError
from ..store.run import Run
from ..training.gaps import draw_hidden
from ..training.mixture import (
    COMPONENT_NUMBERS,
    COVARIANCE_FORMS,
    MOST_MIXTURE_ROWS,
    fit_mixture,
    gaussians_of,
    spread,
)
from ..training.session import Callbacks
from .base import Drawing, DrawingOptions, Plan, TrainableModel, draw_blocks
from .conditioning import fill_gaps, put_given

__all__ = ["Mixture"]


@dataclass(frozen=True)
class Mixture(TrainableModel):
    """A mixture of Gaussians over the features.

    Attributes:
        config: of the run.
        encoding: between columns and features.
        fitted: scikit-learn's mixture.

    """

    kind = "mixture"

    config: MixtureConfig
    encoding: TableEncoding
    fitted: Fitted = field(repr=False)

    @classmethod
    def plan(cls, config: RunConfig, data: Data, *, device: torch.device, run: Run | None = None) -> Plan:
        """Prepare a fit, and check the number of Gaussians; see `TrainableModel.plan`."""
        assert isinstance(config, MixtureConfig)
        most = min(data.train.height, MOST_MIXTURE_ROWS)
        if config.model.components and config.model.components > most:
            raise InputError(
                f"{config.model.components:,} Gaussians cannot be fitted to {most:,} rows.", "Lower model.components."
            )
        return super().plan(config, data, device=device, run=run)

    @classmethod
    def fit(
        cls, plan: Plan, run: Run, *, device: torch.device, callbacks: Callbacks = Callbacks()
    ) -> tuple[Self, dict[str, Any]]:
        """Fit the mixture; see `TrainableModel.fit`."""
        config = plan.config
        assert isinstance(config, MixtureConfig)
        run.save_environment({"device": "cpu", **describe_machine()})
        callbacks.on_start(run, 0, "a mixture of Gaussians, fitted by expectation maximisation")
        c = config.model
        sizes = (c.components,) if c.components else tuple(k for k in COMPONENT_NUMBERS if k <= c.largest)
        forms = (c.covariance,) if c.covariance else COVARIANCE_FORMS
        features = spread(plan.features, plan.encoding.layout.discrete, seed=config.seed)
        model = cls(config, plan.encoding, fit_mixture(features, sizes=sizes, forms=forms, seed=config.seed))
        return model, {
            "steps": None,
            "parameters": int(model.fitted._n_parameters()),
            "components": int(model.fitted.n_components),
            "covariance": model.fitted.covariance_type,
            **model.held_out_bits(plan.data),
        }

    def draw(self, n: int, *, seed: int, options: DrawingOptions = DrawingOptions()) -> Drawing:
        """Draw n rows; see `Model.draw`."""
        options.refuse(f"the model {self.config.model.name}, which draws rows without steps", given=False)
        given = given_cells(self.encoding, options.given) if options.given else None
        z, hidden = np.zeros(self.encoding.width), np.ones(self.encoding.width, dtype=bool)
        if given is not None:
            z, hidden = given.values, ~given.given

        def block(rows: int, rng: np.random.Generator) -> FloatArray:
            return draw_hidden(np.tile(z, (rows, 1)), np.tile(hidden, (rows, 1)), gaussians_of(self.fitted), rng)

        chunks = draw_blocks(self.encoding, block, n, seed=seed)
        return Drawing(put_given(given, chunks, self.encoding))

    @property
    def takes_given(self) -> bool:
        """Every conditional distribution of a Gaussian mixture is one."""
        return True

    def fill(self, rows: pl.DataFrame, *, seed: int) -> pl.DataFrame:
        """Draw the missing cells of rows from their exact distribution given the others; see `Model.fill`."""
        rng = seeding.stream(seed, "gaps")
        return fill_gaps(self.encoding, rows, lambda z, given: draw_hidden(z, ~given, gaussians_of(self.fitted), rng))

    def log_density_of_features(self, z: FloatArray) -> FloatArray:
        """Give the log of the mixture's density; see `TrainableModel.log_density_of_features`."""
        log_p: FloatArray = self.fitted.score_samples(z)
        return log_p

    def save(self, run: Run) -> None:
        """Write weights, means and covariances."""
        gm = self.fitted
        arrays = {"weights": gm.weights_, "means": gm.means_, "covariances": gm.covariances_}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in arrays.items()}
        description = {"covariance": gm.covariance_type, "encoding": self.encoding.model_dump(mode="json")}
        run.save_model(tensors, {"kind": self.kind, **description})

    @classmethod
    def load(cls, run: Run, *, device: torch.device) -> Self:
        """Read a finished run; see `TrainableModel.load`."""
        tensors, description = run.load_model()
        config = run.config
        with refusing(f"The model of the run {run} is damaged.", "Train the run again."):
            assert isinstance(config, MixtureConfig)
            encoding = TableEncoding.read(description["encoding"])
            weights, means, covariances = (tensors[k].double().numpy() for k in ("weights", "means", "covariances"))
            if means.shape != (len(weights), encoding.width) or (weights < 0).any() or abs(weights.sum() - 1) > 1e-9:
                raise ValueError("weights and means do not suit the encoding")
            fitted = Fitted(len(weights), covariance_type=description["covariance"])
            fitted.weights_, fitted.means_, fitted.covariances_ = weights, means, covariances
            fitted.precisions_cholesky_ = _precision_factors(covariances, description["covariance"])
            return cls(config, encoding, fitted)


def _precision_factors(covariances: FloatArray, form: str) -> FloatArray:
    """Give what scikit-learn computes densities with: Cholesky factors of the precisions, or inverse deviations."""
    if form in ("diag", "spherical"):
        return 1 / np.sqrt(covariances)
    factors: FloatArray = np.linalg.inv(np.linalg.cholesky(covariances)).swapaxes(-1, -2)
    return factors
