from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from every_kind import every_kind

from dualdiff_cli.config.registry import ASKED_KINDS, IDENTIFIER
from dualdiff_cli.data import TableEncoding
from dualdiff_cli.data.encoding.choosing import fit_column
from dualdiff_cli.data.encoding.missing import MissingColumn
from dualdiff_cli.errors import InputError

FRAME = every_kind()
WHOLE = [name for name in FRAME.columns if not FRAME[name].null_count() and FRAME[name].n_unique() > 1]


@pytest.mark.parametrize("name", WHOLE)
def test_a_column_of_any_kind_may_have_gaps_and_gets_them_back(name: str) -> None:
    gaps = np.random.default_rng(0).random(FRAME.height) < 0.2
    column = pl.select(pl.when(pl.Series(~gaps)).then(FRAME[name])).to_series().alias(name)
    encoding = MissingColumn.fit(column, standardise=True)
    z = encoding.encode(column, np.random.default_rng(1))
    back = encoding.series(encoding.values(z))
    assert back.dtype == column.dtype
    assert np.array_equal(back.is_null(), gaps)
    if column.dtype.is_float():
        np.testing.assert_allclose(back.drop_nulls(), column.drop_nulls(), rtol=1e-9, atol=1e-24)
    else:
        assert back.equals(column)


def test_the_flag_has_mean_zero_and_variance_one_and_says_which_cells_are_there() -> None:
    column = FRAME["temp"]
    encoding = MissingColumn.fit(column, standardise=True)
    flag = encoding.encode(column, None)[:, -1]
    np.testing.assert_allclose([flag.mean(), flag.std()], [0, 1], atol=1e-12)
    place, there = encoding.present_feature
    assert place == encoding.width - 1
    assert np.array_equal(np.isclose(flag, there), column.is_not_null())


def test_the_features_of_missing_cells_are_those_of_observed_ones() -> None:
    column = FRAME["temp"]
    z = MissingColumn.fit(column, standardise=True).encode(column, np.random.default_rng(2))[:, 0]
    gaps = column.is_null().to_numpy()
    assert set(z[gaps]) <= set(z[~gaps])


def test_the_flag_is_a_unit_of_its_own() -> None:
    assert MissingColumn.fit(FRAME["temp"], standardise=True).units == (0, 1)
    assert MissingColumn.fit(FRAME["place"], standardise=True).units == (0, 0, 0, 1)


@pytest.mark.parametrize("dtype", [pl.String, pl.Float64, pl.Int64, pl.Date, pl.Null])
def test_a_column_of_gaps_only_stays_empty(dtype: pl.DataType) -> None:
    frame = pl.DataFrame({"x": pl.Series([None] * 50, dtype=dtype), "y": np.random.default_rng(3).normal(size=50)})
    encoding = TableEncoding.model_validate_json(TableEncoding.fit(frame).model_dump_json())
    back = encoding.decode(encoding.encode(frame, None))
    assert back["x"].null_count() == 50
    assert not encoding.can_hold_values("x")
    assert encoding.can_hold_values("y")


@pytest.mark.parametrize("kind", ASKED_KINDS)
@pytest.mark.parametrize("dtype", [pl.String, pl.Float64, pl.Int64])
def test_a_column_of_gaps_only_is_constant_whatever_was_asked_for(kind: str, dtype: pl.DataType) -> None:
    if kind != IDENTIFIER:
        assert fit_column(pl.Series("x", [None] * 50, dtype=dtype), standardise=True, kind=kind).kind == "constant"


def test_one_value_and_gaps_are_learnt_as_the_gaps_alone() -> None:
    frame = pl.DataFrame({"x": ["a", None] * 30})
    encoding = TableEncoding.fit(frame)
    assert encoding.width == 1
    assert encoding.decode(encoding.encode(frame, None)).equals(frame)


@pytest.mark.parametrize("value", [7, 2.5, True, "2024-01-01", "5", "True", "x"])
def test_a_constant_comes_back_in_its_own_type(value: object) -> None:
    frame = pl.DataFrame({"same": [value] * 40, "y": np.random.default_rng(4).normal(size=40)})
    encoding = TableEncoding.model_validate_json(TableEncoding.fit(frame).model_dump_json())
    assert encoding.decode(encoding.encode(frame, None))["same"].equals(frame["same"])


@pytest.mark.parametrize("dtype", [pl.Date, pl.Datetime("us"), pl.Int32, pl.UInt64, pl.Float32])
def test_a_constant_of_any_type_comes_back_with_its_value(dtype: pl.DataType) -> None:
    same = pl.Series("same", [19_000] * 40).cast(dtype)
    frame = pl.DataFrame([same, pl.Series("y", np.random.default_rng(4).normal(size=40))])
    encoding = TableEncoding.model_validate_json(TableEncoding.fit(frame).model_dump_json())
    assert encoding.decode(encoding.encode(frame, None))["same"].to_list() == same.to_list()


def test_a_table_in_which_nothing_varies_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to learn"):
        TableEncoding.fit(pl.DataFrame({"a": [1] * 20, "b": ["x"] * 20}))
