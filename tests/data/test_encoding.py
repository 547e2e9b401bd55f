from __future__ import annotations

from datetime import date, datetime

import numpy as np
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose
from tiny import integers

from dualdiff_cli import seeding
from dualdiff_cli.data import TableEncoding
from dualdiff_cli.data.encoding.integer import IntegerColumn
from dualdiff_cli.data.encoding.number import NumberColumn
from dualdiff_cli.errors import InputError

N = 500
RNG = np.random.default_rng(0)
FRAME = pl.DataFrame(
    {
        "small": 5 + 1e-3 * RNG.normal(size=N),
        "unit": RNG.normal(size=N),
        "far": 1e9 + RNG.normal(size=N),
        "huge": -1e7 + 1e6 * RNG.normal(size=N),
        "count": RNG.integers(-5, 5, N),
        "id": 1_000_000_000 + RNG.integers(0, 3, N),
    }
)
NUMBERS = FRAME.select("small", "unit", "far", "huge")
ENCODING = TableEncoding.fit(FRAME)


def test_the_type_of_a_column_decides_its_kind() -> None:
    assert [column.kind for column in ENCODING.columns] == ["number"] * 4 + ["integer"] * 2
    assert ENCODING.names == FRAME.columns


@pytest.mark.parametrize(
    "column",
    [pl.Series("s", [b"a", b"b"]), pl.Series("s", [0, 1]).cast(pl.Duration), pl.Series("s", [0, 1]).cast(pl.Time)],
    ids=["bytes", "duration", "time"],
)
def test_a_column_that_no_kind_suits_is_refused_by_name(column: pl.Series) -> None:
    with pytest.raises(InputError) as caught:
        TableEncoding.fit(pl.DataFrame([column]))
    assert "'s'" in caught.value.problem
    assert "--columns" in caught.value.remedy


def test_encoded_numbers_have_mean_zero_and_variance_one() -> None:
    z = TableEncoding.fit(NUMBERS).encode(NUMBERS, None)
    assert z.shape == (N, 4)
    assert z.dtype == np.float64
    assert_allclose(z.mean(axis=0), 0, atol=1e-6)
    assert_allclose(z.std(axis=0), 1)


def test_encoded_integers_have_nearly_mean_zero_and_variance_one_with_their_noise() -> None:
    z = ENCODING.encode(FRAME, seeding.stream(1, "test"))[:, 4:]
    assert_allclose(z.mean(axis=0), 0, atol=0.1)
    assert_allclose(z.std(axis=0), 1, atol=0.1)


@pytest.mark.parametrize("standardise", [True, False])
def test_decoding_undoes_encoding(standardise: bool) -> None:
    encoding = TableEncoding.fit(FRAME, standardise=standardise)
    again = encoding.decode(encoding.encode(FRAME, None))
    assert again.schema == FRAME.schema
    assert again.select("count", "id").equals(FRAME.select("count", "id"))
    for name in NUMBERS.columns:
        # Beside 10⁹ a float64 has steps of 10⁻⁷; the rounding may be one or two of these.
        assert_allclose(again[name], FRAME[name], rtol=4e-16, atol=4e-16 * FRAME[name].std())


def test_rounding_undoes_the_noise_of_integers_and_numbers_get_none() -> None:
    noisy, plain = (ENCODING.encode(FRAME, rng) for rng in (seeding.stream(2, "test"), None))
    assert np.array_equal(noisy[:, :4], plain[:, :4])
    assert not np.array_equal(noisy[:, 4:], plain[:, 4:])
    assert ENCODING.decode(noisy).select("count", "id").equals(FRAME.select("count", "id"))


def test_the_noise_of_integers_is_uniform_on_their_unit_interval() -> None:
    column = integers("k", 0.0, 1.0)
    noise = column.encode(pl.Series("k", [7] * 100_000), seeding.stream(3, "test"))[:, 0] - 7
    assert -0.5 <= noise.min() < -0.499
    assert 0.499 < noise.max() <= 0.5
    assert_allclose(noise.var(), 1 / 12, rtol=0.02)


def test_fractions_among_other_rows_of_a_column_of_whole_numbers_are_not_cut_off() -> None:
    column = IntegerColumn.fit(pl.Series("n", np.arange(100)), standardise=True)
    halves, ends = (column.encode(pl.Series("n", x), None)[:, 0] for x in ([1.5, 7.5], [1, 2, 7, 8]))
    assert ((halves > ends[::2]) & (halves < ends[1::2])).all()


def test_without_standardisation_features_keep_the_unit_of_their_column() -> None:
    encoding = TableEncoding.fit(FRAME, standardise=False)
    assert np.array_equal(encoding.encode(FRAME, None), FRAME.to_numpy())
    assert_allclose(encoding.affine, [[0] * 6, [1] * 6])


def test_a_column_that_is_constant_in_the_training_rows_keeps_its_unit() -> None:
    # The standard deviation of many 0.1s is not zero but rounding, which must not become the scale.
    tenths = np.full(1000, 0.1)
    assert tenths.std() > 0
    column = NumberColumn.fit(pl.Series("x", tenths), standardise=True)
    assert column.scale == 1
    assert_allclose(column.encode(pl.Series("x", tenths), None), 0, atol=1e-15)


def test_columns_may_stand_in_any_order_and_beside_others() -> None:
    shuffled = FRAME.select("id", "huge", pl.lit(7).alias("other"), "unit", "count", "small", "far")
    assert np.array_equal(ENCODING.encode(shuffled, None), ENCODING.encode(FRAME, None))


def test_an_encoding_survives_json_exactly() -> None:
    assert TableEncoding.model_validate_json(ENCODING.model_dump_json()) == ENCODING
    assert TableEncoding.model_validate(ENCODING.model_dump(mode="json")) == ENCODING


@pytest.mark.parametrize(
    "column",
    [
        {"kind": "number", "name": "x", "shift": 0.0},
        {"kind": "number", "name": "x", "shift": 0.0, "scale": 0.0},
        {"kind": "number", "name": "x", "shift": float("nan"), "scale": 1.0},
        {"kind": "integer", "name": "x", "shift": 0.0, "scale": 1.0, "unit": "m"},
    ],
)
def test_json_that_describes_no_encoding_is_a_value_error(column: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"scale|shift|unit"):
        TableEncoding.model_validate({"columns": [column]})


def test_an_unknown_kind_of_column_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match="number"):
        TableEncoding.model_validate({"columns": [{"kind": "numbr", "name": "x"}]})


def test_torch_decodes_the_same_bits_as_numpy() -> None:
    z = ENCODING.encode(FRAME, seeding.stream(4, "test"))
    by_numpy, by_torch = ENCODING.values(z), ENCODING.values(torch.from_numpy(z))
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(by_numpy, by_torch, strict=True))


def test_an_integer_that_is_not_finite_is_never_given() -> None:
    column = integers("k", 0.0, 1.0)
    with pytest.raises(pl.exceptions.InvalidOperationError):
        column.series(column.values(np.array([[np.nan]])))


def test_every_feature_belongs_to_one_column() -> None:
    assert ENCODING.width == 6
    assert [range(6)[span] for span in ENCODING.spans] == [range(k, k + 1) for k in range(6)]


def test_the_resolution_is_the_distance_of_neighbouring_values_as_features() -> None:
    assert np.array_equal(ENCODING.resolution[:4], np.zeros(4))
    column = ENCODING.columns[4]
    low, high = column.encode(pl.Series("count", [2, 3]), None)[:, 0]
    assert_allclose(ENCODING.resolution[4], high - low)


def test_the_affine_map_is_the_one_that_decodes_and_its_slope_the_volume_of_a_unit_cube() -> None:
    encoding = TableEncoding.fit(NUMBERS)
    shift, scale = encoding.affine
    z = encoding.encode(NUMBERS, None)
    assert_allclose(shift + scale * z, NUMBERS.to_numpy(), rtol=1e-12)
    assert_allclose(encoding.log_slope(z), np.log(np.linalg.det(np.diag(NUMBERS.to_numpy().std(axis=0)))))


def test_the_encoding_of_a_seeded_table_is_the_same_every_time() -> None:
    assert TableEncoding.fit(FRAME) == ENCODING


@pytest.mark.parametrize(
    ("learnt", "same", "other"),
    [
        (2024, [2024.0], [2024.5]),
        (True, [True], ["maybe"]),
        (date(2024, 1, 31), [datetime(2024, 1, 31)], ["soon"]),
        ("7", [7], ["8"]),
        (None, [None], ["x"]),
    ],
)
def test_cells_of_any_type_are_compared_with_the_only_value_of_a_column(
    learnt: object, same: list[object], other: list[object]
) -> None:
    encoding = TableEncoding.fit(pl.DataFrame({"x": range(20), "only": pl.Series([learnt] * 20)}))
    assert encoding.unlike_constants(pl.DataFrame({"only": same})) == []
    assert encoding.unlike_constants(pl.DataFrame({"only": other})) == ["only"]
