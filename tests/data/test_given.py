from __future__ import annotations

import datetime as dt
import math

import numpy as np
import polars as pl
import pytest
from every_kind import KINDS, every_kind, one

from dualdiff_cli.cli.options import cells
from dualdiff_cli.data import TableEncoding, given_cells, with_known_columns
from dualdiff_cli.errors import InputError

FRAME = every_kind()
ENCODING = TableEncoding.fit(FRAME, kinds=KINDS)
VARYING = [column.name for column in ENCODING.columns if column.width]


@pytest.mark.parametrize("name", VARYING)
@pytest.mark.parametrize("as_text", [False, True], ids=["value", "text"])
def test_every_value_of_the_training_rows_can_be_given_as_it_is_or_as_text(name: str, as_text: bool) -> None:
    values = FRAME[name].drop_nulls()
    for value in (values[0], values.min(), values.max()):
        given = given_cells(ENCODING, {name: str(value) if as_text else value})
        assert given.cells.schema == {name: FRAME[name].dtype}
        assert given.cells.item() == value
        span = ENCODING.spans[ENCODING.names.index(name)]
        assert given.given[span].any()
        assert not np.delete(given.given, np.r_[span]).any()
        assert np.array_equal(given.given[span], ~ENCODING.unused(given.values[None])[0, span])
        decoded = ENCODING.decode(given.values[None])[name]
        assert decoded[0] == pytest.approx(value) if decoded.dtype.is_float() else decoded[0] == value
        assert not given.values[~given.given].any()


def test_given_cells_are_written_into_rows_exactly() -> None:
    given = given_cells(ENCODING, {"energy": 0.1 + 0.2, "detector": "B", "hits": 3})
    rows = given.put(FRAME.head(7))
    assert rows.columns == FRAME.columns
    assert rows.schema == FRAME.schema
    assert rows["energy"].to_list() == [0.1 + 0.2] * 7
    assert rows["detector"].to_list() == ["B"] * 7
    assert rows.drop("energy", "detector", "hits").equals(FRAME.head(7).drop("energy", "detector", "hits"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("detector", "Z"),
        ("flag", "maybe"),
        ("hits", "3.5"),
        ("hits", 3.5),
        ("hits", "three"),
        ("hits", -2),
        ("energy", "-1"),
        ("energy", "nan"),
        ("energy", "inf"),
        ("energy", "1e400"),
        ("energy", -math.inf),
        ("uniform", 1e300),
        ("energy", None),
        ("place", None),
        ("fraction", "1.5"),
        ("price", 1.234),
        ("uniform", 7.0),
        ("angle", 400.0),
        ("date", "2023-01-07"),
        ("date", "yesterday"),
        ("date", "2023-01-04 15:00"),
        ("date", dt.datetime(2023, 1, 4, 15)),
        ("same", 4.0),
        ("empty", "x"),
        ("many", "v200"),
    ],
)
def test_a_value_that_a_column_cannot_have_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        given_cells(ENCODING, {name: value})
    assert f"'{name}'" in caught.value.problem
    assert str(value) in caught.value.problem


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        ("10:30:00", "seconds after midnight, and durations as seconds: give --given energy=37800."),
        (dt.time(0, 1, 2, 500_000), "--given energy=62.5."),
        ("26:00", "--given energy=93600."),
        ("90 min", "durations are learnt as seconds"),
        (dt.timedelta(days=2), "durations are learnt as seconds"),
    ],
)
def test_a_time_for_a_column_of_numbers_is_refused_with_what_times_are_learnt_as(value: object, remedy: str) -> None:
    with pytest.raises(InputError) as caught:
        given_cells(ENCODING, {"energy": value})
    assert str(value) in caught.value.problem
    assert remedy in caught.value.remedy


def test_infinity_is_refused_without_a_word_of_times() -> None:
    with pytest.raises(InputError) as caught:
        given_cells(ENCODING, {"energy": "1e400"})
    assert caught.value.remedy == "Give a finite number."


def test_a_column_that_is_not_there_is_refused_with_the_name_that_was_perhaps_meant() -> None:
    with pytest.raises(InputError) as caught:
        given_cells(ENCODING, {"detektor": "B"})
    assert "'detektor'" in caught.value.problem
    assert "detector" in caught.value.remedy


def test_whole_numbers_may_be_written_with_a_decimal_point_and_long_ones_stay_exact() -> None:
    assert given_cells(ENCODING, {"hits": "3.0"}).cells.item() == 3
    long = int(FRAME["long"][0])
    assert given_cells(ENCODING, {"long": str(long)}).cells.item() == long


@pytest.mark.parametrize("origin", [0, 2**62])
def test_whole_numbers_that_float64_rounds_can_be_given_and_stay_as_they_are(origin: int) -> None:
    numbers = origin + np.random.default_rng(3).integers(1, 2**53, 100)
    encoding = one("n", numbers)
    rows = pl.DataFrame({"n": numbers, "beside": np.zeros(100)})
    assert not encoding.decode(encoding.encode(rows, None))["n"].equals(rows["n"])
    for value in numbers.tolist():
        given = given_cells(encoding, {"n": value})
        assert given.put(pl.DataFrame({"n": [5, 6]}))["n"].to_list() == [value] * 2
    with pytest.raises(InputError, match="'n' cannot be"):
        given_cells(encoding, {"n": origin - 1_000})


def test_whole_numbers_beside_two_long_ones_are_refused() -> None:
    encoding = one("n", [2**60, 2**60 + 3] * 30)
    assert given_cells(encoding, {"n": 2**60 + 3}).cells.item() == 2**60 + 3
    with pytest.raises(InputError, match="'n' cannot be"):
        given_cells(encoding, {"n": 2**60 + 1})


def test_moments_that_are_learnt_in_milliseconds_can_be_given_with_microseconds() -> None:
    moments = pl.Series("t", np.random.default_rng(3).integers(0, 2 * 10**15, 200)).append(pl.Series([2 * 10**17 + 1]))
    encoding = one("t", moments.cast(pl.Datetime("us")))
    for moment in moments.cast(pl.Datetime("us")):
        assert given_cells(encoding, {"t": moment}).cells.item() == moment


def test_dates_may_be_given_as_dates_or_text() -> None:
    day = FRAME["date"][0]
    assert isinstance(day, dt.date)
    assert given_cells(ENCODING, {"date": day}).cells.equals(given_cells(ENCODING, {"date": day.isoformat()}).cells)
    assert given_cells(ENCODING, {"moment": "2024-02-03"}).cells.item() == dt.datetime(2024, 2, 3)


def test_a_constant_can_be_given_and_changes_nothing() -> None:
    given = given_cells(ENCODING, {"same": "3.5"})
    assert not given.given.any()
    assert given.cells.item() == 3.5
    assert isinstance(given.cells, pl.DataFrame)


@pytest.mark.parametrize(
    ("texts", "names", "found"),
    [
        (["x=y=0.25"], ["x=y"], {"x=y": "0.25"}),
        (["x=y=0.25"], ["x"], {"x": "y=0.25"}),
        (["x=y=0.25"], ["x", "x=y"], {"x=y": "0.25"}),
        (["x=y=1", "x=z=2", "x==3"], ["x", "x=y", "x=z"], {"x=y": "1", "x=z": "2", "x": "=3"}),
        ([" x = y=1", "z="], ["x", "z"], {"x": " y=1", "z": ""}),
        (["u=v=1"], ["x"], {"u": "v=1"}),
    ],
)
def test_a_given_text_is_split_behind_the_longest_name_of_a_column(
    texts: list[str], names: list[str], found: dict[str, str]
) -> None:
    assert with_known_columns(cells(texts), names) == found
    assert with_known_columns(found, names) == found


def test_texts_for_the_same_column_that_have_equals_signs_are_refused() -> None:
    with pytest.raises(InputError, match="'x' is given twice, with a=1 and with b=2"):
        with_known_columns(cells(["x=a=1", "x=b=2"]), ["x"])


def test_a_column_with_an_equals_sign_in_its_name_can_be_given() -> None:
    encoding = TableEncoding.fit(pl.DataFrame({"x=y": [0.1, 0.25, 0.7], "z": [1.5, 2.5, 0.5]}))
    assert given_cells(encoding, cells(["x=y=0.25"])).cells.to_dicts() == [{"x=y": 0.25}]


@pytest.mark.parametrize(("name", "remedy"), [("temp", "--where '\"temp\" IS NULL'"), ("energy", "equals sign.")])
def test_an_empty_value_is_refused_with_how_gaps_are_drawn_where_the_column_has_some(name: str, remedy: str) -> None:
    for empty in ("", " "):
        with pytest.raises(InputError, match=f"'{name}' is empty") as caught:
            given_cells(ENCODING, {name: empty})
        assert remedy in caught.value.remedy
