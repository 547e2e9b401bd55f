"""Columns as files hold them, converted to the few types that the project works with.

These types are Int64, UInt64 (only where a value needs it), Float64 (finite), Boolean, String, Date, and Datetime in
microseconds without a time zone. A missing cell is null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import NamedTuple

import polars as pl

__all__ = [
    "LARGEST",
    "LARGEST_EXACT",
    "MISSING_MARKS",
    "PER_SECOND",
    "TidyColumn",
    "UnusableColumn",
    "has_decimal_commas",
    "parse_text",
    "tidy",
    "without_marks",
]

LARGEST = 1e140
"""The largest number that a column may hold: the sum of the squares of a billion such numbers is still finite."""
LARGEST_EXACT = 2**53
"""Float64 holds all whole numbers up to here."""
MISSING_MARKS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
"""The texts that stand for a missing cell."""

_WHOLE = r"^[+-]?[0-9]+$"
_LEADING_ZERO = r"^[+-]?0[0-9]"
_THOUSANDS_COMMA = r"^[+-]?(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?$"
_THOUSANDS_POINT = r"^[+-]?(?:[1-9][0-9]{0,2}(?:\.[0-9]{3})+|[0-9]+)$"
_DECIMAL_COMMA = r"^[+-]?(?:(?:[0-9]+|[1-9][0-9]{0,2}(?:\.[0-9]{3})+)(?:,[0-9]*)?|,[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_DATE = r"^([0-9]{4}-[0-9]{2}-[0-9]{2})"
_TIME = (
    r"(?:[T ]([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?"
    r"(?:\s?([AaPp][Mm]))?\s?(Z|[+-][0-9]{2}:?[0-9]{2})?)?$"
)
_LOCAL_DATE = r"^([0-9]{1,4})([./-])([0-9]{1,2})([./-])([0-9]{1,4})([T ].*)?$"
_DATE_ORDERS = {"day, month, year": "dmy", "month, day, year": "mdy", "year, month, day": "ymd"}
_MICROSECOND = pl.Datetime("us")
PER_SECOND = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DAY = 86_400
_FIRST_DAY, _LAST_DAY = (day.toordinal() - date(1970, 1, 1).toordinal() for day in (date.min, date.max))
"""The calendar from the year 1 to the year 9999, in days since 1970."""
_FEW_DECIMALS = 4
"""Numbers of 32 bits with so many decimals, as people write them, are read as the decimals that they stand for."""
_MOSTLY = 0.9
"""If this share of the values of a text column are numbers, the note on the column shows a value that is none."""


class TidyColumn(NamedTuple):
    """A converted column, and a sentence about the conversion where the user should know of it."""

    values: pl.Series
    note: str = ""


class UnusableColumn(Exception):  # noqa: N818 - its text is half a sentence that follows the column's name
    """A column has a type or values that no supported type can hold."""


def tidy(column: pl.Series, *, decimal_comma: bool = False) -> TidyColumn:
    """Convert a column of any type.

    Args:
        column: n values; numbers, dates and truth values in a column of texts are recognised if all values are such.
        decimal_comma: whether the texts of the file are known to use the comma as the decimal separator.

    Raises:
        UnusableColumn: the type holds no single values, a whole number needs more than 64 bits, a value is infinite, or
            a date lies outside the years 1 to 9999.

    """
    base = column.dtype.base_type()
    if base == pl.String:
        return parse_text(column, decimal_comma=decimal_comma)
    if base.is_integer():
        return _whole_numbers(column)
    if base.is_float():
        return _from_float(column)
    if base not in _CONVERSIONS:
        raise UnusableColumn(f"is of type {column.dtype}")
    return _CONVERSIONS[base](column)


def parse_text(column: pl.Series, *, decimal_comma: bool = False) -> TidyColumn:
    """Recognise what a column of texts holds; see `tidy`."""
    text = without_marks(column)
    trimmed = text.str.strip_chars()
    bare = trimmed.drop_nulls()
    if bare.is_empty():
        return TidyColumn(text)
    if bare.str.contains(_WHOLE).all():
        if bare.str.contains(_LEADING_ZERO).any():
            return TidyColumn(text, f"Column '{column.name}' has numbers with leading zeros and is read as text.")
        return _whole_numbers(trimmed)
    numbers = _decimal_numbers(trimmed, decimal_comma=decimal_comma)
    if found := numbers or _truth_values(trimmed) or _moments(trimmed) or _local_dates(trimmed):
        return found
    with_commas = bare.str.contains(_DECIMAL_COMMA) | bare.str.contains(_THOUSANDS_COMMA)
    others = bare.filter(bare.cast(pl.Float64, strict=False).is_null() & ~with_commas)
    if others.is_empty():
        return TidyColumn(
            text,
            f"Column '{column.name}' is read as text, because its numbers have commas that do not go together: "
            "some between thousands, others as decimal commas.",
        )
    if len(others) <= (1 - _MOSTLY) * len(bare):
        are = "is no number" if len(others) == 1 else "are no numbers"
        example = str(others[0])[:40]
        return TidyColumn(
            text,
            f"Column '{column.name}' is read as text, because {len(others):,} of its {len(bare):,} values {are}, "
            f"such as '{example}'.",
        )
    return TidyColumn(text)


def has_decimal_commas(column: pl.Series, *, or_thousands: bool = False) -> bool:
    """Say whether all values of a column of texts are numbers, and some have a decimal comma.

    Args:
        column: n texts.
        or_thousands: whether numbers such as 1,234 count, whose comma may also stand between thousands.

    """
    if not column.str.contains(",", literal=True).any():
        return False
    bare = without_marks(column).drop_nulls().str.strip_chars()
    thousands = bool(bare.str.contains(_THOUSANDS_COMMA).all())
    return bool(bare.str.contains(_DECIMAL_COMMA).all()) and (or_thousands or not thousands)


def without_marks(column: pl.Series) -> pl.Series:
    """Give a column of texts in which those that stand for a missing cell are null."""
    return column.set(column.str.strip_chars().is_in(list(MISSING_MARKS)), None)


def _complete(values: pl.Series, column: pl.Series) -> bool:
    """Say whether every cell of a column became a value."""
    return values.null_count() == column.null_count()


def _whole_numbers(column: pl.Series) -> TidyColumn:
    """Convert whole numbers, or texts of whole numbers, to the first type that holds all of them."""
    for dtype in (pl.Int64, pl.UInt64):
        numbers = column.cast(dtype, strict=False)
        if _complete(numbers, column):
            return TidyColumn(numbers)
    raise UnusableColumn("has whole numbers that need more than 64 bits")


def _decimal_numbers(text: pl.Series, *, decimal_comma: bool) -> TidyColumn | None:
    """Parse numbers with a decimal point, with a decimal comma, or with commas or points between thousands."""
    numbers = text.cast(pl.Float64, strict=False)
    point_groups = decimal_comma and bool(text.str.contains(_THOUSANDS_POINT).all())
    if _complete(numbers, text) and not point_groups:
        return TidyColumn(_finite(numbers))
    for form in (_DECIMAL_COMMA, _THOUSANDS_COMMA) if decimal_comma else (_THOUSANDS_COMMA, _DECIMAL_COMMA):
        if text.str.contains(form).all():
            return _without_commas(text, decimal_comma=form == _DECIMAL_COMMA)
    return None


def _without_commas(text: pl.Series, *, decimal_comma: bool) -> TidyColumn | None:
    """Parse numbers with a decimal comma, or with commas between thousands."""
    plain = text.str.replace_all("." if decimal_comma else ",", "", literal=True)
    plain = plain.str.replace(",", ".", literal=True)
    note = "" if decimal_comma else f"The numbers of column '{text.name}' have commas between thousands."
    for dtype in (pl.Int64, pl.Float64):
        numbers = plain.cast(dtype, strict=False)
        if _complete(numbers, text):
            return TidyColumn(numbers if dtype == pl.Int64 else _finite(numbers), note)
    return None


def _truth_values(text: pl.Series) -> TidyColumn | None:
    lower = text.str.to_lowercase()
    return TidyColumn(lower == "true") if lower.drop_nulls().is_in(["true", "false"]).all() else None


def _moments(text: pl.Series) -> TidyColumn | None:
    """Parse ISO dates, or ISO dates with a time of day; what has an offset is converted to UTC."""
    if not text.str.contains(_DATE + _TIME).all():
        return None
    days = text.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    if not _complete(days, text) or _beyond_calendar(days.to_physical()):
        return None
    if (text.str.len_bytes() == 10).all():
        return TidyColumn(days)
    parts = text.str.extract_groups(_DATE + _TIME).struct.unnest()
    parts.columns = ["day", "h", "min", "s", "f", "half", "zone"]
    hours, minutes, seconds = (parts[name].cast(pl.Int64).fill_null(0) for name in ("h", "min", "s"))
    half = parts["half"].str.to_lowercase()
    if (hours > 23).any() or (minutes > 59).any() or (seconds > 59).any() or not _of_half_days(hours, half):
        return None
    # 12 AM is midnight, and 12 PM is noon.
    hours = hours.zip_with(half.is_null(), hours % 12 + 12 * (half == "pm").cast(pl.Int64))
    fraction = parts["f"].str.pad_end(6, "0").str.slice(0, 6).cast(pl.Int64).fill_null(0)
    offset = _offset_minutes(parts["zone"])
    whole_minutes = (days.cast(pl.Int64) * 24 + hours) * 60 + minutes - offset
    if _beyond_calendar(whole_minutes // (24 * 60)):
        return None
    moments = ((whole_minutes * 60 + seconds) * 1_000_000 + fraction).cast(_MICROSECOND)
    zones = parts["zone"].drop_nulls()
    note = "" if zones.is_in(["Z"]).all() else f"The times of column '{text.name}' have an offset and are read as UTC."
    return TidyColumn(moments.alias(text.name), note)


def _of_half_days(hours: pl.Series, half: pl.Series) -> bool:
    """Say whether all hours that are followed by AM or PM are from 1 to 12."""
    return bool(hours.filter(half.is_not_null()).is_between(1, 12).all())


def _local_dates(text: pl.Series) -> TidyColumn | None:
    """Parse dates such as 31.12.2024 or 12/31/2024, with or without a time of day, if all values have one order."""
    parts = text.str.extract_groups(_LOCAL_DATE).struct.unnest()
    parts.columns = ["a", "mark", "b", "other", "c", "time"]
    if not _complete(parts["a"], text) or (parts["mark"] != parts["other"]).any():
        return None
    found = {}
    for words, order in _DATE_ORDERS.items():
        of = {letter: parts[name] for letter, name in zip(order, "abc", strict=True)}
        iso = of["y"] + "-" + of["m"].str.zfill(2) + "-" + of["d"].str.zfill(2) + parts["time"].fill_null("")
        if (of["y"].str.len_bytes() == 4).all() and (moments := _moments(iso.alias(text.name))):
            found[words] = moments
    if not found:
        return None
    example = str(text.drop_nulls()[0])
    if len(found) > 1 and "." not in example:  # with points the day comes first
        return TidyColumn(
            text,
            f"Column '{text.name}' is read as text, because its values, such as {example}, do not say whether the day "
            "or the month comes first. Write dates as 2024-12-31.",
        )
    words, moments = next(iter(found.items()))
    return moments._replace(
        note=f"The dates of column '{text.name}', such as {example}, are read as {words}; `sample` writes them as "
        "2024-12-31."
    )


def _offset_minutes(zone: pl.Series) -> pl.Series:
    """Give the minutes by which a local time is ahead of UTC."""
    digits = zone.str.replace(":", "", literal=True)
    hours, minutes = (digits.str.slice(i, 2).cast(pl.Int64, strict=False).fill_null(0) for i in (1, 3))
    sign = 1 - 2 * zone.str.starts_with("-").fill_null(False).cast(pl.Int64)
    return sign * (hours * 60 + minutes)


def _finite(numbers: pl.Series) -> pl.Series:
    infinite = int(numbers.is_infinite().sum())
    if infinite:
        raise UnusableColumn(f"has {infinite:,} infinite value{'' if infinite == 1 else 's'}")
    numbers = numbers.fill_nan(None)
    if (numbers.abs() > LARGEST).any():
        raise UnusableColumn(f"has values beyond {LARGEST:g}, whose squares are too large for a floating-point number")
    return numbers


def _from_float(column: pl.Series) -> TidyColumn:
    numbers = column.cast(pl.Float64)
    if column.dtype == pl.Float32:  # 12.34 is 12.3400001526 there, which would be no multiple of 0.01
        # The text of a large whole number has only its first digits.
        written = numbers.zip_with(numbers == numbers.round(), column.cast(pl.String).cast(pl.Float64))
        if (written.round(_FEW_DECIMALS) == written).all():
            numbers = written
    return TidyColumn(_finite(numbers))


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
    if _beyond_calendar(days):
        raise UnusableColumn("has dates outside the years 1 to 9999")


def _beyond_calendar(days: pl.Series) -> bool:
    return bool(((days < _FIRST_DAY) | (days > _LAST_DAY)).any())


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
