"""The face of a model that has a density: the likelihood of rows follows from that of their features."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import polars as pl

from .. import seeding
from ..data import FloatArray
from ..training.mixture import dequantised
from .trainable import ConfigT, TrainableModel

__all__ = ["DensityModel"]


class DensityModel(TrainableModel[ConfigT]):
    """A model that is fitted to rows and has a density."""

    has_density = True

    @abstractmethod
    def log_density_of_features(self, z: FloatArray) -> FloatArray:
        """Give the log of the density at n rows of features (n, width), in nats and in feature units, (n,)."""

    def log_density(self, rows: pl.DataFrame, *, seed: int = 0) -> FloatArray:
        """Give the log of the density in the columns' own units; see `Model.log_density`."""
        z = self.encoding.encode(rows, seeding.stream(seed, "dequantise for the likelihood"))
        slope = self.encoding.log_slope(z)  # refuses columns that have no density in their own unit
        return self.log_density_of_features(z) - slope

    def held_out_bits(self, z: FloatArray) -> dict[str, Any]:
        """Give the negative log-density of held-out rows, for the record of `fit`.

        It is in the columns' own units where every column has a density in such a unit, and otherwise in the unit of
        the features. Features with few values then have the noise with which the densities are fitted to them
        (`training.mixture.dequantised`): at the values themselves a density can be as large as one likes.

        Args:
            z: the held-out rows as features, (m, width).

        """
        z = dequantised(z, self.encoding.layout.discrete, seed=self.config.seed, rows="held-out")
        log_p, unit = self.log_density_of_features(z), "bits a row of features"
        if self.encoding.has_density:
            log_p, unit = log_p - self.encoding.log_slope(z), "bits a row"
        return {"held_out_loss": -float(log_p.mean()) / math.log(2), "held_out_loss_unit": unit}
