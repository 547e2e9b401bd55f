"""A converted column, and the limits of what its values can be."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

import polars as pl

__all__ = [
    "LARGEST",
    "LARGEST_EXACT",
    "TidyColumn",
    "UnusableColumn",
    "beyond_calendar",
    "complete",
    "finite",
    "whole_numbers",
]

LARGEST = 1e140
"""The largest number that a column may hold: the sum of the squares of a billion such numbers is still finite."""
LARGEST_EXACT = 2**53
"""Float64 holds all whole numbers up to here."""
_FIRST_DAY, _LAST_DAY = (day.toordinal() - date(1970, 1, 1).toordinal() for day in (date.min, date.max))
"""The calendar from the year 1 to the year 9999, in days since 1970."""


class TidyColumn(NamedTuple):
    """A converted column, and a sentence about the conversion where the user should know of it."""

    values: pl.Series
    note: str = ""


class UnusableColumn(Exception):  # noqa: N818 - its text is half a sentence that follows the column's name
    """A column has a type or values that no supported type can hold."""


def complete(values: pl.Series, column: pl.Series) -> bool:
    """Say whether every cell of a column became a value."""
    return values.null_count() == column.null_count()


def whole_numbers(column: pl.Series) -> TidyColumn:
    """Convert whole numbers, or texts of whole numbers, to the first type that holds all of them.

    Raises:
        UnusableColumn: a number needs more than 64 bits.

    """
    for dtype in (pl.Int64, pl.UInt64):
        numbers = column.cast(dtype, strict=False)
        if complete(numbers, column):
            return TidyColumn(numbers)
    raise UnusableColumn("has whole numbers that need more than 64 bits")


def finite(numbers: pl.Series) -> pl.Series:
    """Make NaN a missing cell.

    Raises:
        UnusableColumn: a number is infinite or beyond `LARGEST`.

    """
    infinite = int(numbers.is_infinite().sum())
    if infinite:
        raise UnusableColumn(f"has {infinite:,} infinite value{'' if infinite == 1 else 's'}")
    numbers = numbers.fill_nan(None)
    if (numbers.abs() > LARGEST).any():
        raise UnusableColumn(f"has values beyond {LARGEST:g}, whose squares are too large for a floating-point number")
    return numbers


def beyond_calendar(days: pl.Series) -> bool:
    """Say whether some days since 1970 lie outside the years 1 to 9999."""
    return bool(((days < _FIRST_DAY) | (days > _LAST_DAY)).any())
