"""The encoding of a whole table: one `ColumnEncoding` a column, their features side by side."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import accumulate, pairwise
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, SerializeAsAny, field_validator

from ...config.formulas import is_formula
from ...errors import InputError
from ...store.schemas import MOST_FEATURES
from ..arrays import FloatArray
from .base import ColumnEncoding, namespace
from .category import CategoryColumn
from .choosing import fit_column, read_column
from .common_tails import with_common_tails
from .constant import ConstantColumn
from .derived import DerivedColumn
from .integer import DecimalColumn
from .layout import DiscreteSpan, FeatureLayout

__all__ = ["TableEncoding"]


class TableEncoding(BaseModel):
    """Columns ↔ features, fitted and invertible.

    Attributes:
        columns: the encodings of the columns, in the order of the table.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: tuple[SerializeAsAny[ColumnEncoding], ...]

    @field_validator("columns", mode="before")
    @classmethod
    def _by_kind(cls, columns: Any) -> Any:
        """Let each column be read by the class of its kind."""
        return tuple(map(read_column, columns))

    @classmethod
    def read(cls, written: Any) -> Self:
        """Read an encoding that was written as plain values, and see that it decodes.

        Raises:
            Exception: of any kind, if the values are not those of an encoding.

        """
        encoding = cls.model_validate(written)
        if not 0 < encoding.width <= MOST_FEATURES:
            raise ValueError(f"an encoding of {encoding.width} features")
        encoding.decode(np.zeros((1, encoding.width)))
        if len(encoding.layout.units) != encoding.width:
            raise ValueError("the columns do not say which features they have")
        return encoding

    @classmethod
    def fit(
        cls, rows: pl.DataFrame, *, standardise: bool = True, kinds: Mapping[str, str] = MappingProxyType({})
    ) -> Self:
        """Choose the kind of each column and fit its encoding to the training rows.

        Args:
            rows: n rows.
            standardise: whether features have zero mean and unit variance; otherwise they keep the column's unit.
            kinds: for the names of some columns the kinds that were asked for, or formulas of other columns; the data
                decide the others.

        Raises:
            InputError: no kind suits a column, the kind that was asked for does not suit, a formula does not hold, or
                no column has anything to learn.

        """
        formulas = {name: kind for name, kind in kinds.items() if is_formula(kind)}
        derived = {name: DerivedColumn.of(rows, name, formula) for name, formula in formulas.items()}
        computed_from = {name for column in derived.values() for name in column.formula.columns}
        if chained := sorted(computed_from & set(derived)):
            raise InputError(
                f"The column '{chained[0]}' has a formula and stands in another one.",
                "Write each formula with columns that have none.",
            )
        fitted = [
            derived.get(x.name) or _fit(x, standardise, kinds.get(x.name), in_formula=x.name in computed_from)
            for x in rows
        ]
        encoding = cls(columns=tuple(with_common_tails(fitted, rows)))
        if not encoding.width:
            raise InputError(
                "Every column has the same value in all rows, so there is nothing to learn.",
                "Give a file in which at least one column varies.",
            )
        return encoding

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]

    @property
    def types(self) -> dict[str, pl.DataType]:
        """The types of the columns, by name."""
        return dict(self.decode(np.zeros((1, self.width))).schema)

    def can_be_given(self, name: str, *, beside: Collection[str]) -> bool:
        """Say whether the column of this name can be given beside others; no name of a column is refused here.

        A column with a formula can, if the formula can be solved for what is not given of the formula's columns.
        """
        return all(
            column.can_be_given or (isinstance(column, DerivedColumn) and column.can_be_solved(beside))
            for column in self.columns
            if column.name == name
        )

    def can_hold_values(self, name: str) -> bool:
        """Say whether the column of this name was not empty in the training rows."""
        column = self.columns[self.names.index(name)]
        return bool(column.width) or column.series(np.zeros(1)).null_count() == 0

    def unlike_constants(self, rows: pl.DataFrame) -> list[str]:
        """Give the names of the columns of one learnt value, or none, of which rows have other values."""
        constant = [c for c in self.columns if isinstance(c, ConstantColumn) and c.name in rows.columns]
        return [column.name for column in constant if column.differs_from(rows[column.name])]

    def category(self, name: str) -> CategoryColumn | None:
        """Give the encoding of the values of a column of this name, if it is a category, with gaps or without."""
        column = self.columns[self.names.index(name)]
        return column.observed if isinstance(column.observed, CategoryColumn) else None

    @property
    def width(self) -> int:
        """How many features a row has; a network's inputs and outputs."""
        return sum(column.width for column in self.columns)

    @property
    def spans(self) -> list[slice]:
        """Which features belong to which column."""
        return [slice(*ends) for ends in pairwise(accumulate((c.width for c in self.columns), initial=0))]

    @property
    def layout(self) -> FeatureLayout:
        """Which features are given together, and which take few values."""
        units: list[int] = []
        discrete: list[DiscreteSpan] = []
        for column, span in zip(self.columns, self.spans, strict=True):
            first = units[-1] + 1 if units else 0
            units += [first + unit for unit in column.units]
            discrete += [part.moved(span.start) for part in column.discrete]
        return FeatureLayout(tuple(units), tuple(discrete))

    @property
    def presence(self) -> dict[str, tuple[int, float]]:
        """For the name of each column with gaps, (feature, value): the one that says that a cell is there."""
        return {
            column.name: (span.start + column.present_feature[0], column.present_feature[1])
            for column, span in zip(self.columns, self.spans, strict=True)
            if column.present_feature is not None
        }

    @property
    def whole(self) -> list[bool]:
        """For each column whether the `values` of all rows are whole numbers; a value that can be missing is none."""
        return [
            column.whole and not (isinstance(column, DerivedColumn) and column.formula.can_be_missing(self.presence))
            for column in self.columns
        ]

    def encode(self, rows: pl.DataFrame, rng: np.random.Generator | None) -> FloatArray:
        """Turn n rows, whose columns may stand in any order, into features (n, width); see `ColumnEncoding.encode`."""
        return np.concatenate([column.encode(_filled(column, rows), rng) for column in self.columns], axis=1)

    def values(self, features: Any) -> list[Any]:
        """Turn features (n, width) into one vector (n,) a column; NumPy arrays and torch tensors alike."""
        # A column without features gets one of another column: ONNX Runtime takes no array without elements.
        spans = [span if column.width else slice(0, 1) for column, span in zip(self.columns, self.spans, strict=True)]
        values = [column.values(features[:, span]) for column, span in zip(self.columns, spans, strict=True)]
        by_name = {
            # An array keeps all digits of the offset, also in an exported file.
            column.name: own + namespace(own).asarray(float(column.offset), dtype=own.dtype) if column.offset else own
            for column, own in zip(self.columns, values, strict=True)
        }
        return [
            column.computed(by_name) if isinstance(column, DerivedColumn) else own
            for column, own in zip(self.columns, values, strict=True)
        ]

    def decode(self, features: FloatArray) -> pl.DataFrame:
        """Turn features (n, width) back into rows."""
        columns = zip(self.columns, self.values(features), strict=True)
        return self.with_derived(pl.DataFrame([column.series(values) for column, values in columns]))

    def with_derived(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Compute the columns that follow from others anew, from the final values of these."""
        for column in self._derived(rows):
            rows = rows.with_columns(column.series(column.computed(column.numbers(rows))))
        return rows

    def solved(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Compute the cells that are the only missing ones of a formula whose value is known, until there are none."""
        before = -1
        while before != (before := sum(column.null_count() for column in rows)):  # a cell may be what another one needs
            for column in self._derived(rows):
                for name in column.solvable:
                    if rows[name].null_count():
                        rows = rows.with_columns(rows[name].fill_null(column.solution(name, rows)))
        return rows

    def reconciled(self, drawn: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
        """Compute one drawn cell of each formula whose value is observed, so that the formula holds.

        Where no drawn cell gives a number with which the formula holds, all of them stay.

        Args:
            drawn: n rows, of which some cells are drawn.
            rows: the same rows with gaps in the place of drawn cells.

        """
        free = {name: rows[name].is_null().to_numpy() for name in rows.columns}
        for column in self._derived(rows):
            left = observed = ~free[column.name]
            for name in column.solvable:
                found = column.solution(name, drawn)
                here = left & free[name] & column.holds(drawn.with_columns(found))
                drawn = drawn.with_columns(pl.when(pl.Series(here)).then(found).otherwise(pl.col(name)).alias(name))
                left = left & ~here
            for name in column.formula.columns:  # another formula must not change what this one has settled
                free[name] = free[name] & ~observed
        return drawn

    def _derived(self, rows: pl.DataFrame) -> list[DerivedColumn]:
        """Give the columns that follow from others, if the rows have all columns of the formula."""
        derived = [column for column in self.columns if isinstance(column, DerivedColumn)]
        return [column for column in derived if {column.name, *column.formula.columns} <= set(rows.columns)]

    def unused(self, features: FloatArray) -> npt.NDArray[np.bool_]:
        """Say which features (n, width) do not count for the cells of their row; see `ColumnEncoding.unused`."""
        parts = [column.unused(features[:, span]) for column, span in zip(self.columns, self.spans, strict=True)]
        return np.concatenate(parts, axis=1)

    @property
    def resolution(self) -> FloatArray:
        """For each feature the distance of neighbouring values, (width,); 0 where values are continuous."""
        return np.concatenate([np.full(column.width, column.resolution) for column in self.columns])

    @property
    def affine(self) -> tuple[FloatArray, FloatArray]:
        """(shift, scale), each (columns,): value = shift + scale·feature.

        Raises:
            InputError: a column is encoded in another way.

        """
        maps = [column.affine for column in self.columns]
        for column, found in zip(self.columns, maps, strict=True):
            if found is None:
                raise InputError(
                    f"The column '{column.name}' of kind {column.kind} is not encoded by a shift and a scale.",
                    "Leave out what needs the density's exact denoiser.",
                )
        shift, scale = np.array(maps, dtype=np.float64).T
        return shift, scale

    @property
    def has_density(self) -> bool:
        """Whether every column has a density in its own unit; see `log_slope`."""
        return all(column.log_slope(np.zeros((1, column.width))) is not None for column in self.columns)

    def log_slope(self, features: FloatArray) -> FloatArray:
        """Give the log of the volume, in the columns' units, of a unit cube of features at n rows (n, width), (n,).

        log p(row) = log p(features) − this, in nats.

        Raises:
            InputError: a column has no density in its own unit.

        """
        total = np.zeros(len(features))
        for column, span in zip(self.columns, self.spans, strict=True):
            slope = column.log_slope(features[:, span])
            if slope is None:
                raise InputError(
                    f"The column '{column.name}' of kind {column.kind} has no density in its own unit.",
                    "Leave out what needs the likelihood.",
                )
            total += slope
        return total


def _fit(column: pl.Series, standardise: bool, kind: str | None, *, in_formula: bool) -> ColumnEncoding:
    """Fit the encoding of one column; a column that stands in a formula is learnt as numbers and not as categories.

    Raises:
        InputError: a category was asked for, and the column stands in a formula.

    """
    fitted = fit_column(column, standardise=standardise, kind=kind)
    if in_formula and fitted.observed.kind == "category":
        if kind == "category":
            raise InputError(
                f"The column '{column.name}' stands in a formula, and cannot be learnt as category.",
                "Leave out the kind that is asked for, or the formula.",
            )
        stepped = DecimalColumn.takes(column.drop_nulls())
        numbers = "integer" if column.dtype.is_integer() else "decimal" if stepped else "number"
        return fit_column(column, standardise=standardise, kind=numbers)
    return fitted


def _filled(column: ColumnEncoding, rows: pl.DataFrame) -> pl.Series:
    """Give the values of a column; a gap in a column that had none in the training gets the column's central value."""
    values = rows[column.name]
    if not values.null_count() or column.present_feature is not None or not column.width:
        return values
    return values.fill_null(column.series(column.values(np.zeros((1, column.width))))[0])
