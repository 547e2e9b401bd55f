from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dualdiff_cli.data import TableEncoding
from dualdiff_cli.data.encoding.masses import MassesColumn, point_masses

RNG = np.random.default_rng(0)
N = 1000


def spoiled(x: np.ndarray, **shares: float) -> np.ndarray:
    """Put a value, such as "zero", in the place of a share of the numbers."""
    values = {"zero": 0.0, "one": 1.0, "cap": 9.75}
    u = RNG.random(len(x))
    for name, share in shares.items():
        x = np.where(u < share, values[name], x)
        u = u - share
        u[u < 0] = 2
    return x


@pytest.mark.parametrize("x", [RNG.normal(size=N), RNG.poisson(3, N), RNG.poisson(0.5, N), RNG.integers(0, 100, N)])
def test_numbers_without_point_masses_have_none(x: np.ndarray) -> None:
    assert not point_masses(pl.Series("x", x))


def test_rounded_numbers_are_no_point_masses() -> None:
    assert not point_masses(pl.Series("x", RNG.normal(10, 3, N).round(1)))


def test_exact_zeros_ones_and_caps_are_found_with_their_shares() -> None:
    x = spoiled(RNG.beta(2, 2, N), zero=0.1, one=0.05)
    column = MassesColumn.fit(pl.Series("x", x), standardise=True)
    assert column.masses == (0.0, 1.0)
    assert (column.low, column.high) == (0.0, 1.0)
    assert column.summary.endswith(" %), none below 0 or above 1")
    z = column.encode(pl.Series("x", x), np.random.default_rng(1))
    back = column.series(column.values(z)).to_numpy()
    assert np.array_equal(back == 0, x == 0)
    assert np.array_equal(back == 1, x == 1)
    middle = MassesColumn.fit(pl.Series("x", spoiled(RNG.normal(9.75, 2, N), cap=0.1)), standardise=True)
    assert middle.masses == (9.75,)
    assert (middle.low, middle.high) == (None, None)


def test_a_row_at_a_mass_has_features_of_the_continuous_part() -> None:
    x = spoiled(RNG.lognormal(1, 0.8, N), zero=0.5)
    column = MassesColumn.fit(pl.Series("x", x), standardise=True)
    z = column.encode(pl.Series("x", x), np.random.default_rng(1))[:, 0]
    assert set(z[x == 0].round(9)) <= set(z[x > 0].round(9))
    np.testing.assert_allclose(z[x == 0].std(), z[x > 0].std(), rtol=0.15)


@pytest.mark.parametrize("whole", [False, True])
def test_one_number_with_rare_exceptions_comes_back_exactly(whole: bool) -> None:
    x = np.full(N, 20)
    x[[3, 77, 200, 401, 890]] = [1, 7, 9000, -12, 35]
    frame = pl.DataFrame({"x": x if whole else x / 8})
    encoding = TableEncoding.fit(frame)
    assert encoding.columns[0].kind == "masses"
    back = encoding.decode(encoding.encode(frame, np.random.default_rng(2)))
    assert back.schema == frame.schema
    np.testing.assert_allclose(back["x"], frame["x"], rtol=1e-12)
    usual = encoding.decode(np.random.default_rng(3).normal(size=(500, encoding.width)) * 0.01)["x"]
    assert (usual == frame["x"][0]).all()


def test_whole_numbers_beyond_two_to_the_53_with_a_repeated_value_stay_exact() -> None:
    x = 9_123_456_789_012_345_678 + RNG.integers(0, 5000, N)
    x[:200] = 9_123_456_789_012_345_700
    frame = pl.DataFrame({"x": x})
    encoding = TableEncoding.fit(frame)
    assert encoding.decode(encoding.encode(frame, np.random.default_rng(4))).equals(frame)


def test_the_masses_keep_the_decimals_and_the_type_of_the_rest() -> None:
    x = np.where(RNG.random(N) < 0.3, 0.0, RNG.gamma(2, 20, N).round(2))
    encoding = TableEncoding.fit(pl.DataFrame({"price": x}))
    drawn = encoding.decode(np.random.default_rng(5).normal(size=(N, encoding.width)))["price"]
    assert drawn.equals(drawn.round(2))
    assert (drawn >= 0).all()
    assert 0.1 < (drawn == 0).mean() < 0.6
    counts = np.where(RNG.random(N) < 0.6, 0, RNG.poisson(200, N))
    assert TableEncoding.fit(pl.DataFrame({"n": counts})).types["n"] == pl.Int64


def test_masses_that_are_no_multiples_of_the_step_of_the_rest_come_back_exactly() -> None:
    x = RNG.gamma(2, 20, N).round(2)
    x[:200], x[200:350] = 1 / 3, 1e-7
    frame = pl.DataFrame({"price": x})
    encoding = TableEncoding.fit(frame)
    assert encoding.decode(encoding.encode(frame, np.random.default_rng(6))).equals(frame)


def test_a_mass_among_the_other_values_keeps_its_place_and_one_beyond_them_has_none() -> None:
    x = spoiled(RNG.gamma(4.0, size=N), zero=0.2)
    x = np.where(RNG.random(N) < 0.15, 4.0, x)
    column = MassesColumn.fit(pl.Series("x", x), standardise=True)
    assert column.masses == (0.0, 4.0)
    assert column.inside == (False, True)
    z = column.encode(pl.Series("x", x), np.random.default_rng(1))
    unused = column.unused(z)
    assert (unused[:, 0] == (x == 0)).all()
    assert not unused[:, 1:].any()
    place = column.inner.encode(pl.Series("x", [4.0]), None)[0, 0]
    near = z[x == 4.0, 0]
    assert abs(near.mean() - place) < 0.05
    assert 0.05 < near.std() < 0.2
    seen = x > 0
    assert np.corrcoef(x[seen], z[seen, 0])[0, 1] > 0.9
    assert column.encode(pl.Series("x", [4.0]), None)[0, 0] == place
    assert (column.series(column.values(z)).to_numpy()[~seen] == 0).all()


def test_a_mass_among_rounded_values_has_no_noise_in_the_category_of_their_grid() -> None:
    rng = np.random.default_rng(7)
    x = np.where(rng.random(N) < 0.7, 5 * rng.integers(4, 100, N), rng.integers(20, 500, N))
    column = MassesColumn.fit(pl.Series("x", np.where(rng.random(N) < 0.2, 135, x)), standardise=True)
    assert (column.inner.kind, column.inside) == ("rounded", (True,))
    z = column.encode(pl.Series("x", [135] * 9), np.random.default_rng(1))
    assert len(set(z[:, 0])) == 9
    for span in column.discrete:
        np.testing.assert_array_equal(z[:, span.features], span.at(span.places(z)))


def test_the_smallest_numbers_below_a_mass_keep_their_digits() -> None:
    p = 10.0 ** -np.abs(np.random.default_rng(8).normal(8, 6, N))
    p[:200] = 1.0
    column = MassesColumn.fit(pl.Series("p", p), standardise=True)
    assert (column.inner.kind, column.high) == ("skewed", 1.0)
    back = column.values(column.encode(pl.Series("p", p), np.random.default_rng(1)))
    np.testing.assert_allclose(back, p, rtol=1e-9, atol=0)


def test_an_older_file_without_the_places_of_the_masses_is_read() -> None:
    x = spoiled(RNG.normal(10.0, 2.0, N), cap=0.1)
    written = MassesColumn.fit(pl.Series("x", x), standardise=True).model_dump(mode="json")
    del written["inside"]
    column = MassesColumn.model_validate(written)
    z = column.encode(pl.Series("x", x), np.random.default_rng(1))
    assert (column.unused(z)[:, 0] == (x == 9.75)).all()
