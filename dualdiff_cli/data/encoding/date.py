"""Dates and times: whole numbers of the coarsest unit that all of them are multiples of.

Moments with microseconds that lie more than 285 years apart, such as a last moment of the calendar that stands for
"never" beside others, are more units apart than float64 can count. They are learnt, and drawn, in milliseconds.

If the days of the week occur unequally often, the day of the week is a category of its own, and a number says which
week it is, so that no shop sells on its day of rest. If all of many dates are of one weekday, the number counts weeks.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from ..arrays import FloatArray
from ..tidied import LARGEST_EXACT
from .category import CategoryColumn
from .choosing import fit_column
from .wrapped import WrappedColumn

__all__ = ["DateColumn"]

SECOND = 1_000_000
DAY = 86_400 * SECOND
WEEK = 7 * DAY
UNITS = (DAY, 3_600 * SECOND, 60 * SECOND, SECOND, 1_000, 1)
"""The units of time that are tried, in microseconds."""
FIRST, LAST = (
    (moment - datetime(1970, 1, 1)) // timedelta(seconds=1) * SECOND for moment in (datetime.min, datetime.max)
)
"""The calendar, from the first second of the year 1 to the last one of the year 9999, in microseconds since 1970."""
LAST_MILLISECOND = LAST + SECOND - 1_000
"""The last moment of the calendar that is drawn. Float64 may round one of its last microseconds to the year 10000."""
DISTANT = 1e-9
"""The probability, under equally frequent days of the week, below which the days count as unequal."""


class DateColumn(WrappedColumn):
    """t = phase + unit·(weeks·7·day + weekday·day + rest) since 1970, where only the parts that matter are features.

    Attributes:
        inner: the encoding of the number of units, or of the number of weeks where there is a ``weekday``. In that case
            a unit is a week for dates, and the time of the day is part of the number.
        weekday: the encoding of the day of the week, from 0 to 6; None where the days are equally frequent.
        unit: the unit in microseconds.
        phase: what is left of every date over the unit, in microseconds; more than 0 only where the unit is a week.
        has_time: whether the column is of dates with times.

    """

    kind: Literal["date"] = "date"
    weekday: CategoryColumn | None
    unit: int = Field(ge=1, le=WEEK)
    phase: int = Field(0, ge=0, lt=WEEK)
    has_time: bool

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuse a day of the week that there is not, and an origin far from the calendar."""
        if self.weekday is not None and not set(self.weekday.levels) <= set(range(7)):
            raise ValueError("there are seven days of the week")
        if not 2 * FIRST < self.offset < 2 * LAST:
            raise ValueError("the dates are outside the calendar")
        return self

    @property
    def beside(self) -> CategoryColumn | None:
        """The day of the week."""
        return self.weekday

    @property
    def whole(self) -> bool:
        """The decoded number counts microseconds."""
        return True

    @classmethod
    def suits(cls, column: pl.Series) -> bool:
        """Say whether the column holds dates, or dates with times."""
        return isinstance(column.dtype, pl.Date | pl.Datetime) and not column.null_count()

    @classmethod
    def fit(cls, column: pl.Series, *, standardise: bool) -> Self:
        """Find the unit and whether the day of the week matters; see `ColumnEncoding.fit`.

        What is finer than the unit is lost where moments are more than 2^53 of the next finer unit apart.
        """
        moments = _microseconds(column)
        countable = [unit for unit in UNITS if np.ptp(moments // unit) <= LARGEST_EXACT]
        unit = next((unit for unit in countable if not (moments % unit).any()), countable[-1])
        days = pl.Series(column.name, moments // DAY)
        weekday, phase = None, 0
        if unit == DAY and _weekdays_matter(days):
            if (days % 7).n_unique() > 1:
                weekday = CategoryColumn.fit(days % 7, standardise=standardise)
            else:  # a category of one value has nothing to learn
                unit, phase = WEEK, int(moments[0] % WEEK)
        number = pl.Series(column.name, (moments - phase) // (unit if weekday is None else WEEK))
        inner = fit_column(number, standardise=standardise, after="date")
        timed = column.dtype != pl.Date
        return cls(name=column.name, inner=inner, weekday=weekday, unit=unit, phase=phase, has_time=timed)

    def encode(self, column: pl.Series, rng: np.random.Generator | None) -> FloatArray:
        """Encode the number, and the day of the week where it matters; see `ColumnEncoding.encode`."""
        moments = _microseconds(column)
        if self.weekday is None:
            return self.inner.encode(pl.Series(self.name, (moments - self.phase) // self.unit), rng)
        days = pl.Series(self.name, moments // DAY)
        return np.concatenate([self.inner.encode(days // 7, rng), self.weekday.encode(days % 7, rng)], axis=1)

    def values(self, features: Any) -> Any:
        """Compute the number of microseconds since 1970."""
        number = self.inner.values(features[:, : self.inner.width])
        if self.weekday is None:
            # An exporter may round a factor to float32, which holds the microseconds of a day, and not those of a week.
            return number * 7 * float(DAY) if self.unit == WEEK else number * float(self.unit)
        place = self.weekday.values(features[:, self.inner.width :])
        day = place * 0
        for k, level in enumerate(self.weekday.levels):
            day = day + (place == k) * float(level)
        return (number * 7 + day) * float(DAY)

    def series(self, values: FloatArray) -> pl.Series:
        """Give the moments the type of the column; a moment outside the calendar becomes its first or last second."""
        units = (values / self.unit).round()  # float64 does not hold every multiple of a millisecond
        about = units * float(self.unit) + float(self.offset)
        inside = (about >= FIRST) & (about <= LAST_MILLISECOND)
        exact = np.where(inside, units, 0).astype(np.int64) * self.unit + self.offset
        moments = pl.Series(self.name, np.where(inside, exact, np.where(about > LAST, LAST, FIRST)))
        return moments.cast(pl.Datetime("us")) if self.has_time else moments.cast(pl.Datetime("us")).cast(pl.Date)

    @property
    def offset(self) -> int:
        """The offset of the number, and the phase, in microseconds."""
        return self.phase + self.inner.offset * (self.unit if self.weekday is None else WEEK)

    @property
    def summary(self) -> str:
        """Say what the unit is, and whether the day of the week is learnt."""
        words = ("weeks", "days", "hours", "minutes", "seconds", "milliseconds", "microseconds")
        names = dict(zip((WEEK, *UNITS), words, strict=True))
        weekday = ", with the day of the week" if self.weekday else ""
        return f"date, in {names.get(self.unit, 'microseconds')}{weekday}"


def _microseconds(column: pl.Series) -> Any:
    """Give the microseconds since 1970, (n,), int64."""
    return column.cast(pl.Datetime("us")).cast(pl.Int64).to_numpy()


def _weekdays_matter(days: pl.Series) -> bool:
    """Test whether the days of the week are equally frequent over more than eight weeks, with Pearson's χ²."""
    from scipy.stats import chisquare  # slow to import

    if int(days.max()) - int(days.min()) < 56:  # type: ignore[arg-type]
        return False
    counts = np.bincount((days % 7).to_numpy(), minlength=7)
    return bool(counts.sum() >= 70 and chisquare(counts).pvalue < DISTANT)
