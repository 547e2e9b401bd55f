from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest
from every_kind import one

from dualdiff_cli.data import TableEncoding, given_cells
from dualdiff_cli.data.encoding.date import DAY, DateColumn
from dualdiff_cli.errors import InputError

RNG = np.random.default_rng(0)
START = dt.datetime(2023, 1, 2)


def moments(microseconds: np.ndarray) -> pl.Series:
    return pl.Series("t", [START + dt.timedelta(microseconds=int(m)) for m in microseconds])


def fitted(column: pl.Series) -> DateColumn:
    return DateColumn.fit(column, standardise=True)


@pytest.mark.parametrize("unit", [DAY, DAY // 24, 60_000_000, 1_000_000, 1_000, 1])
def test_the_coarsest_unit_is_found_and_every_drawn_moment_is_a_multiple_of_it(unit: int) -> None:
    column = moments(RNG.integers(0, 700, 500) * unit)
    encoding = fitted(column)
    assert encoding.unit == unit
    drawn = encoding.series(encoding.values(RNG.normal(size=(200, encoding.width))))
    assert set(drawn.cast(pl.Int64) % unit) == {0}


def test_days_of_the_week_that_the_training_rows_lack_are_never_drawn() -> None:
    days = [START.date() + dt.timedelta(int(d)) for d in RNG.integers(0, 700, 700)]
    column = pl.Series("d", [d for d in days if d.weekday() < 5])
    encoding = fitted(column)
    assert encoding.weekday is not None
    drawn = encoding.series(encoding.values(2 * RNG.normal(size=(2000, encoding.width))))
    assert drawn.dtype == pl.Date
    assert set(drawn.dt.weekday()) == {1, 2, 3, 4, 5}
    assert encoding.series(encoding.values(encoding.encode(column, RNG))).equals(column)


@pytest.mark.parametrize("dtype", [pl.Date, pl.Datetime("us")])
def test_weekly_dates_are_weeks_of_one_weekday_and_can_be_read_back(dtype: pl.DataType) -> None:
    column = pl.Series("d", [dt.date(2020, 1, 6) + dt.timedelta(7 * k) for k in range(150)] * 2).cast(dtype)
    rows = pl.DataFrame([column, pl.Series("x", RNG.normal(size=300))])
    encoding = TableEncoding.read(TableEncoding.fit(rows).model_dump(mode="json"))
    assert encoding.decode(encoding.encode(rows, RNG))["d"].equals(column)
    drawn = encoding.decode(2 * RNG.normal(size=(500, encoding.width)))["d"]
    assert drawn.dtype == dtype
    assert set(drawn.dt.weekday()) == {1}
    assert drawn.n_unique() > 100
    assert encoding.columns[0].summary == "date, in weeks"
    with pytest.raises(InputError, match="'d' cannot be 2020-01-07"):
        given_cells(encoding, {"d": "2020-01-07"})


def test_the_resolution_is_the_distance_of_neighbouring_days() -> None:
    """So that ties of one day can be spread over the day where nearest neighbours are counted."""
    days = pl.Series("d", [dt.date(2024, 1, 1) + dt.timedelta(days=k) for k in range(700)])
    encoding = fitted(days)
    first, second = encoding.encode(days[:2], None)[:, 0]
    assert encoding.resolution == pytest.approx(second - first)
    assert encoding.resolution > 0


def test_equally_frequent_days_of_the_week_are_no_feature() -> None:
    column = pl.Series("d", [START.date() + dt.timedelta(int(d)) for d in RNG.integers(0, 700, 1000)])
    assert fitted(column).weekday is None


@pytest.mark.parametrize("dtype", [pl.Date, pl.Datetime("us")])
def test_two_dates_only_come_back_as_they_are(dtype: pl.DataType) -> None:
    column = pl.Series("t", [dt.datetime(2024, 1, 5), dt.datetime(1999, 12, 31)] * 20).cast(dtype)
    encoding = one("t", column)
    frame = pl.DataFrame([column, pl.Series("beside", np.zeros(40))])
    assert encoding.decode(encoding.encode(frame, RNG))["t"].equals(column)


def test_the_last_day_of_the_year_9999_is_a_point_mass_among_ordinary_dates() -> None:
    days = [START.date() + dt.timedelta(int(d)) for d in RNG.integers(0, 700, 500)]
    column = pl.Series("valid_until", [dt.date(9999, 12, 31)] * 100 + days)
    encoding = TableEncoding.fit(pl.DataFrame([column]))
    assert encoding.decode(encoding.encode(pl.DataFrame([column]), RNG))["valid_until"].equals(column)


def test_moments_whose_microseconds_float64_cannot_hold_stay_exact() -> None:
    late = dt.datetime(2300, 1, 1, microsecond=1)
    column = pl.Series("t", [late + dt.timedelta(microseconds=int(m)) for m in RNG.integers(0, 10**6, 100)])
    encoding = fitted(column)
    assert encoding.series(encoding.values(encoding.encode(column, RNG))).equals(column)


@pytest.mark.parametrize("sentinels", [1, 100])
def test_moments_that_are_too_far_apart_for_microseconds_are_learnt_in_milliseconds(sentinels: int) -> None:
    last = pl.Series("t", [dt.datetime.max] * sentinels)
    column = pl.concat([last, moments(RNG.integers(0, 10**15, 500))])
    encoding = TableEncoding.fit(pl.DataFrame([column]))
    back = encoding.decode(encoding.encode(pl.DataFrame([column]), RNG))["t"]
    assert back.equals(column.dt.truncate("1ms"))
    assert encoding.columns[0].summary.startswith("date, in milliseconds")


@pytest.mark.parametrize("number", [-1e300, -1e18, 1e18, 1e300])
def test_a_drawn_moment_outside_the_calendar_becomes_its_first_or_last_second(number: float) -> None:
    encoding = fitted(pl.Series("t", [START + dt.timedelta(seconds=int(s)) for s in RNG.integers(0, 10**7, 100)]))
    (drawn,) = encoding.series(np.array([number]))
    assert drawn == (dt.datetime.min if number < 0 else dt.datetime.max.replace(microsecond=0))


def test_dates_before_1970_come_back() -> None:
    column = pl.Series("d", [dt.date(1900, 1, 1) + dt.timedelta(int(d)) for d in RNG.integers(0, 30_000, 300)])
    encoding = fitted(column)
    assert encoding.series(encoding.values(encoding.encode(column, RNG))).equals(column)


def test_unix_timestamps_are_whole_numbers_and_come_back_as_they_are() -> None:
    frame = pl.DataFrame({"t": 1_700_000_000 + RNG.integers(0, 10**7, 500), "ms": 10**12 + RNG.integers(0, 10**9, 500)})
    encoding = TableEncoding.fit(frame)
    assert [column.kind for column in encoding.columns] == ["integer", "integer"]
    assert encoding.decode(encoding.encode(frame, RNG)).equals(frame)
