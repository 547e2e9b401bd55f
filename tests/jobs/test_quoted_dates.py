"""Dates in conditions: texts beside columns of dates become dates, and nothing else changes."""

from __future__ import annotations

from datetime import date, datetime

import polars as pl
import pytest

from dualdiff_cli.errors import InputError
from dualdiff_cli.jobs.quoted_dates import with_typed_dates
from dualdiff_cli.jobs.selecting import Selection

TABLE = pl.DataFrame(
    {
        "day": [date(2021, 1, 1), date(2021, 4, 1), date(2021, 6, 1), None],
        "date": [datetime(2021, 1, 1, 12), datetime(2021, 4, 1), datetime(2021, 6, 1, 0, 0, 1), None],
        "the day": [date(2021, 1, 1)] * 4,
        "text": ["2021-04-01", "2021-06-01", "it's", None],
        "x": [1, 2, 3, 4],
    }
)


@pytest.mark.parametrize(
    ("predicate", "kept"),
    [
        ("day > '2021-04-01'", [3]),
        ("day >= '2021-04-01' AND x < 3", [2]),
        ("day='2021-04-01'", [2]),
        ("day <> ' 2021-04-01 '", [1, 3]),
        ("'2021-04-01' < day", [3]),
        ("NOT day != '2021-04-01'", [2]),
        ("day BETWEEN '2021-02-01' AND '2021-05-01' OR x = 4", [2, 4]),
        ("day NOT BETWEEN '2021-02-01' AND '2021-05-01'", [1, 3]),
        ("day BETWEEN DATE '2021-02-01' AND '2021-05-01'", [2]),
        ("day IN ('2021-04-01','2021-06-01')", [2, 3]),
        ("day not in ('2021-04-01', DATE '2021-06-01')", [1]),
        ("date > '2021-04-01'", [3]),
        ("date > '2021-01-01 11:59'", [1, 2, 3]),
        ("date = '2021-06-01T00:00:01'", [3]),
        ("date IN ('2021-01-01 12:00:00.000', '2021-04-01')", [1, 2]),
        ("date = '2021-01-01 13:00:00+01:00'", [1]),
        ("day > '2021-03-31 12:00:00'", [2, 3]),
        ("\"the day\" = '2021-01-01' AND text = '2021-04-01'", [1]),
        ("text > '2021-04-01' AND text <> 'it''s'", [2]),
        ("day::text > '2021-04-01'", [3]),
        ("'2021-04-01' < day::text", [3]),
        ("CAST(day AS text) < text", [1, 2, 3]),
        ("day > DATE '2021-04-01'", [3]),
        ("day > '2021-04-01'::date", [3]),
        ("DATE '2021-04-01' < day AND EXTRACT(year FROM day) = 2021", [3]),
        ("day < date", [1, 3]),
    ],
)
def test_quoted_texts_are_dates_where_they_are_compared_with_a_column_of_dates(predicate: str, kept: list[int]) -> None:
    assert pl.concat(Selection(predicate).rows(iter([TABLE]), len(kept)))["x"].to_list() == kept


@pytest.mark.parametrize(
    "predicate", ["day > '1 April'", "day IN ('1 April')", "(day) > '2021-04-01'", "day LIKE '2021%'"]
)
def test_a_text_that_is_no_date_or_stands_elsewhere_is_refused_with_what_is_to_be_typed(predicate: str) -> None:
    with pytest.raises(InputError) as caught:
        list(Selection(predicate).rows(iter([TABLE]), 1))
    assert predicate in caught.value.problem
    assert "DATE '2021-04-01'" in caught.value.remedy


@pytest.mark.parametrize(
    "predicate", ["", "day", "day =", "= day", "day IN", "day IN (", "day BETWEEN", "day NOT", "'a'"]
)
def test_what_is_no_comparison_stays_as_it_is(predicate: str) -> None:
    assert with_typed_dates(predicate, ["day"]) == predicate
