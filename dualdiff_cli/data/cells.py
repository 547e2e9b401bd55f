"""Columns as files hold them, converted to the few types that the project works with.

These types are Int64, UInt64 (only where a value needs it), Float64 (finite), Boolean, String, Date, and Datetime in
microseconds without a time zone. A missing cell is null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl

from .texts import parse_text, without_marks
from .tidied import TidyColumn, UnusableColumn, beyond_calendar, finite, whole_numbers

__all__ = ["PER_SECOND", "tidy"]

_MICROSECOND = pl.Datetime("us")
PER_SECOND = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DAY = 86_400
_FEW_DECIMALS = 4
"""Numbers of 32 bits with so many decimals, as people write them, are read as the decimals that they stand for."""


def tidy(column: pl.Series, *, decimal_comma: bool = False, learnt: pl.DataType | None = None) -> TidyColumn:
    """Convert a column of any type.

    Args:
        column: n values; numbers, dates and truth values in a column of texts are recognised if all values are such.
        decimal_comma, learnt: see `parse_text`.

    Raises:
        UnusableColumn: the type holds no single values, a whole number needs more than 64 bits, a value is infinite, or
            a date lies outside the years 1 to 9999.

    """
    base = column.dtype.base_type()
    if base == pl.String:
        return parse_text(column, decimal_comma=decimal_comma, learnt=learnt)
    if base.is_integer():
        return whole_numbers(column)
    if base.is_float():
        return _from_float(column)
    if base not in _CONVERSIONS:
        raise UnusableColumn(f"is of type {column.dtype}")
    return _CONVERSIONS[base](column)


def _from_float(column: pl.Series) -> TidyColumn:
    numbers = column.cast(pl.Float64)
    if column.dtype == pl.Float32:  # 12.34 is 12.3400001526 there, which would be no multiple of 0.01
        # The text of a large whole number has only its first digits.
        written = numbers.zip_with(numbers == numbers.round(), column.cast(pl.String).cast(pl.Float64))
        if (written.round(_FEW_DECIMALS) == written).all():
            numbers = written
    return TidyColumn(finite(numbers))


def _from_decimal(column: pl.Series) -> TidyColumn:
    dtype = column.dtype
    if isinstance(dtype, pl.Decimal) and dtype.scale == 0:
        return parse_text(column.cast(pl.String))
    return _from_float(column)


def _from_category(column: pl.Series) -> TidyColumn:
    return TidyColumn(without_marks(column.cast(pl.String)))


def _from_date(column: pl.Series) -> TidyColumn:
    _check_calendar(column.to_physical())
    return TidyColumn(column)


def _from_datetime(column: pl.Series) -> TidyColumn:
    dtype, note = column.dtype, ""
    assert isinstance(dtype, pl.Datetime)
    _check_calendar(column.to_physical() // (_DAY * PER_SECOND[dtype.time_unit]))
    if dtype.time_zone is not None:
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        if dtype.time_zone != "UTC":
            note = f"The times of column '{column.name}' are in the zone {dtype.time_zone} and are read as UTC."
    return TidyColumn(column.cast(_MICROSECOND), note)


def _check_calendar(days: pl.Series) -> None:
    """Refuse days since 1970 that polars cannot write as dates, and that would make it panic."""
    if beyond_calendar(days):
        raise UnusableColumn("has dates outside the years 1 to 9999")


def _from_duration(column: pl.Series) -> TidyColumn:
    assert isinstance(column.dtype, pl.Duration)
    note = f"Column '{column.name}' holds durations, which are read as numbers of seconds."
    return TidyColumn(column.to_physical() / PER_SECOND[column.dtype.time_unit], note)


def _from_time(column: pl.Series) -> TidyColumn:
    seconds = column.cast(pl.Int64) / 1e9
    return TidyColumn(seconds, f"Column '{column.name}' holds times of day, which are read as seconds after midnight.")


_CONVERSIONS: Mapping[type[pl.DataType], Callable[[pl.Series], TidyColumn]] = {
    pl.Decimal: _from_decimal,
    pl.Boolean: TidyColumn,
    pl.Categorical: _from_category,
    pl.Enum: _from_category,
    pl.Date: _from_date,
    pl.Datetime: _from_datetime,
    pl.Duration: _from_duration,
    pl.Time: _from_time,
    pl.Null: lambda column: TidyColumn(column.cast(pl.String)),
}
