"""The face between a column of a table and the features that a network sees.

A *column* holds values of one kind: numbers, integers, categories, dates. A network sees *features*, real numbers of
the order of one. An encoding turns the n values of a column into features (n, width) and back. Each kind of column is
one file in this folder with one subclass, and one line in ``config.registry.COLUMN_KINDS``. An encoding may hold
another one of a later kind: a column with gaps holds the encoding of its observed values.

Decoding has two halves. ``values`` computes one number a row from the features, with arithmetic that NumPy arrays and
torch tensors share, so that an exported file decodes with the same lines as the program. ``series`` gives these numbers
the type of the column.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict

from ..arrays import FloatArray
from .layout import DiscreteSpan

__all__ = ["ColumnEncoding", "namespace", "shortened"]

MOST_SHOWN = 40
"""The number of characters of a value that a summary shows."""


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

    on_request: ClassVar[bool] = False
    """Whether only a schema chooses this kind, because data alone do not show it."""

    can_be_given: ClassVar[bool] = True
    """Whether rows can be drawn that have a given value of the column."""

    @property
    def width(self) -> int:
        """How many features the column has."""
        return 1

    @property
    def whole(self) -> bool:
        """Whether the decoded values are whole numbers."""
        return False

    @classmethod
    @abstractmethod
    def suits(cls, column: pl.Series) -> bool:
        """Say whether this kind can encode the column, and describes the column better than all later kinds."""

    @classmethod
    def takes(cls, column: pl.Series) -> bool:
        """Say whether this kind can encode the column at all, which matters where a schema asks for the kind."""
        return cls.suits(column)

    @classmethod
    def proposed(cls, column: pl.Series, *, standardise: bool) -> ColumnEncoding | None:
        """Fit the encoding if the kind `suits` the column, and otherwise give None.

        A kind whose question and whose fit are the same long computation overrides this, to do it once.
        """
        return cls.fit(column, standardise=standardise) if cls.suits(column) else None

    @classmethod
    @abstractmethod
    def fit(cls, column: pl.Series, *, standardise: bool) -> Self:
        """Fit the encoding to the training rows of a column.

        Args:
            column: n values; some may be missing only if the kind says so.
            standardise: whether features have zero mean and unit variance; otherwise they keep the column's unit.

        """

    @abstractmethod
    def encode(self, column: pl.Series, rng: np.random.Generator | None) -> FloatArray:
        """Turn n values into features (n, width).

        Args:
            column: n values of the type of the fitted column.
            rng: what an encoding that adds noise draws the noise from; None adds none.

        """

    @abstractmethod
    def values(self, features: Any) -> Any:
        """Turn features (n, width) into one number a row, (n,), both float64; NumPy arrays and torch tensors alike.

        A missing value is NaN. The `offset` is not yet added.
        """

    @property
    def offset(self) -> int:
        """What is to be added to `values`: beyond 2⁵³ float64 does not hold all whole numbers. Otherwise 0."""
        return 0

    def series(self, values: FloatArray) -> pl.Series:
        """Give the numbers of `values` the column's name and type, and add the `offset`."""
        return pl.Series(self.name, values)

    @property
    def discrete(self) -> tuple[DiscreteSpan, ...]:
        """The features that take few values, counted from the column's first feature."""
        return ()

    @property
    def units(self) -> tuple[int, ...]:
        """For each feature the number of its unit within the column; see `FeatureLayout`."""
        return (0,) * self.width

    def unused(self, features: FloatArray) -> npt.NDArray[np.bool_]:
        """Say which features (n, width) do not count for the value of their row; (n, width)."""
        return np.zeros(features.shape, dtype=bool)

    @property
    def observed(self) -> ColumnEncoding:
        """The encoding of the observed values of a column with gaps; of a column without gaps this encoding itself."""
        return self

    @property
    def present_feature(self) -> tuple[int, float] | None:
        """(place, value) of the feature that says that a cell is there; None for a column without gaps."""
        return None

    @property
    def resolution(self) -> float:
        """The distance of neighbouring values of the column, in feature units; 0 where values are continuous."""
        return 0.0

    @property
    def affine(self) -> tuple[float, float] | None:
        """(shift, scale), where the column has one feature and value = shift + scale·feature; otherwise None."""
        return None

    @property
    def reflects(self) -> bool:
        """Whether values are reflected at bounds, which the slope of the encoding does not know."""
        return False

    def log_slope(self, features: FloatArray) -> FloatArray | None:
        """Give log |d value / d feature| at n rows of features (n, 1), (n,); None where there is no such slope.

        Only a column with a slope has a density in its own unit: log p(value) = log p(feature) − log slope, in nats.
        """
        return None if self.affine is None else np.full(len(features), math.log(self.affine[1]))

    def with_numbers(self, convert: Callable[[float], Any]) -> Self:
        """Give the encoding with converted numbers, for `values` only.

        An exporter may round the numbers of Python; tensors keep their digits.
        """

        def converted(value: Any) -> Any:
            if isinstance(value, ColumnEncoding):
                return value.with_numbers(convert)
            if isinstance(value, tuple):
                return tuple(map(converted, value))
            return convert(value) if isinstance(value, float) else value

        return self.model_copy(update={name: converted(value) for name, value in self})

    @property
    def summary(self) -> str:
        """Say in a few words how the column is learnt."""
        return self.kind


def shortened(value: object) -> str:
    """Write a value for a reader, cut after `MOST_SHOWN` characters."""
    text = str(value)
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "…"


def namespace(features: Any) -> Any:
    """Give the module with the functions for an array: NumPy, or torch for a tensor."""
    if isinstance(features, np.ndarray):
        return np
    import torch  # only a program that has tensors gets here

    return torch
