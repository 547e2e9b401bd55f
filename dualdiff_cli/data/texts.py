"""What a column of texts holds: numbers, truth values, dates, moments, or words."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from .tidied import TidyColumn, beyond_calendar, complete, finite, whole_numbers

__all__ = [
    "MISSING_MARKS",
    "Quantities",
    "has_decimal_commas",
    "has_three_decimals_only",
    "parse_text",
    "split_unit",
    "without_marks",
]

MISSING_MARKS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
"""The texts that stand for a missing cell."""

_WHOLE = r"^[+-]?[0-9]+$"
_LEADING_ZERO = r"^[+-]?0[0-9]"
_THOUSANDS_COMMA = r"^[+-]?(?:(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_THOUSANDS_POINT = r"^[+-]?(?:[1-9][0-9]{0,2}(?:\.[0-9]{3})+|[0-9]+)$"
_DECIMAL_COMMA = r"^[+-]?(?:(?:[0-9]+|[1-9][0-9]{0,2}(?:\.[0-9]{3})+)(?:,[0-9]*)?|,[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_DATE = r"^([0-9]{4}-[0-9]{2}-[0-9]{2})"
_TIME = (
    r"(?:[T ]([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?"
    r"(?:\s?([AaPp][Mm]))?\s?(Z|[+-][0-9]{2}:?[0-9]{2})?)?$"
)
_LOCAL_DATE = r"^([0-9]{1,4})([./-])([0-9]{1,2})([./-])([0-9]{1,4})([T ].*)?$"
_DATE_ORDERS = {"day, month, year": "dmy", "month, day, year": "mdy", "year, month, day": "ymd"}
_QUANTITY = r"^([+-]?)([$€£¥₹]\s?)?([0-9.,]*[0-9][.,]?)(\s?[\p{L}%‰$€£¥₹°][\p{L}%‰°/²³]*)?$"
_LEAST_QUANTITIES = 10
"""With fewer different values, texts such as '2 doors' are more likely names than numbers with a unit."""
_MICROSECOND = pl.Datetime("us")
_MOSTLY = 0.9
"""If this share of the values of a text column are numbers or dates, the note on the column shows one that is none."""


def parse_text(column: pl.Series, *, decimal_comma: bool = False, learnt: pl.DataType | None = None) -> TidyColumn:
    """Recognise what a column of texts holds.

    Args:
        column: n texts.
        decimal_comma: whether the texts of the file are known to use the comma as the decimal separator.
        learnt: the type of the column that a model has learnt: numbers with a unit are numbers only if numbers were
            learnt, and where texts were learnt only whole numbers are no texts. None where the column is not known.

    Raises:
        UnusableColumn: a whole number needs more than 64 bits, or a number is infinite or too large.

    """
    text = without_marks(column)
    trimmed = text.str.strip_chars()
    bare = trimmed.drop_nulls()
    if bare.is_empty():
        return TidyColumn(text)
    if bare.str.contains(_WHOLE).all() and bare.str.contains(_LEADING_ZERO).any():
        return TidyColumn(text, f"Column '{column.name}' has numbers with leading zeros and is read as text.")
    # Whole numbers in place of texts may have lost leading zeros; `with_types` refuses them only as numbers.
    if learnt == pl.String and not bare.str.contains(_WHOLE).all():
        return TidyColumn(text)
    numbers = _numbers(trimmed, decimal_comma=decimal_comma)
    if found := numbers or _truth_values(trimmed) or _moments(trimmed) or _local_dates(trimmed):
        return found
    with_unit = bare.n_unique() >= _LEAST_QUANTITIES if learnt is None else learnt.is_numeric()
    if with_unit and (found := _quantities(trimmed, decimal_comma=decimal_comma)):
        return found
    with_commas = bare.str.contains(_DECIMAL_COMMA) | bare.str.contains(_THOUSANDS_COMMA)
    others = bare.filter(bare.cast(pl.Float64, strict=False).is_null() & ~with_commas)
    if others.is_empty():
        decimal = bare.str.contains(_DECIMAL_COMMA) & ~bare.str.contains(_THOUSANDS_COMMA)
        note = (
            f"Column '{column.name}' is read as text, because its numbers have commas that do not go together: some "
            "between thousands, others as decimal commas."
        )
        return TidyColumn(text, note if decimal.any() else "")
    return TidyColumn(text, _note_on_few_others(bare, others))


def _note_on_few_others(text: pl.Series, no_numbers: pl.Series) -> str:
    """Show a value that is no number, no date or no number with a unit where most of n texts are; nothing elsewhere."""
    dates, quantities = text.str.contains(_LOCAL_DATE), text.str.contains(_QUANTITY)
    n, least = len(text), _MOSTLY * len(text)
    if len(no_numbers) <= (1 - _MOSTLY) * n:
        others, one, many = no_numbers, "number", "numbers"
    elif least <= dates.sum() < n and (_moments(text.filter(dates)) or _local_dates(text.filter(dates))):
        others, one, many = text.filter(~dates), "date", "dates"
    elif least <= quantities.sum() < n and _has_unit(text.filter(quantities)):
        others, one, many = text.filter(~quantities), "number with a unit", "numbers with a unit"
    else:
        return ""
    are = f"is no {one}" if len(others) == 1 else f"are no {many}"
    example = str(others[0])[:40]
    return (
        f"Column '{text.name}' is read as text, because {len(others):,} of its {n:,} values {are}, such as '{example}'."
    )


def _has_unit(text: pl.Series) -> bool:
    """Say whether texts are numbers with one unit, and enough of them are different."""
    if text.n_unique() < _LEAST_QUANTITIES or (split := split_unit(text)) is None:
        return False
    return bool((split.numbers.str.contains(_DECIMAL_COMMA) | split.numbers.str.contains(_THOUSANDS_COMMA)).all())


def has_decimal_commas(column: pl.Series, *, or_thousands: bool = False) -> bool:
    """Say whether all values of a column of texts are numbers, perhaps with a unit, and some have a decimal comma.

    Args:
        column: n texts.
        or_thousands: whether numbers such as 1,234 count, whose comma may also stand between thousands.

    """
    if not column.str.contains(",", literal=True).any():
        return False
    bare = without_marks(column).drop_nulls().str.strip_chars()
    if split := split_unit(bare):
        bare = split.numbers
    thousands = bool(bare.str.contains(_THOUSANDS_COMMA).all())
    return bool(bare.str.contains(_DECIMAL_COMMA).all()) and (or_thousands or not thousands)


def has_three_decimals_only(column: pl.Series) -> bool:
    """Say whether all values of a column of texts are numbers such as 1.234, whose points may stand between thousands.

    Numbers without a point count if others have one.
    """
    bare = without_marks(column).drop_nulls().str.strip_chars()
    return bool(bare.str.contains(_THOUSANDS_POINT).all() and bare.str.contains(".", literal=True).any())


def without_marks(column: pl.Series) -> pl.Series:
    """Give a column of texts in which those that stand for a missing cell are null."""
    return column.set(column.str.strip_chars().is_in(list(MISSING_MARKS)), None)


def _numbers(text: pl.Series, *, decimal_comma: bool) -> TidyColumn | None:
    """Parse whole numbers, or numbers with a decimal point, a decimal comma, or commas or points between thousands."""
    if text.str.contains(_WHOLE).all():
        return whole_numbers(text)
    numbers = text.cast(pl.Float64, strict=False)
    point_groups = decimal_comma and bool(text.str.contains(_THOUSANDS_POINT).all())
    if complete(numbers, text) and not point_groups:
        return TidyColumn(finite(numbers))
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
        if complete(numbers, text):
            return TidyColumn(numbers if dtype == pl.Int64 else finite(numbers), note)
    return None


class Quantities(NamedTuple):
    """A column of numbers that all have the same unit, or the same sign of a currency before them.

    Attributes:
        numbers: n texts of numbers, without the unit.
        before, behind: what stands before and behind each number.

    """

    numbers: pl.Series
    before: str
    behind: str


def split_unit(text: pl.Series) -> Quantities | None:
    """Part a column of trimmed texts such as '12.5 %' or '-$3' into numbers and a unit; None for another column."""
    parts = text.str.extract_groups(_QUANTITY).struct.unnest()
    parts.columns = ["sign", "before", "number", "behind"]
    if not complete(parts["number"], text) or parts["number"].str.contains(_LEADING_ZERO).any():
        return None
    known = parts.filter(parts["number"].is_not_null())
    units = known.select(pl.col("before", "behind").fill_null("")).unique().rows()
    if len(units) != 1 or units == [("", "")]:
        return None
    return Quantities((parts["sign"] + parts["number"]).alias(text.name), *units[0])


def _quantities(text: pl.Series, *, decimal_comma: bool) -> TidyColumn | None:
    """Parse numbers with a unit."""
    if (split := split_unit(text)) is None or (found := _numbers(split.numbers, decimal_comma=decimal_comma)) is None:
        return None
    example, unit = text.drop_nulls()[0], (split.before + split.behind).strip()
    note = (
        f"The values of column '{text.name}', such as '{example}', are read as numbers, without the '{unit}'; "
        "`sample` writes them so."
    )
    return found._replace(note=" ".join(filter(None, (note, found.note))))


def _truth_values(text: pl.Series) -> TidyColumn | None:
    lower = text.str.to_lowercase()
    return TidyColumn(lower == "true") if lower.drop_nulls().is_in(["true", "false"]).all() else None


def _moments(text: pl.Series) -> TidyColumn | None:
    """Parse ISO dates, or ISO dates with a time of day; what has an offset is converted to UTC."""
    if not text.str.contains(_DATE + _TIME).all():
        return None
    days = text.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    if not complete(days, text) or beyond_calendar(days.to_physical()):
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
    if beyond_calendar(whole_minutes // (24 * 60)):
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
    if not complete(parts["a"], text) or (parts["mark"] != parts["other"]).any():
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
