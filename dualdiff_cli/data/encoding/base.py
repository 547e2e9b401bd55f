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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict

from ...config.registry import ASKED_KINDS, COLUMN_KINDS, IDENTIFIER
from ...errors import InputError
from ..arrays import FloatArray

__all__ = [
    "KINDS_IN_OWN_UNITS",
    "ColumnEncoding",
    "DiscreteSpan",
    "FeatureLayout",
    "fit_column",
    "namespace",
    "read_column",
    "shortened",
]

LEAST_SPREAD = 1e-140
"""The least difference of the least and the largest value of a column: the square of a smaller one is no number."""
MOST_SHOWN = 40
"""The number of characters of a value that a summary shows."""
KINDS_IN_OWN_UNITS = ("integer", "number")
"""The kinds whose features can keep the unit of their column."""
KINDS_OF_SHAPE = ("missing", "masses", "rounded", "decimal", "bounded", "skewed")
"""The kinds that need values of a certain shape; a schema of a whole file may name one that its training rows lack.
All but the first are kinds of numbers."""


@dataclass(frozen=True)
class DiscreteSpan:
    """Features that take few values: b is one-hot or, with a width of one, b is 0 or 1, and the features are μ + s·b.

    A denoiser uses this to answer with the mean of the values under their posterior probabilities.

    Attributes:
        start, width: which features, counted from the first feature of the column or of the table.
        shift: μ, one number a feature.
        scale: s, the same for all features of the span.

    """

    start: int
    width: int
    shift: tuple[float, ...]
    scale: float

    def moved(self, start: int) -> DiscreteSpan:
        """Give the same span for features that begin so many places later."""
        return DiscreteSpan(self.start + start, self.width, self.shift, self.scale)


@dataclass(frozen=True)
class FeatureLayout:
    """What training and denoisers have to know about the features of a table.

    Attributes:
        units: for each feature the number of its unit, ascending; the features of a unit are given together, or hidden
            together.
        discrete: the features that take few values.

    """

    units: tuple[int, ...]
    discrete: tuple[DiscreteSpan, ...] = ()

    @classmethod
    def plain(cls, width: int) -> FeatureLayout:
        """Give the layout of so many continuous features, each a unit of its own."""
        return cls(tuple(range(width)))

    @property
    def width(self) -> int:
        """How many features there are."""
        return len(self.units)


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


def fit_column(
    column: pl.Series, *, standardise: bool, after: str | None = None, kind: str | None = None
) -> ColumnEncoding:
    """Choose the kind of a column and fit the encoding to the training rows.

    Args:
        column: n values, some of which may be missing.
        standardise: see `ColumnEncoding.fit`.
        after: only kinds that stand later in ``COLUMN_KINDS`` are tried; None tries all kinds.
        kind: the name of the kind that was asked for; None chooses the first kind that suits the column, and so does
            a kind of `KINDS_OF_SHAPE` whose shape the values do not have. The kind of a column with gaps is that of
            its observed values.

    Raises:
        InputError: no kind suits the column, or the kind that was asked for does not.

    """
    _check_spread(column)
    if kind not in (None, "missing") and 0 < column.null_count() < len(column):
        around: ColumnEncoding = COLUMN_KINDS["missing"].fit(column, standardise=standardise, kind=kind)
        return around
    if kind is not None and COLUMN_KINDS[kind].takes(column):
        asked: ColumnEncoding = COLUMN_KINDS[kind].fit(column, standardise=standardise)
        return asked
    names = list(COLUMN_KINDS)
    tried = names[names.index(after) + 1 :] if after else names
    if not standardise:
        tried = [name for name in tried if name in KINDS_IN_OWN_UNITS]
    numbers = column.dtype.is_numeric() or column.null_count() == len(column)
    lenient = kind in KINDS_OF_SHAPE and (numbers or kind == "missing")
    for name in tried if kind is None or lenient else []:
        chosen: type[ColumnEncoding] = COLUMN_KINDS[name]
        found = None if chosen.on_request else chosen.proposed(column, standardise=standardise)
        if found is not None:
            return found
    raise InputError(
        f"The column '{column.name}' of type {column.dtype} cannot be learnt{f' as {kind}' if kind else ''}.",
        f"Leave the column out with --columns, or ask for a kind that suits it: {', '.join(_kinds_for(column))}.",
    )


def _kinds_for(column: pl.Series) -> list[str]:
    """Give the kinds that a user can ask for and that can encode the column."""
    if column.n_unique() == 1:  # without a request such a column is constant
        return [IDENTIFIER]
    return [kind for kind in ASKED_KINDS if kind == IDENTIFIER or COLUMN_KINDS[kind].takes(column)]


def _check_spread(column: pl.Series) -> None:
    """Refuse numbers that differ, but by so little that their variance is zero.

    Raises:
        InputError: the column is such a one.

    """
    if not column.dtype.is_float() or not column.len() - column.null_count():
        return
    spread = float(column.max()) - float(column.min())  # type: ignore[arg-type]
    if 0 < spread < LEAST_SPREAD:
        raise InputError(
            f"The values of the column '{column.name}' differ by {spread:.1g} only, which vanishes when it is squared.",
            "Give the column in another unit, or leave the column out with --columns.",
        )


def read_column(column: Any) -> Any:
    """Read an encoding that was written as plain values, by the class of its kind; an encoding stays as it is.

    Raises:
        InputError: there is no such kind.

    """
    if not isinstance(column, Mapping):
        return column
    return COLUMN_KINDS[COLUMN_KINDS.check(str(column.get("kind")))].model_validate(column)


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
