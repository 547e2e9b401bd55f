from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from every_kind import one

from dualdiff_cli.data import TableEncoding
from dualdiff_cli.data.encoding.category import MOST_ONE_HOT, CategoryColumn
from dualdiff_cli.errors import InputError


def fitted(column: pl.Series) -> CategoryColumn:
    return CategoryColumn.fit(column, standardise=True)


@pytest.mark.parametrize(("number", "width"), [(2, 1), (3, 3), (MOST_ONE_HOT, MOST_ONE_HOT), (33, 6), (64, 6), (65, 7)])
def test_the_number_of_values_decides_the_number_of_features(number: int, width: int) -> None:
    column = pl.Series("c", [f"v{k % number}" for k in range(500)])
    encoding = fitted(column)
    z = encoding.encode(column, None)
    assert z.shape == (500, width)
    assert encoding.series(encoding.values(z)).equals(column)


def test_the_features_of_a_category_have_mean_zero_and_together_variance_one() -> None:
    column = pl.Series("c", np.random.default_rng(0).choice(list("ABCD"), 1000, p=[0.4, 0.3, 0.2, 0.1]))
    z = fitted(column).encode(column, None)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(z.var(0).sum(), 1)
    two = pl.Series("c", [True] * 30 + [False] * 70)
    np.testing.assert_allclose(fitted(two).encode(two, None).std(), 1)


def test_fifty_thousand_text_values_take_sixteen_features_and_come_back() -> None:
    column = pl.Series("c", [f"product {k}" for k in range(50_000)] * 2)
    encoding = TableEncoding.fit(pl.DataFrame([column]))
    z = encoding.encode(pl.DataFrame([column]), None)
    assert z.shape == (100_000, 16)
    assert encoding.decode(z)["c"].equals(column)
    again = TableEncoding.model_validate_json(encoding.model_dump_json())
    assert again.decode(z[:1000])["c"].equals(column[:1000])
    beyond = torch.full((1, 16), 10.0, dtype=torch.float64)  # the digits of a number that no value has
    assert encoding.decode(beyond.numpy())["c"][0] in set(column)


@pytest.mark.parametrize(
    "values", [[True, False, True], [1, 7, 7], [0.25, -3.0, 0.25]], ids=["Boolean", "int", "float"]
)
def test_two_values_come_back_in_their_own_type(values: list[object]) -> None:
    frame = pl.DataFrame({"x": values * 10})
    encoding = TableEncoding.fit(frame)
    assert encoding.columns[0].kind == "category"
    again = TableEncoding.model_validate_json(encoding.model_dump_json())
    assert again.decode(encoding.encode(frame, None)).equals(frame)


def test_a_schema_makes_numbers_a_category() -> None:
    frame = pl.DataFrame({"station": [3, 1, 4, 1, 5, 9, 2, 6] * 10})
    encoding = TableEncoding.fit(frame, kinds={"station": "category"})
    assert encoding.columns[0].kind == "category"
    assert encoding.decode(encoding.encode(frame, None)).equals(frame)
    with pytest.raises(InputError, match=r"'x'.*category"):
        TableEncoding.fit(pl.DataFrame({"x": [7] * 10, "y": range(10)}), kinds={"x": "category"})


@pytest.mark.parametrize("number", [2, 5, 100])
def test_a_value_that_the_training_rows_lack_is_encoded_as_their_mean(number: int) -> None:
    column = pl.Series("c", [f"v{k % number}" for k in range(500)])
    assert not fitted(column).encode(pl.Series("c", ["unheard of"]), None).any()


def test_a_number_that_lies_between_two_learnt_whole_numbers_is_neither() -> None:
    column, between = fitted(pl.Series("c", [0, 1, 1] * 10)), pl.Series("c", [0.37, 1.4, 1.0])
    assert column.unknown(between).to_list() == [0.37, 1.4]
    assert (column.encode(between, None) != 0).tolist() == [[False], [False], [True]]


def test_text_that_looks_like_numbers_dates_or_booleans_stays_text() -> None:
    for values in (["1", "2"], ["True", "False"], ["2024-01-01", "2024-01-02", "2024-01-03"], ["1e3", "nan"]):
        column = pl.Series("c", values * 20)
        encoding = TableEncoding.model_validate_json(one("c", column).model_dump_json())
        assert encoding.columns[0].series(np.zeros(3)).to_list() == [encoding.columns[0].levels[0]] * 3  # type: ignore[attr-defined]
        assert set(encoding.columns[0].levels) == set(values)  # type: ignore[attr-defined]
