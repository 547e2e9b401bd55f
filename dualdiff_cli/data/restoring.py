"""Values of the few types that models know, back in the types of the table that they came from; see `cells`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import polars as pl

from ..errors import InputError
from .cells import PER_SECOND
from .texts import has_decimal_commas, split_unit

__all__ = ["in_type", "put_back"]

STYLE_ROWS = 100
"""The number of texts that show how a column writes its values."""
DAYS = (
    "%Y-%m-%d",
    *(form.replace(".", mark) for form in ("%d.%m.%Y", "%m.%d.%Y", "%Y.%m.%d") for mark in "./-"),
    *(form.replace(".", mark) for form in ("%-d.%-m.%Y", "%-m.%-d.%Y", "%Y.%-m.%-d") for mark in "./-"),
)
"""How a day may be written; of two ways that suit equally well, the first is taken."""
TIMES = {
    "T%H:%M:%S%.f": "1us",
    " %H:%M:%S%.f": "1us",
    "T%H:%M": "1m",
    " %H:%M": "1m",
    " %-H:%M": "1m",
    "": "1d",
    **{f" {hour}:%M{half}": "1m" for hour in ("%I", "%-I") for half in (" %p", "%p", " %P", "%P")},
    **{f" {hour}:%M:%S{half}": "1s" for hour in ("%I", "%-I") for half in (" %p", "%p", " %P", "%P")},
}
"""How a time of day may be written behind a day, and the unit that this keeps."""
ZONE = r":.*(Z|[+-]\d\d:?\d\d)$"
"""The end of a moment with a zone."""


def put_back(original: pl.Series, observed: pl.Series, filled: pl.Series, *, decimal_comma: bool = False) -> pl.Series:
    """Put drawn cells into the gaps of a column, which keeps its type and its other cells bit for bit.

    Args:
        original: n cells as the table has them; a gap may be null, NaN or a text such as NA. Drawn cells of a column
            of texts are written as its other cells are.
        observed: the same cells in the type of the model; a gap is null.
        filled: the same cells with the drawn ones in the gaps; what is still null stays as it was.
        decimal_comma: whether the texts of the file are known to use the comma as the decimal separator.

    Raises:
        InputError: a drawn value is none of the column's type.

    """
    gaps = observed.is_null() & filled.is_not_null()
    if original.dtype == pl.Null:  # a column without any cell has no type to keep
        original = original.cast(filled.dtype)
    drawn = pl.select(pl.when(gaps).then(filled)).to_series().alias(original.name)
    if original.dtype == pl.String:
        drawn = _as_text(drawn, original, observed, decimal_comma or has_decimal_commas(original))
    else:
        drawn = in_type(drawn, original.dtype)
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


def _as_text(values: pl.Series, texts: pl.Series, observed: pl.Series, decimal_comma: bool) -> pl.Series:
    """Write values, some of which may be missing, as a column writes the texts of most of its observed values."""
    known = observed.is_not_null()
    texts, observed = (column.filter(known).head(STYLE_ROWS) for column in (texts, observed))
    zone = "Z" if texts.str.contains(ZONE).any() else ""
    split = split_unit(texts.str.strip_chars()) if values.dtype.is_numeric() else None
    ways = _ways(values, zone, decimal_comma)
    if split:
        ways = [partial(_with_unit, way, split.before, split.behind) for way in ways]
    return max(ways, key=lambda way: (way(observed) == texts).sum())(values)


def _ways(values: pl.Series, zone: str, decimal_comma: bool) -> list[Callable[[pl.Series], pl.Series]]:
    """Give the ways to write values that lose nothing of them."""
    if values.dtype.is_temporal():
        times = [""]
        if values.dtype != pl.Date:
            kept = [time for time, unit in TIMES.items() if (values.dt.truncate(unit) == values).all()]
            times = [time and time + zone for time in kept]
        return [partial(_in_form, form=day + time) for day in DAYS for time in times]
    if values.dtype == pl.Boolean:
        return [
            lambda x: x.cast(pl.String),
            lambda x: x.cast(pl.String).str.to_titlecase(),
            lambda x: x.cast(pl.String).str.to_uppercase(),
        ]
    if decimal_comma and values.dtype.is_float():
        return [lambda x: x.cast(pl.String).str.replace(".", ",", literal=True)]
    return [lambda x: x.cast(pl.String)]


def _with_unit(way: Callable[[pl.Series], pl.Series], before: str, behind: str, values: pl.Series) -> pl.Series:
    """Write numbers with a unit; a minus sign stands before the sign of a currency."""
    sign = pl.select(pl.when(values < 0).then(pl.lit("-")).otherwise(pl.lit(""))).to_series()
    return sign + before + way(values.abs()) + behind


def _in_form(moments: pl.Series, form: str) -> pl.Series:
    return moments.dt.to_string(form)


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
