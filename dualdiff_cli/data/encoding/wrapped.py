"""A column whose value another encoding learns, perhaps beside a category of its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import SerializeAsAny, field_validator

from ..arrays import FloatArray
from .base import ColumnEncoding
from .category import CategoryColumn
from .choosing import read_column
from .layout import DiscreteSpan

__all__ = ["WrappedColumn"]


class WrappedColumn(ColumnEncoding):
    """The features of an inner encoding, then those of a category; what a subclass does not say, the inner one says.

    Attributes:
        inner: the encoding of the value.
        beside: the encoding of the category; None where there is none.

    """

    inner: SerializeAsAny[ColumnEncoding]

    _read = field_validator("inner", mode="before")(read_column)

    @property
    def beside(self) -> CategoryColumn | None:
        """The encoding of the category; a subclass that has one gives it."""
        return None

    @property
    def width(self) -> int:
        """The features of the value and of the category."""
        return self.inner.width + (0 if self.beside is None else self.beside.width)

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return self.inner.whole

    def series(self, values: FloatArray) -> pl.Series:
        """Give the values the type of the inner encoding."""
        return self.inner.series(values)

    @property
    def offset(self) -> int:
        """The offset of the inner encoding."""
        return self.inner.offset

    @property
    def discrete(self) -> tuple[DiscreteSpan, ...]:
        """The discrete features of the value, and those of the category after them."""
        category = () if self.beside is None else self.beside.discrete
        return (*self.inner.discrete, *(span.moved(self.inner.width) for span in category))

    def unused(self, features: FloatArray) -> npt.NDArray[np.bool_]:
        """Give what the inner encoding says; the category always counts. See `ColumnEncoding.unused`."""
        split = self.inner.width
        return np.pad(self.inner.unused(features[:, :split]), ((0, 0), (0, features.shape[1] - split)))

    @property
    def reflects(self) -> bool:
        """Whether the inner encoding reflects values."""
        return self.inner.reflects

    @property
    def resolution(self) -> float:
        """The resolution of the inner encoding."""
        return self.inner.resolution
