"""Whole numbers of 64 bits from decoded numbers, which may lie anywhere."""

from __future__ import annotations

import polars as pl

from ..arrays import FloatArray

__all__ = ["as_whole_numbers", "plus", "range_of", "with_origin"]

LEAST, LARGEST = -(2.0**63), 2.0**63 - 1024
"""The least and the largest float64 that are whole numbers of 64 bits."""
FAR = 2.0**100
"""A number beyond all sums of whole numbers of 64 bits."""


def as_whole_numbers(name: str, values: FloatArray) -> pl.Series:
    """Give the column's type to whole values (n,): Int64. NaN is a missing cell, and what is too large is limited."""
    return pl.Series(name, values.clip(LEAST, LARGEST)).fill_nan(None).cast(pl.Int64)


def with_origin(name: str, values: FloatArray, origin: int, *, unsigned: bool) -> pl.Series:
    """Give origin + value as whole numbers of 64 bits; what lies beyond these becomes the least or the largest.

    Raises:
        polars.exceptions.InvalidOperationError: a value is NaN.

    """
    wide = pl.Series(name, values.clip(-FAR, FAR)).cast(pl.Int128)
    return plus(wide, origin).clip(*range_of(unsigned)).cast(pl.UInt64 if unsigned else pl.Int64)


def range_of(unsigned: bool) -> tuple[int, int]:
    """Give the least and the largest whole number of 64 bits."""
    return (0, 2**64 - 1) if unsigned else (-(2**63), 2**63 - 1)


def plus(column: pl.Series, number: int) -> pl.Series:
    """Give x + number as whole numbers of 128 bits."""
    return pl.select(column.cast(pl.Int128) + pl.lit(number, pl.Int128)).to_series().alias(column.name)
