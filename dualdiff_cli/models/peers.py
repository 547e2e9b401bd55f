"""Peers: what people would use instead, fitted by the packages of other people with the defaults of these packages.

A peer serves `compare` alone. It is fitted and sampled in one process and never saved. Every peer sees the same
features as the other models, with whole numbers spread over their unit interval, and its rows are decoded by the same
encoding. The packages are not dependencies of this one; ``pip install "dualdiff-cli[peers]"`` adds them.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl

from .. import seeding
from ..data import FloatArray, TableEncoding
from ..errors import InputError
from ..training.gaps import training_features

__all__ = ["AdversarialForest", "Forest", "Peer", "VineCopula"]


@dataclass(frozen=True)
class Peer(ABC):
    """A model of another package.

    Attributes:
        encoding: between columns and features.
        fitted: the other package's object.

    """

    package: ClassVar[str]
    """The name of the module that has to be there."""

    encoding: TableEncoding
    fitted: Any

    @classmethod
    def fit(cls, rows: pl.DataFrame, encoding: TableEncoding, *, seed: int) -> Self:
        """Fit the peer to n training rows, as the features of an encoding that was fitted to them.

        Raises:
            InputError: the package is not installed.

        """
        if find_spec(cls.package) is None:
            raise InputError(
                f"The package {cls.package} is not installed.",
                'Install it with `pip install "dualdiff-cli[peers]"`.',
            )
        features = training_features(encoding, rows, seed=seed)
        with _library(seed, "fit of a peer"):
            return cls(encoding, cls._fit(features, seeding.integer(seed, "peer")))

    def sample(self, n: int, *, seed: int) -> pl.DataFrame:
        """Draw n rows; the same seed gives the same rows."""
        with _library(seed, "rows of a peer"):
            return self.encoding.decode(self._sample(n, seeding.integer(seed, "rows of a peer")))

    @staticmethod
    @abstractmethod
    def _fit(features: FloatArray, seed: int) -> Any:
        """Fit the other package's object to features (n, width)."""

    @abstractmethod
    def _sample(self, n: int, seed: int) -> FloatArray:
        """Draw features (n, width)."""


class VineCopula(Peer):
    """A vine copula with kernel-density margins (Nagler and Czado 2016; the package pyvinecopulib)."""

    package = "pyvinecopulib"

    @staticmethod
    def _fit(features: FloatArray, seed: int) -> Any:
        from pyvinecopulib import Vinedist

        del seed  # nothing in the fit is random
        return Vinedist.from_data(features)

    def _sample(self, n: int, seed: int) -> FloatArray:
        rows: FloatArray = self.fitted.sample(n, seeds=[seed % 2**31])
        return rows


class Forest(Peer):
    """Flow matching whose vector field gradient-boosted trees learn (Jolicoeur-Martineau, Fatras and Kachman 2024).

    The package draws noise in worker processes that nobody can seed: two fits with one seed differ.
    """

    package = "ForestDiffusion"

    @staticmethod
    def _fit(features: FloatArray, seed: int) -> Any:
        from ForestDiffusion import ForestDiffusionModel

        return ForestDiffusionModel(features, seed=seed)

    def _sample(self, n: int, seed: int) -> FloatArray:
        rows: FloatArray = self.fitted.generate(batch_size=n)
        return rows


class AdversarialForest(Peer):
    """An adversarial random forest (Watson, Blesch, Kapar and Wright 2023; the package arfpy)."""

    package = "arfpy"

    @staticmethod
    def _fit(features: FloatArray, seed: int) -> Any:
        from arfpy.arf import arf
        from pandas import DataFrame

        with _in1d():
            # arfpy 0.1.1 looks columns up by their number, which pandas 3 takes for a name: the names are numbers.
            forest = arf(DataFrame(features), verbose=False)
            forest.forde()
        return forest

    def _sample(self, n: int, seed: int) -> FloatArray:
        rows: FloatArray = self.fitted.forge(n).to_numpy(dtype=np.float64)
        return rows


@contextmanager
def _library(seed: int, role: str) -> Iterator[None]:
    """Silence a library's warnings, and let its draws from NumPy's global generator depend on the seed alone."""
    with warnings.catch_warnings(), seeding.global_numpy(seed, role):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _in1d() -> Iterator[None]:
    """Give NumPy the function ``in1d`` back, which NumPy 2.4 has removed and arfpy 0.1.1 calls."""
    if hasattr(np, "in1d"):
        yield
        return
    vars(np)["in1d"] = np.isin
    try:
        yield
    finally:
        del vars(np)["in1d"]
