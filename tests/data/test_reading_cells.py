"""The type of a column: what texts hold, and what the types of other programs become."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dualdiff_cli.data import read_table
from dualdiff_cli.data.cells import tidy
from dualdiff_cli.data.texts import MISSING_MARKS, has_decimal_commas
from dualdiff_cli.data.tidied import UnusableColumn
from dualdiff_cli.errors import InputError

MOMENT = pl.Datetime("us")


def column(values: list[Any], dtype: Any = None) -> pl.Series:
    return pl.Series("c", values, dtype=dtype)


@pytest.mark.parametrize(
    ("texts", "values", "dtype"),
    [
        (["1", "-2", " 3 "], [1, -2, 3], pl.Int64),
        (["1", "2.5", "1e3", ".5"], [1, 2.5, 1000, 0.5], pl.Float64),
        (["9223372036854775807", "1"], [2**63 - 1, 1], pl.Int64),
        (["18446744073709551615", "1"], [2**64 - 1, 1], pl.UInt64),
        (["9007199254740993", None], [2**53 + 1, None], pl.Int64),
        (["True", "false", "TRUE"], [True, False, True], pl.Boolean),
        (["2024-02-29", "0999-01-01"], [date(2024, 2, 29), date(999, 1, 1)], pl.Date),
        (["2024-02-30", "2024-01-01"], ["2024-02-30", "2024-01-01"], pl.String),
        (["2024-02-28 23:59", "2024-01-01"], [datetime(2024, 2, 28, 23, 59), datetime(2024, 1, 1)], MOMENT),
        (["2024-01-01T01:02:03.25Z"], [datetime(2024, 1, 1, 1, 2, 3, 250_000)], MOMENT),
        (["1969-12-31T23:00:00-02:30"], [datetime(1970, 1, 1, 1, 30)], MOMENT),
        (["2024-01-01 24:00"], ["2024-01-01 24:00"], pl.String),
        (["2024-01-01 9:30"], [datetime(2024, 1, 1, 9, 30)], MOMENT),
        (["2024-01-01 12:05 AM", "2024-01-01 1:00 pm"], [datetime(2024, 1, 1, 0, 5), datetime(2024, 1, 1, 13)], MOMENT),
        (["2024-01-01 13:30 PM"], ["2024-01-01 13:30 PM"], pl.String),
        (["9999-12-31", "0001-01-01"], [date.max, date.min], pl.Date),
        (["0000-12-31"], ["0000-12-31"], pl.String),
        (["0001-01-01T00:00+01:00"], ["0001-01-01T00:00+01:00"], pl.String),
        (["yes", "no"], ["yes", "no"], pl.String),
        (["=1+1", "-x", "@a"], ["=1+1", "-x", "@a"], pl.String),
        (["00123", "01234"], ["00123", "01234"], pl.String),
        (["0", "10", "-5"], [0, 10, -5], pl.Int64),
        (["1,234", "1,234,567.5", "7"], [1234, 1234567.5, 7], pl.Float64),
        (["1,25", "2"], [1.25, 2], pl.Float64),
        (["1,25", "1,234.5"], ["1,25", "1,234.5"], pl.String),
        (["-", "-"], ["-", "-"], pl.String),
        ([None, None], [None, None], pl.String),
    ],
)
def test_what_a_column_of_texts_holds_is_recognised(texts: list[str | None], values: list[Any], dtype: Any) -> None:
    found = tidy(column(texts, pl.String)).values
    assert found.dtype == dtype
    assert found.to_list() == values


@pytest.mark.parametrize(
    ("texts", "values", "word"),
    [
        (["31.12.2024", None, "1.2.2024"], [date(2024, 12, 31), None, date(2024, 2, 1)], "day, month, year"),
        (["1.2.2024"], [date(2024, 2, 1)], "day, month, year"),
        (["31/12/2024", "01/02/2024"], [date(2024, 12, 31), date(2024, 2, 1)], "day, month, year"),
        (["12/31/2024", "01/02/2024"], [date(2024, 12, 31), date(2024, 1, 2)], "month, day, year"),
        (["2024/01/02"], [date(2024, 1, 2)], "year, month, day"),
        (["31.12.2024 23:59"], [datetime(2024, 12, 31, 23, 59)], "day, month, year"),
        (["12/31/2024 9:30 PM"], [datetime(2024, 12, 31, 21, 30)], "month, day, year"),
        (["01/02/2024"], ["01/02/2024"], "2024-12-31"),
        (["31.02.2024"], ["31.02.2024"], ""),
        (["31.12/2024"], ["31.12/2024"], ""),
    ],
)
def test_dates_of_a_country_are_read_where_the_order_of_day_and_month_is_clear(
    texts: list[str | None], values: list[Any], word: str
) -> None:
    found = tidy(column(texts, pl.String))
    assert found.values.to_list() == values
    assert word in found.note
    assert bool(found.note) == bool(word)


TEN = list(range(1, 11))


@pytest.mark.parametrize(
    ("texts", "values", "unit"),
    [
        ([f"{k}%" for k in TEN], TEN, "%"),
        ([f" {k}.5 kg" for k in TEN], [k + 0.5 for k in TEN], "kg"),
        ([f"-${k},000.50" for k in TEN], [-1000 * k - 0.5 for k in TEN], "$"),
        ([f"{k},5 €" for k in TEN], [k + 0.5 for k in TEN], "€"),
        ([f"€ {k}" for k in TEN] + ["NA"], [*TEN, None], "€"),
        ([f"{k}.25 µg/m³" for k in TEN], [k + 0.25 for k in TEN], "µg/m³"),
    ],
)
def test_numbers_with_one_unit_are_read_without_it_and_a_note_says_so(
    texts: list[str], values: list[Any], unit: str
) -> None:
    found = tidy(column(texts))
    assert found.values.to_list() == values
    assert f"such as '{texts[0].strip()}', are read as numbers, without the '{unit}'" in found.note


def test_the_learnt_type_decides_whether_numbers_with_a_unit_are_numbers() -> None:
    few, many = column(["2 kg", "3.5 kg"]), column([f"{k} kg" for k in TEN])
    assert tidy(few, learnt=pl.Float64()).values.to_list() == [2, 3.5]
    assert tidy(many, learnt=pl.String()).values.equals(many)


@pytest.mark.parametrize("texts", [["True", "False"], ["2024-01-01", "2024-01-02"], ["31.12.2024"], ["2.50", "3.00"]])
def test_learnt_texts_stay_texts_whatever_they_read_like(texts: list[str]) -> None:
    assert tidy(column(texts)).values.dtype != pl.String
    assert tidy(column(texts), learnt=pl.String()).values.to_list() == texts


def test_texts_with_commas_between_thousands_or_decimal_commas_have_a_note_only_if_both_are_there() -> None:
    assert tidy(column([".50", "1,234.50"])).values.to_list() == [0.5, 1234.5]
    assert tidy(column(["1e5", "1,234.5"])).values.to_list() == [100_000, 1234.5]
    assert "do not go together" in tidy(column(["1,25", "1,234.5"])).note


@pytest.mark.parametrize(
    "texts",
    [
        [f"{k} doors" for k in TEN[:9]],  # few values are names
        [f"{k} kg" for k in TEN] + ["3 g"],
        [f"P{k}" for k in TEN],
        [f"0{k}%" for k in TEN],
        [f"{k}.1.24 h" for k in TEN],
    ],
)
def test_texts_that_only_look_like_numbers_with_a_unit_stay_texts(texts: list[str]) -> None:
    assert tidy(column(texts)).values.to_list() == texts


@pytest.mark.parametrize(("texts", "comma", "points"), [(["1,500", "2,750"], [1.5, 2.75], [1500, 2750])])
def test_commas_before_three_digits_mean_what_the_rest_of_the_file_says(
    texts: list[str], comma: list[float], points: list[int]
) -> None:
    assert tidy(column(texts), decimal_comma=True).values.to_list() == comma
    found = tidy(column(texts))
    assert found.values.to_list() == points
    assert "thousands" in found.note


def test_points_between_thousands_are_read_where_the_file_has_decimal_commas() -> None:
    assert tidy(column(["1.234", "5"]), decimal_comma=True).values.to_list() == [1234, 5]
    assert tidy(column(["1.234.567,5", "5,25"]), decimal_comma=True).values.to_list() == [1234567.5, 5.25]
    assert tidy(column(["1.234", "5"])).values.to_list() == [1.234, 5]


@pytest.mark.parametrize(
    ("texts", "answer"),
    [
        (["1,5", "2"], True),
        (["1,500"], False),
        (["0,500"], True),
        (["a,5"], False),
        (["1.5"], False),
        (["1.234,5 €"], True),
    ],
)
def test_a_decimal_comma_is_told_from_a_comma_between_thousands(texts: list[str], answer: bool) -> None:
    assert has_decimal_commas(column(texts)) is answer


@pytest.mark.parametrize("mark", MISSING_MARKS)
def test_every_mark_of_a_missing_cell_is_null_in_every_kind_of_column(mark: str) -> None:
    for values in (["1", "2"], ["1.5", "2"], ["true", "false"], ["2024-01-01"], ["a", "b"]):
        found = tidy(column([*values, f" {mark}"])).values
        assert found.dtype == tidy(column(values)).values.dtype
        assert [value is None for value in found] == [False] * len(values) + [True]


def test_rare_texts_among_numbers_are_shown() -> None:
    note = tidy(column([*map(str, range(50)), "?"])).note
    assert "1 of its 51 values" in note
    assert "'?'" in note
    assert tidy(column(["1", "2", "?"])).note == ""
    assert "'k.A.'" in tidy(column([*[f"{k},5" for k in range(50)], "k.A."]), decimal_comma=True).note


def test_rare_texts_among_dates_and_among_numbers_with_a_unit_are_shown() -> None:
    assert "is no date, such as 'sum'" in tidy(column([*[f"{k}.12.2024" for k in TEN], "sum"])).note
    assert "is no date, such as 'sum'" in tidy(column([*[f"2024-12-{k + 10}" for k in TEN], "sum"])).note
    assert "is no number with a unit, such as 'k.A.'" in tidy(column([*[f"{k},5 kg" for k in TEN], "k.A."])).note
    for words in (["sum", "12.12.2024"], [*[f"{k}.{k}.3" for k in TEN], "new"], [*["2 doors"] * 20, "none"]):
        assert tidy(column(words)).note == ""


@pytest.mark.parametrize(
    ("series", "values", "dtype"),
    [
        (column([1, None], pl.Int8), [1, None], pl.Int64),
        (column([1, 2**32 - 1], pl.UInt32), [1, 2**32 - 1], pl.Int64),
        (column([1, 2**63], pl.UInt64), [1, 2**63], pl.UInt64),
        (column([1, 2**62], pl.UInt64), [1, 2**62], pl.Int64),
        (column([1, 2**62], pl.Int128), [1, 2**62], pl.Int64),
        (column([0.5, float("nan"), None], pl.Float32), [0.5, None, None], pl.Float64),
        (column([12.34, 2.0**24 + 2, None], pl.Float32), [12.34, 2.0**24 + 2, None], pl.Float64),
        (column([1 / 3, 0.5], pl.Float32), [float(np.float32(1 / 3)), 0.5], pl.Float64),
        (column([Decimal("1.25"), None]), [1.25, None], pl.Float64),
        (column([Decimal(2**53 + 1)], pl.Decimal(38, 0)), [2**53 + 1], pl.Int64),
        (column([True, None]), [True, None], pl.Boolean),
        (column(["a", None], pl.Categorical), ["a", None], pl.String),
        (column(["b", "NA"], pl.Enum(["b", "NA"])), ["b", None], pl.String),
        (column([date(2024, 1, 1), None]), [date(2024, 1, 1), None], pl.Date),
        (column([datetime(2024, 1, 1, 5)], pl.Datetime("ms")), [datetime(2024, 1, 1, 5)], MOMENT),
        (column([datetime(2024, 1, 1, 5)], pl.Datetime("ns")), [datetime(2024, 1, 1, 5)], MOMENT),
        (column([None, None], pl.Null), [None, None], pl.String),
    ],
)
def test_the_types_of_other_programs_become_ours(series: pl.Series, values: list[Any], dtype: Any) -> None:
    found = tidy(series)
    assert found.values.dtype == dtype
    assert found.values.to_list() == values
    assert found.note == ""


@pytest.mark.parametrize(
    ("series", "values", "word"),
    [
        (column([timedelta(seconds=1.5), None]), [1.5, None], "seconds"),
        (column([2**62, 0]).cast(pl.Duration("ms")), [2.0**62 / 1000, 0.0], "seconds"),
        (column([time(1, 0, 30), None]), [3630.0, None], "midnight"),
        (
            column([datetime(2024, 7, 1, 12)]).dt.replace_time_zone("Europe/Berlin"),
            [datetime(2024, 7, 1, 10)],
            "Europe/Berlin",
        ),
        (column(["2024-07-01T12:00+02:00"]), [datetime(2024, 7, 1, 10)], "UTC"),
    ],
)
def test_a_conversion_that_changes_the_meaning_is_said(series: pl.Series, values: list[Any], word: str) -> None:
    found = tidy(series)
    assert found.values.to_list() == values
    assert "'c'" in found.note
    assert word in found.note


@pytest.mark.parametrize(
    ("series", "words"),
    [
        (column([[1, 2]]), "of type List"),
        (column([{"a": 1}]), "of type Struct"),
        (column([b"x"]), "of type Binary"),
        (column([1, 2**64], pl.Int128), "64 bits"),
        (column([Decimal(2**64)], pl.Decimal(38, 0)), "64 bits"),
        (column(["1", "18446744073709551616"]), "64 bits"),
        (column(["-1", "18446744073709551615"]), "64 bits"),
        (column([1.0, float("inf")]), "1 infinite value"),
        (column(["1", "-inf", "1e999"]), "2 infinite values"),
        (column([0, 2_932_897], pl.Int32).cast(pl.Date), "years 1 to 9999"),
        (column([0, 2**30], pl.Int32).cast(pl.Date), "years 1 to 9999"),
        (column([0, -(2**62)]).cast(pl.Datetime("us")), "years 1 to 9999"),
        (column([0, 2**62]).cast(pl.Datetime("ms", "UTC")), "years 1 to 9999"),
    ],
)
def test_what_no_supported_type_holds_is_refused(series: pl.Series, words: str) -> None:
    with pytest.raises(UnusableColumn, match=words):
        tidy(series)


def test_a_refused_column_is_named_with_the_columns_that_are_left(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": np.arange(30), "tags": [["x"]] * 30, "b": np.arange(30) / 7})
    frame.write_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="column 'tags' is of type List") as caught:
        read_table(tmp_path / "t.parquet")
    assert "--columns a,b." in caught.value.remedy
    assert read_table(tmp_path / "t.parquet", columns=["b", "a"]).rows.equals(frame.select("b", "a"))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".ndjson"])
def test_nineteen_digits_stay_exact_or_are_refused_by_an_old_polars(tmp_path: Path, suffix: str) -> None:
    ids = [9_100_000_000_000_000_000 + k for k in range(30)] + [2**64 - 1]
    frame = pl.DataFrame({"id": pl.Series(ids, dtype=pl.UInt64), "x": [0.5] * 31})
    path = tmp_path / f"t{suffix}"
    {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".ndjson": frame.write_ndjson}[suffix](path)
    if suffix == ".ndjson" and tuple(map(int, pl.__version__.split(".")[:2])) < (1, 38):
        with pytest.raises(InputError, match="cannot parse '18446744073709551615'"):
            read_table(path)
    else:
        assert read_table(path).rows["id"].to_list() == ids
