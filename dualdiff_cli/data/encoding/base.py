"""The face between a column of a table and the features that a network sees.

A *column* holds values of one kind: numbers, integers. A network sees *features*, real numbers of the order of one. An
encoding turns the n values of a column into features (n, width) and back. Each kind of column is one file in this
folder with one subclass, and one line in ``config.registry.COLUMN_KINDS``.

Decoding has two halves. ``values`` computes one number a row from the features, with arithmetic that NumPy arrays and
torch tensors share, so that an exported file decodes with the same lines as the program. ``series`` gives these numbers
the type of the column.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from ..densities.families import FloatArray

__all__ = ["KINDS_IN_OWN_UNITS", "ColumnEncoding"]

KINDS_IN_OWN_UNITS = ("integer", "number")
"""The kinds whose features can keep the unit of their column."""


class ColumnEncoding(BaseModel, ABC):
    """How one column becomes features.

    Every field of a subclass is written to JSON, and together they are all that decoding needs.

    Attributes:
        kind: the name of the kind in ``COLUMN_KINDS``; a subclass gives it as a ``Literal`` with a default.
        name: the column's name.
        width: how many features the column has.
        whole: whether the decoded values are whole numbers.

    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: str
    name: str
    width: ClassVar[int] = 1
    whole: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def suits(cls, column: pl.Series) -> bool:
        """Say whether this kind can encode the column."""

    @classmethod
    @abstractmethod
    def fit(cls, column: pl.Series, *, standardise: bool) -> Self:
        """Fit the encoding to the training rows of a column.

        Args:
            column: n values, none missing.
            standardise: whether features have zero mean and unit variance; otherwise they keep the column's unit.

        """

    @abstractmethod
    def encode(self, column: pl.Series, rng: np.random.Generator | None) -> FloatArray:
        """Turn n values into features (n, width).

        Args:
            column: n values, none missing.
            rng: what an encoding that adds noise draws the noise from; None adds none.

        """

    @abstractmethod
    def values(self, features: Any) -> Any:
        """Turn features (n, width) into one number a row, (n,), both float64; NumPy arrays and torch tensors alike."""

    def series(self, values: FloatArray) -> pl.Series:
        """Give the numbers of `values` the column's name and type."""
        return pl.Series(self.name, values)

    @property
    def resolution(self) -> float:
        """The distance of neighbouring values of the column, in feature units; 0 where values are continuous."""
        return 0.0

    @property
    def affine(self) -> tuple[float, float] | None:
        """(shift, scale), where the column has one feature and value = shift + scale·feature; otherwise None."""
        return None

    def log_slope(self, features: FloatArray) -> FloatArray | None:
        """Give log |d value / d feature| at n rows of features (n, 1), (n,); None where there is no such slope.

        Only a column with a slope has a density in its own unit: log p(value) = log p(feature) − log slope, in nats.
        """
        return None if self.affine is None else np.full(len(features), math.log(self.affine[1]))
