"""What holds for the columns of every kind: decoding undoes encoding, JSON keeps everything, and so on."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest
import torch
from every_kind import KINDS, every_kind, one
from numpy.testing import assert_allclose

from dualdiff_cli import seeding
from dualdiff_cli.config.registry import COLUMN_KINDS
from dualdiff_cli.data import TableEncoding
from dualdiff_cli.data.encoding.angle import AngleColumn
from dualdiff_cli.data.encoding.masses import MassesColumn
from dualdiff_cli.errors import InputError

FRAME = every_kind()
ENCODING = TableEncoding.fit(FRAME, kinds=KINDS)
COLUMNS = {column.name: column for column in ENCODING.columns}
EXPECTED = {
    "detector": "category",
    "two": "category",
    "flag": "category",
    "many": "category",
    "code": "category",
    "gauss": "number",
    "tiny": "number",
    "giant": "number",
    "hits": "integer",
    "long": "integer",
    "energy": "skewed",
    "fraction": "masses",
    "zero": "masses",
    "rare": "masses",
    "price": "decimal",
    "half": "decimal",
    "table": "rounded",
    "mass": "rounded",
    "uniform": "bounded",
    "angle": "angle",
    "hour": "angle",
    "date": "date",
    "moment": "date",
    "temp": "missing",
    "place": "missing",
    "day": "missing",
    "same": "constant",
    "today": "constant",
    "empty": "constant",
}


def equal(own: pl.Series, other: pl.Series) -> bool:
    """Say whether two columns are the same; numbers may differ in the last digits of the column's spread."""
    if not own.dtype.is_float():
        return own.equals(other)
    a, b = own.to_numpy(), other.to_numpy()
    return bool(np.allclose(a, b, rtol=1e-12, atol=1e-12 * float(np.nanstd(a)), equal_nan=True))


def test_the_table_has_every_kind_of_column_and_each_is_recognised() -> None:
    assert {name: column.kind for name, column in COLUMNS.items()} == EXPECTED
    # A column that follows from others is none by itself; see test_derived_column.py.
    assert {*EXPECTED.values(), "derived"} == set(COLUMN_KINDS)


@pytest.mark.parametrize("noisy", [False, True], ids=["without-noise", "with-noise"])
@pytest.mark.parametrize("name", EXPECTED)
def test_decoding_undoes_encoding(name: str, noisy: bool) -> None:
    column = COLUMNS[name]
    z = column.encode(FRAME[name], seeding.stream(1, "test") if noisy else None)
    assert z.shape == (FRAME.height, column.width)
    back = column.series(column.values(z))
    assert (back.name, back.dtype) == (name, FRAME[name].dtype)
    # A whole number of an angle moves on the circle by its noise, and rounding undoes this.
    assert equal(FRAME[name], back)


def test_an_encoding_survives_json_and_then_decodes_the_same_rows() -> None:
    z = ENCODING.encode(FRAME, seeding.stream(2, "test"))
    again = TableEncoding.model_validate_json(ENCODING.model_dump_json())
    assert again == ENCODING
    assert again.decode(z).equals(ENCODING.decode(z))
    assert np.array_equal(again.encode(FRAME, seeding.stream(2, "test")), z)


@pytest.mark.parametrize("name", EXPECTED)
def test_torch_and_numpy_decode_the_same_numbers_of_features_that_no_row_has(name: str) -> None:
    column = COLUMNS[name]
    z = 1.5 * seeding.stream(3, "test").normal(size=(2000, column.width))
    by_numpy, by_torch = column.values(z), column.values(torch.from_numpy(z)).numpy()
    if column.kind == "angle" or name in ("energy", "zero"):  # arc tangents and powers differ in their last bits
        assert_allclose(by_torch, by_numpy, rtol=1e-13, atol=1e-12)
    else:
        assert np.array_equal(by_torch, by_numpy, equal_nan=True)


@pytest.mark.parametrize("name", EXPECTED)
def test_any_features_decode_to_values_of_the_columns_type_and_range(name: str) -> None:
    column, own = COLUMNS[name], FRAME[name]
    z = 3 * seeding.stream(4, "test").normal(size=(2000, column.width))
    drawn = column.series(column.values(z))
    assert drawn.dtype == own.dtype
    if column.kind in ("category", "constant") or name == "place":
        assert set(drawn.drop_nulls()) <= set(own.drop_nulls())
    if column.kind in ("masses", "skewed") or name in ("price", "hits"):
        assert float(drawn.min()) >= 0  # type: ignore[arg-type]
    if name == "fraction":
        assert 0 <= float(drawn.min()) <= float(drawn.max()) <= 1  # type: ignore[arg-type]
    if name in ("angle", "hour"):
        assert float(drawn.min()) >= 0
        assert float(drawn.max()) < {"angle": 360, "hour": 24}[name]
    if name == "price":
        assert drawn.equals(drawn.round(2))
    if name == "half":
        assert drawn.equals((2 * drawn).round() / 2)
    if name == "table":
        assert drawn.equals(drawn.round(1))
    if name == "mass":
        assert (drawn % 25 == 0).all()
    if name == "date":
        assert set(drawn.dt.weekday()) <= set(own.dt.weekday())


def test_every_feature_has_a_unit_and_the_discrete_features_lie_inside_their_columns() -> None:
    layout = ENCODING.layout
    assert layout.width == ENCODING.width == sum(column.width for column in ENCODING.columns)
    assert list(layout.units) == sorted(layout.units)
    ends = [0]
    for span in layout.discrete:
        assert span.start >= ends[-1]
        assert len(span.shift) == span.width
        ends.append(span.features.stop)
    assert ends[-1] <= layout.width
    few = [k for span in layout.discrete for k in range(layout.width)[span.features]]
    assert sorted([*layout.numbers, *few]) == list(range(layout.width))
    for column, span in zip(ENCODING.columns, ENCODING.spans, strict=True):
        own = set(layout.units[span])
        parts = 2 if isinstance(column.observed, MassesColumn) else 1
        assert len(own) == (parts if column.width else 0) + (column.present_feature is not None)


def test_discrete_features_take_the_values_that_the_layout_says() -> None:
    z = ENCODING.encode(FRAME, seeding.stream(5, "test"))
    for span in ENCODING.layout.discrete:
        b = (z[:, span.features] - np.array(span.shift)) / span.scale
        assert_allclose(b, b.round(), atol=1e-9)
        assert set(np.unique(b.round())) <= {0.0, 1.0}
        if span.width > 1:
            assert_allclose(b.sum(1), 1, atol=1e-9)
        assert_allclose(span.at(span.places(z)), z[:, span.features], atol=1e-9)


def test_columns_may_stand_in_any_order_in_later_rows() -> None:
    shuffled = FRAME.select(FRAME.columns[::-1])
    assert np.array_equal(ENCODING.encode(shuffled, None), ENCODING.encode(FRAME, None))


def test_two_identical_columns_have_identical_features_and_decode_to_the_same_values() -> None:
    x = np.random.default_rng(2).normal(size=200)
    encoding = TableEncoding.fit(pl.DataFrame({"a": x, "b": x}))
    z = encoding.encode(pl.DataFrame({"a": x, "b": x}), None)
    assert np.array_equal(z[:, 0], z[:, 1])
    back = encoding.decode(z)
    assert back["a"].equals(back["b"].alias("a"))


def test_there_may_be_more_columns_than_rows() -> None:
    frame = pl.DataFrame(np.random.default_rng(3).normal(size=(40, 80)))
    encoding = TableEncoding.fit(frame)
    assert_allclose(encoding.decode(encoding.encode(frame, None)), frame, rtol=1e-12, atol=1e-12)


def test_one_wild_outlier_does_not_decide_the_scale_of_its_column() -> None:
    x = np.random.default_rng(4).normal(size=1000)
    x[17] = 1e6
    encoding = TableEncoding.fit(pl.DataFrame({"x": x}))
    z = encoding.encode(pl.DataFrame({"x": x}), None)
    assert np.delete(z[:, 0], 17).std() > 0.1
    assert_allclose(encoding.decode(z)["x"], x, rtol=1e-9)


def test_values_of_very_different_sizes_stand_side_by_side_in_one_column() -> None:
    x = np.where(np.arange(400) % 2 == 0, 1e-12, 1e12) * np.random.default_rng(5).uniform(1, 2, 400)
    encoding = TableEncoding.fit(pl.DataFrame({"x": x}))
    assert_allclose(encoding.decode(encoding.encode(pl.DataFrame({"x": x}), None))["x"], x, rtol=1e-9)


def test_a_gap_in_a_column_that_had_none_in_the_training_is_encoded_as_a_finite_number() -> None:
    frame = FRAME.select("gauss", "hits", "detector", "fraction", "date")
    encoding = TableEncoding.fit(frame)
    gaps = pl.DataFrame({name: pl.Series([None], dtype=dtype) for name, dtype in frame.schema.items()})
    assert np.isfinite(encoding.encode(gaps, None)).all()


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pl.Series("s", ["a", "b"] * 30), "number"),
        (pl.Series("s", ["a", "b"] * 30), "angle"),
        (pl.Series("s", [0.5, 1.5] * 30), "date"),
        (pl.Series("s", [dt.date(2024, 1, 1), dt.date(2024, 1, 2)] * 30), "category"),
    ],
)
def test_a_kind_that_the_column_cannot_have_is_refused_by_name(column: pl.Series, kind: str) -> None:
    with pytest.raises(InputError) as caught:
        TableEncoding.fit(pl.DataFrame([column]), kinds={"s": kind})
    assert "'s'" in caught.value.problem
    assert kind in caught.value.problem


@pytest.mark.parametrize(
    ("values", "low"),
    [
        (np.linspace(-10, 349, 400), -10),
        (np.linspace(-9.7, 349, 400), -10),
        (np.linspace(-9.7, 350.2, 400), -9.7),
        (np.linspace(-179.5, 179.9, 400), -180),
        (np.linspace(-0.9, 5.2, 400), -1),
        (np.linspace(10.0, 369, 400), 10),
        (np.arange(-5, 7), -5),
        (np.arange(-6, 6), -6),
        (np.arange(1, 13), 1),
    ],
)
def test_every_angle_of_the_training_rows_comes_back(values: np.ndarray, low: float) -> None:
    column = pl.Series("a", np.tile(values, 3))
    encoding = one("a", column, a="angle").columns[0]
    assert isinstance(encoding, AngleColumn)
    assert encoding.low == low
    assert_allclose(encoding.series(encoding.values(encoding.encode(column, None))), column, atol=1e-9)


def test_angles_with_decimals_come_back_in_their_steps_and_round_to_the_beginning_of_the_period() -> None:
    column = pl.Series("a", [k / 10 for k in range(3600)])
    encoding = one("a", column, a="angle").columns[0]
    features = encoding.encode(column, np.random.default_rng(0))
    assert encoding.series(encoding.values(features)).equals(column)
    radians = pl.Series("a", [k / 100 for k in range(629)])
    encoding_of_radians = one("a", radians, a="angle").columns[0]
    features = encoding_of_radians.encode(radians, None)
    assert encoding_of_radians.series(encoding_of_radians.values(features)).equals(radians)
    near_the_end = encoding.encode(pl.Series("a", [359.96, 359.94]), None)
    assert encoding.series(encoding.values(near_the_end)).to_list() == [0.0, 359.9]


@pytest.mark.parametrize("kind", ["number", "category", "bounded", "masses", "angle"])
def test_the_kind_that_is_asked_for_a_column_with_gaps_is_that_of_its_observed_values(kind: str) -> None:
    values = [None if k % 10 == 0 else float(k % 4) for k in range(200)]
    encoding = TableEncoding.fit(pl.DataFrame({"x": values}), kinds={"x": kind})
    inner = encoding.columns[0].inner  # type: ignore[attr-defined]
    assert encoding.columns[0].kind == "missing"
    assert kind in ("bounded", "masses") or inner.kind == kind  # a shape that the values do not have is left to them
    assert encoding.decode(encoding.encode(pl.DataFrame({"x": values}), None))["x"].null_count() == 20
