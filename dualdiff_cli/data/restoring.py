"""Values of the few types that models know, back in the types of the table that they came from; see `cells`."""

from __future__ import annotations

import warnings

import polars as pl

from ..errors import InputError
from .cells import PER_SECOND

__all__ = ["in_type", "put_back"]


def put_back(original: pl.Series, observed: pl.Series, filled: pl.Series) -> pl.Series:
    """Put drawn cells into the gaps of a column, which keeps its type and its other cells bit for bit.

    Args:
        original: n cells as the table has them; a gap may be null, NaN or a text such as NA.
        observed: the same cells in the type of the model; a gap is null.
        filled: the same cells with the drawn ones in the gaps; what is still null stays as it was.

    Raises:
        InputError: a drawn value is none of the column's type.

    """
    gaps = observed.is_null() & filled.is_not_null()
    if original.dtype == pl.Null:  # a column without any cell has no type to keep
        original = original.cast(filled.dtype)
    drawn = in_type(pl.select(pl.when(gaps).then(filled)).to_series().alias(original.name), original.dtype)
    return pl.select(pl.when(gaps).then(drawn).otherwise(original).alias(original.name)).to_series()


def in_type(values: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Give values, some of which may be missing, another type; a fraction is rounded, with a warning, to an integer.

    Raises:
        InputError: the type has no place for a value.

    """
    found = _cast(values, dtype)
    lost = found.is_null() & values.is_not_null()
    if lost.any():
        raise InputError(
            f"The column '{values.name}' of the table has the type {dtype}, which has no place for the drawn value "
            f"{values.filter(lost)[0]}.",
            f"Give the column the type {values.dtype}, which the model has learnt.",
        )
    if dtype.is_integer() and values.dtype.is_float() and (values != values.round()).any():
        warnings.warn(
            f"The drawn values of the column '{values.name}' are rounded to whole numbers, because the table has it as "
            f"{dtype}, and the model has learnt {values.dtype}.",
            stacklevel=2,
        )
    return found


def _cast(values: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Give values another type; null where there is no such value."""
    if values.dtype == dtype:
        return values
    if isinstance(dtype, pl.Duration):  # the model knows seconds
        return (values * PER_SECOND[dtype.time_unit]).round().cast(pl.Int64, strict=False).cast(dtype)
    if isinstance(dtype, pl.Time):  # the model knows seconds after midnight
        return (values * 1e9).round().clip(0, 86_400e9 - 1).cast(pl.Int64).cast(dtype)
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:  # the model knows UTC
        moments = values.cast(pl.Datetime("us")).dt.replace_time_zone("UTC").dt.convert_time_zone(dtype.time_zone)
        return moments.cast(dtype, strict=False)
    if values.dtype.is_float() and (dtype.is_integer() or isinstance(dtype, pl.Decimal)):
        values = values.round(dtype.scale if isinstance(dtype, pl.Decimal) else 0)
    return values.cast(dtype, strict=False)
