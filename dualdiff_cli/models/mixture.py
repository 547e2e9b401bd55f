"""A Gaussian mixture, fitted by expectation maximisation, with the size and the covariances that BIC chooses.

The Bayesian information criterion of a model with p parameters and likelihood L on n rows is −2 log L + p log n
(Schwarz 1978, "Estimating the dimension of a model"); the least is the best.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Fitted

from .. import seeding
from ..compute.machine import describe_machine
from ..config.schema import MixtureConfig
from ..data import FloatArray, TableEncoding
from ..errors import InputError
from ..store.run import Run
from ..training.session import Callbacks
from .base import Drawing, DrawingOptions, Plan, TrainableModel, draw_blocks, held_out_bits

__all__ = ["Mixture", "fit_mixture"]

SIZES = (1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 50, 80, 100)
"""The numbers of Gaussians that are tried."""
ROWS_PER_COMPONENT = 5
"""A mixture has at most one Gaussian for so many rows."""
MOST_ROWS = 20_000
"""The criterion is computed on at most so many rows; more would not change the choice."""
REGULARISATION = 1e-6
"""Added to the variances, in squared feature units, so that no Gaussian collapses onto one row."""
PATIENCE = 2
"""The search ends after so many larger sizes that are no better."""
FORMS = ("full", "tied", "diag", "spherical")


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
    def fit(
        cls, plan: Plan, run: Run, *, device: torch.device, callbacks: Callbacks = Callbacks()
    ) -> tuple[Self, dict[str, Any]]:
        """Fit the mixture; see `TrainableModel.fit`."""
        config = plan.config
        assert isinstance(config, MixtureConfig)
        run.save_environment({"device": "cpu", **describe_machine()})
        callbacks.on_start(run, 0, "a mixture of Gaussians, fitted by expectation maximisation")
        c = config.model
        sizes = (c.components,) if c.components else tuple(k for k in SIZES if k <= c.largest)
        forms = (c.covariance,) if c.covariance else FORMS
        model = cls(config, plan.encoding, fit_mixture(plan.features, sizes=sizes, forms=forms, seed=config.seed))
        return model, {
            "steps": None,
            "parameters": int(model.fitted._n_parameters()),
            "components": int(model.fitted.n_components),
            "covariance": model.fitted.covariance_type,
            **held_out_bits(model, plan.data),
        }

    def draw(self, n: int, *, seed: int, options: DrawingOptions = DrawingOptions()) -> Drawing:
        """Draw n rows; see `Model.draw`."""
        options.refuse(f"the model {self.config.model.name}, which draws rows without steps")
        gm = self.fitted
        factors = np.linalg.cholesky(_full_covariances(gm))

        def block(rows: int, rng: np.random.Generator) -> FloatArray:
            chosen = rng.choice(gm.n_components, rows, p=gm.weights_)
            normal = rng.standard_normal((rows, gm.means_.shape[1]))
            features: FloatArray = gm.means_[chosen] + np.einsum("nij,nj->ni", factors[chosen], normal)
            return features

        return Drawing(draw_blocks(self.encoding, block, n, seed=seed))

    def log_density(self, rows: pl.DataFrame, *, seed: int = 0) -> FloatArray:
        """Give the log of the mixture's density; see `Model.log_density`."""
        z = self.encoding.encode(rows, seeding.stream(seed, "dequantise for the likelihood"))
        log_p: FloatArray = self.fitted.score_samples(z) - self.encoding.log_volume
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
        try:
            assert isinstance(config, MixtureConfig)
            weights, means, covariances = (tensors[k].double().numpy() for k in ("weights", "means", "covariances"))
            fitted = Fitted(len(weights), covariance_type=description["covariance"])
            fitted.weights_, fitted.means_, fitted.covariances_ = weights, means, covariances
            fitted.precisions_cholesky_ = _precision_factors(covariances, description["covariance"])
            return cls(config, TableEncoding.model_validate(description["encoding"]), fitted)
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"The model of the run {run} is damaged.", "Train the run again.") from error


def fit_mixture(z: FloatArray, *, sizes: tuple[int, ...] = SIZES, forms: tuple[str, ...] = FORMS, seed: int) -> Fitted:
    """Fit mixtures of each form and size, and give the one with the least BIC.

    Args:
        z: features, (n, width).
        sizes: numbers of Gaussians to try, ascending; those that leave a Gaussian fewer than `ROWS_PER_COMPONENT` rows
            are left out, but one Gaussian is always tried.
        forms: of the covariances, in scikit-learn's words.
        seed: of the starting points.

    """
    if len(z) > MOST_ROWS:
        z = z[seeding.stream(seed, "rows of the criterion").permutation(len(z))[:MOST_ROWS]]
    best: tuple[float, Fitted] | None = None
    for form in forms:
        for mixture in _growing(z, sizes, form, seed):
            bic = float(mixture.bic(z))
            if best is None or bic < best[0]:
                best = (bic, mixture)
    assert best is not None, "one Gaussian is always tried"
    return best[1]


def _growing(z: FloatArray, sizes: tuple[int, ...], form: str, seed: int) -> Iterator[Fitted]:
    """Fit larger and larger mixtures of one form until BIC has stopped falling."""
    least, since = np.inf, 0
    for k in sizes:
        if k > max(1, len(z) // ROWS_PER_COMPONENT) or since > PATIENCE:
            return
        mixture = Fitted(
            k, covariance_type=form, reg_covar=REGULARISATION, random_state=seeding.integer(seed, f"mixture of {k}")
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # BIC judges a mixture that has not converged as it is
            mixture.fit(z)
        bic = float(mixture.bic(z))
        least, since = (bic, 0) if bic < least else (least, since + 1)
        yield mixture


def _full_covariances(gm: Fitted) -> FloatArray:
    """Give the covariances as (k, width, width), whatever their form."""
    k, width = gm.means_.shape
    covariances: FloatArray = gm.covariances_
    if gm.covariance_type == "tied":
        return np.broadcast_to(covariances, (k, width, width))
    if gm.covariance_type in ("diag", "spherical"):
        return covariances.reshape(k, 1, -1) * np.eye(width)
    return covariances


def _precision_factors(covariances: FloatArray, form: str) -> FloatArray:
    """Give what scikit-learn computes densities with: Cholesky factors of the precisions, or inverse deviations."""
    if form in ("diag", "spherical"):
        return 1 / np.sqrt(covariances)
    factors: FloatArray = np.linalg.inv(np.linalg.cholesky(covariances)).swapaxes(-1, -2)
    return factors
