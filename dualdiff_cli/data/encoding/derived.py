"""A column that follows from other columns by a formula: nothing is learnt, and the formula holds in every row."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import model_validator

from ...config.formulas import Formula, linear_formula, read_formula
from ...errors import InputError, did_you_mean
from ..arrays import FloatArray
from ..tidied import LARGEST_EXACT
from .base import ColumnEncoding
from .whole import as_whole_numbers

__all__ = ["DerivedColumn", "decimals_of"]

MOST_DECIMALS = 12
"""More decimals than these are rounding errors of the numbers."""
ROUNDING = 1e-13
"""The formula may be off by this share of the largest number in it, which is rounding."""


class DerivedColumn(ColumnEncoding):
    """A column without features, computed from the other columns of the row.

    Attributes:
        equals: the text of the formula; see `config.formulas`.
        decimals: the number of decimals of the values; None for whole numbers.
        ambiguous: the columns of the formula that it cannot be solved for, because several values of the column give
            the same value, as in x^2 with x of both signs; earlier versions did not look.

    """

    kind: Literal["derived"] = "derived"
    equals: str
    decimals: int | None
    ambiguous: tuple[str, ...] = ()

    on_request: ClassVar[bool] = True
    can_be_given: ClassVar[bool] = False

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, written: Any) -> Any:
        """Read what an earlier version wrote: the factors and the constant of a linear formula."""
        if not isinstance(written, dict) or "factors" not in written:
            return written
        formula = linear_formula(written["factors"], written["constant"])
        return {key: value for key, value in written.items() if key not in ("factors", "constant")} | {
            "equals": formula.text
        }

    @property
    def width(self) -> int:
        """No feature at all."""
        return 0

    @property
    def whole(self) -> bool:
        """Whether the computed values are whole numbers, where they are not missing."""
        return self.decimals is None

    @cached_property
    def formula(self) -> Formula:
        """What the values are computed by."""
        return read_formula(self.equals)

    @classmethod
    def suits(cls, column: pl.Series) -> bool:
        """No column by itself follows from others."""
        return False

    @classmethod
    def fit(cls, column: pl.Series, *, standardise: bool) -> Self:
        """Refuse: a column by itself does not say what it follows from; see `of`."""
        raise InputError(f"The column '{column.name}' needs a formula.", "Give it with --constraint, or in the schema.")

    @classmethod
    def of(cls, rows: pl.DataFrame, name: str, text: str) -> Self:
        """Read the formula of a column, and see that the formula holds in the training rows.

        Args:
            rows: n rows with the column and all others of the formula.
            name: of the column.
            text: the formula; see `config.formulas`.

        Raises:
            InputError: the formula has no column, there is no such column, a column holds no numbers, or the formula
                does not hold.

        """
        formula = read_formula(text)
        if not formula.columns:
            raise InputError(
                f"The formula {text.strip()!r} names no column.",
                f"Leave the line of '{name}' out of the schema: a column of one value is found as a constant.",
            )
        for other in (name, *formula.columns):
            if other not in rows.columns:
                raise InputError(
                    f"There is no column '{other}', which a formula names.",
                    f"{did_you_mean(other, rows.columns)}Correct the formula {text.strip()!r}.",
                )
            if not rows[other].dtype.is_numeric() or (other in formula.columns and other == name):
                raise InputError(
                    f"The column '{other}' cannot stand in the formula {text.strip()!r}.",
                    "A formula computes numbers from other columns of numbers.",
                )
        column = rows[name]
        decimals = None if column.dtype.is_integer() else decimals_of(column)
        numbers = {other: rows[other].cast(pl.Float64).to_numpy() for other in formula.columns}
        ambiguous = tuple(other for other in formula.columns if not formula.gives_back(other, numbers))
        derived = cls(name=name, equals=formula.text, decimals=decimals, ambiguous=ambiguous)
        values, truth = formula.value(numbers), column.cast(pl.Float64).to_numpy()
        size = _size(formula, numbers, truth)
        unit = 0.0 if decimals in (None, MOST_DECIMALS) else 0.51 * 10.0**-decimals
        off = unit + ROUNDING * size if decimals is not None else np.where(size < LARGEST_EXACT, 0.49, -1.0)
        known = np.isfinite(truth) & np.all([np.isfinite(each) for each in numbers.values()], axis=0)
        wrong = np.flatnonzero(known & ~(np.abs(values - truth) <= off))
        if len(wrong):
            first = wrong[0]
            raise InputError(
                f"{name} {formula} does not hold in {len(wrong):,} of {len(column):,} training rows, such as one where "
                f"{name} is {truth[first]:g} and the formula gives {values[first]:g}.",
                "Correct these rows, or leave the constraint out.",
            )
        return derived

    def unknown(self, known: Collection[str]) -> list[str]:
        """Give the columns of the formula that are not known."""
        return [name for name in self.formula.columns if name not in known]

    def can_be_solved(self, known: Collection[str]) -> bool:
        """Say whether the columns of the formula follow from the value of this column and from the known ones."""
        unknown = self.unknown(known)
        return not unknown or (len(unknown) == 1 and self.can_be_solved_for(unknown[0]))

    def can_be_solved_for(self, name: str) -> bool:
        """Say whether a column of the formula follows from the value of this column and from the other ones."""
        return self.formula.can_be_solved_for(name) and name not in self.ambiguous

    @property
    def solvable(self) -> list[str]:
        """The columns of the formula that follow from the value of this column and from the other ones."""
        return [name for name in self.formula.columns if self.can_be_solved_for(name)]

    def numbers(self, rows: pl.DataFrame) -> dict[str, FloatArray]:
        """Give this column and those of the formula as numbers, (n,) each, NaN where a cell is missing."""
        return {name: rows[name].cast(pl.Float64).to_numpy() for name in (self.name, *self.formula.columns)}

    def solution(self, name: str, rows: pl.DataFrame) -> pl.Series:
        """Compute a column of the formula, (n,), from this column and the other ones; null where there is no number."""
        numbers, dtype = self.numbers(rows), rows[name].dtype
        found = self.formula.solved_for(name, numbers[self.name], numbers)
        known = pl.Series(name, np.where(np.isfinite(found), found, np.nan)).fill_nan(None)
        return (known.round() if dtype.is_integer() else known).cast(dtype, strict=False)

    def holds(self, rows: pl.DataFrame) -> npt.NDArray[np.bool_]:
        """Say in which rows (n,) the formula holds, but for rounding errors."""
        numbers = self.numbers(rows)
        near: npt.NDArray[np.bool_] = np.isclose(self.computed(numbers), numbers[self.name], rtol=1e-9, atol=1e-9)
        return near

    def encode(self, column: pl.Series, rng: np.random.Generator | None) -> FloatArray:
        """Give n rows without features."""
        return np.empty((len(column), 0))

    def values(self, features: Any) -> Any:
        """Give NaN: the column alone does not say its values; see `computed`."""
        return features.sum(-1) * 0 + float("nan")

    def computed(self, values: Mapping[str, Any]) -> Any:
        """Compute the values (n,) from those of the other columns, by name; NumPy arrays and torch tensors alike.

        A missing value is NaN, and so is what is not finite.
        """
        value = self.formula.value(values)
        return value.round() if self.whole else value

    def series(self, values: FloatArray) -> pl.Series:
        """Give the values of `computed` their type and their number of decimals."""
        if self.decimals is None:
            return as_whole_numbers(self.name, values)
        return pl.Series(self.name, values).round(self.decimals).fill_nan(None)

    def log_slope(self, features: FloatArray) -> FloatArray:
        """Give 0: the density is that of the other columns, from which this one follows."""
        return np.zeros(len(features))

    @property
    def summary(self) -> str:
        """Say what the values are computed from."""
        return f"computed {self.formula}"


def _size(formula: Formula, numbers: Mapping[str, FloatArray], values: FloatArray) -> FloatArray:
    """Give the size of the largest number in the computation of each value, which decides the size of its rounding."""
    size = np.abs(values)
    if formula.linear is not None:
        size = np.maximum(size, abs(formula.linear.constant))
        for other, factor in formula.linear.factors.items():
            size = np.maximum(size, np.abs(factor * numbers[other]))
    return size


def decimals_of(column: pl.Series) -> int:
    """Give the number of decimals with which all values of a column can be written."""
    values = column.drop_nulls()
    for decimals in range(MOST_DECIMALS):
        if bool((values.round(decimals) == values).all()):
            return decimals
    return MOST_DECIMALS
