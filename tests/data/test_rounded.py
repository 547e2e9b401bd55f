"""Columns of which many values are rounded more than the others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from every_kind import one

from dualdiff_cli import seeding
from dualdiff_cli.data import TableEncoding
from dualdiff_cli.data.encoding.masses import MassesColumn
from dualdiff_cli.data.encoding.rounded import RoundedColumn, coarse_steps

N = 1_000
Values = npt.NDArray[np.float64] | npt.NDArray[np.int64]


def draw(shape: str, n: int = N) -> Values:
    rng = seeding.stream(n, shape)
    smooth = rng.normal(57, 2, n)
    return {
        "whole, some with a decimal": np.where(rng.random(n) < 0.98, smooth.round(), smooth.round(1)),
        "ages by fives": np.where(rng.random(n) < 0.4, 5 * rng.integers(4, 16, n), rng.integers(18, 80, n)),
        "quarters of an hour": np.where(rng.random(n) < 0.5, 15 * rng.integers(1, 20, n), rng.integers(1, 300, n)),
        "thousands and hundreds": np.where(
            rng.random(n) < 0.6,
            1000 * rng.poisson(30, n),
            np.where(rng.random(n) < 0.5, 100 * rng.poisson(300, n), rng.poisson(30_000, n)),
        ),
        "fives and twos": np.where(
            rng.random(n) < 0.55, 5 * rng.integers(4, 16, n), 2 * rng.integers(9, 40, n) + (rng.random(n) < 0.05)
        ),
        "all in steps of 25": 25 * rng.integers(100, 250, n),
        "even": 2 * rng.poisson(5, n),
        "zeros and tens": np.where(
            rng.random(n) < 0.3, 0, np.where(rng.random(n) < 0.5, 10 * rng.integers(1, 60, n), rng.integers(1, 600, n))
        ),
        "a few counts": rng.poisson(2, n),
        "many counts": rng.poisson(30, n),
        "geometric": rng.geometric(0.3, n),
        "percentages with caps": np.where(rng.random(n) < 0.3, rng.choice([0, 100], n), rng.integers(0, 101, n)),
        "many zeros": np.where(rng.random(n) < 0.5, 0, rng.integers(0, 100, n)),
        "evenly spread": rng.integers(0, 100, n),
        "dice": rng.integers(1, 7, n),
        "years": rng.integers(1990, 2020, n),
        "prices": np.round(rng.lognormal(3, 1, n), 2),
        "all digits": smooth,
    }[shape]


STEPS = {
    "whole, some with a decimal": (1.0,),
    "ages by fives": (5.0,),
    "quarters of an hour": (15.0,),
    "thousands and hundreds": (1000.0, 100.0),
    "fives and twos": (5.0, 2.0),
    "all in steps of 25": (25.0,),
    "even": (2.0,),
}
PLAIN = [
    *("a few counts", "many counts", "geometric", "percentages with caps", "many zeros", "evenly spread", "dice"),
    *("years", "prices", "all digits"),
]


def column_of(shape: str) -> RoundedColumn:
    column = one("x", draw(shape)).columns[0]
    assert isinstance(column, RoundedColumn)
    return column


@pytest.mark.parametrize("n", [300, N, 10_000])
@pytest.mark.parametrize("shape", STEPS)
def test_the_grids_are_found(shape: str, n: int) -> None:
    assert coarse_steps(pl.Series(draw(shape, n))) == STEPS[shape]


@pytest.mark.parametrize("n", [100, 300, N, 10_000])
@pytest.mark.parametrize("shape", PLAIN)
def test_columns_whose_values_are_rounded_alike_have_no_coarse_grid(shape: str, n: int) -> None:
    assert coarse_steps(pl.Series(draw(shape, n))) == ()


@pytest.mark.parametrize("shape", STEPS)
def test_noise_is_undone_and_values_keep_their_type(shape: str) -> None:
    column, own = column_of(shape), pl.Series("x", draw(shape))
    for rng in (None, seeding.stream(0, "noise")):
        assert column.series(column.values(column.encode(own, rng))).equals(own)


@pytest.mark.parametrize("shape", STEPS)
def test_smooth_features_come_back_on_the_grids_as_often_as_in_the_data(shape: str) -> None:
    column, own = column_of(shape), pl.Series("x", draw(shape))
    z = column.encode(own, seeding.stream(0, "noise"))
    smooth = z[:, : column.inner.width] + 0.05 * seeding.stream(1, "noise").standard_normal(
        (len(z), column.inner.width)
    )
    drawn = column.series(column.values(np.concatenate([smooth, z[:, column.inner.width :]], axis=1)))
    for step in column.steps:
        shares = [float(((x / step).round() * step == x).cast(pl.Float64).mean()) for x in (own, drawn)]  # type: ignore[arg-type]
        assert shares[1] == pytest.approx(shares[0], abs=0.03)


def test_values_that_lie_on_a_grid_by_chance_are_as_many_as_beside_it() -> None:
    column = column_of("ages by fives")
    grids = column.encode(pl.Series("x", draw("ages by fives")), seeding.stream(0, "noise"))[:, column.inner.width :]
    assert column.choice is not None
    rounded = float((column.choice.values(grids) == column.choice.levels.index(0)).mean())
    assert rounded == pytest.approx(0.4, abs=0.05)  # 0.4 of the rows were rounded, and half of all lie on the grid


def test_scored_values_beyond_64_bits_stay_on_their_side() -> None:
    column, far = column_of("whole, some with a decimal"), pl.Series("x", [-1e25, 57.0, 1e19])
    assert (np.diff(column.encode(far, seeding.stream(0, "noise"))[:, 0]) > 0).all()


def test_no_value_leaves_the_bounds_of_the_column() -> None:
    column = column_of("ages by fives")
    drawn = column.values(4 * seeding.stream(0, "far").standard_normal((5000, column.width)))
    assert drawn.min() >= 18


def test_masses_beside_rounded_values_are_masses_and_the_rest_is_rounded() -> None:
    column = one("x", draw("zeros and tens")).columns[0]
    assert isinstance(column, MassesColumn)
    assert column.masses == (0,)
    assert isinstance(column.inner, RoundedColumn)
    assert column.inner.steps == (10.0,)


def test_values_on_one_grid_have_a_density_and_those_on_several_have_none() -> None:
    encoding = one("x", draw("all in steps of 25"))
    assert encoding.has_density
    assert not one("x", draw("ages by fives")).has_density


@pytest.mark.parametrize(("shape", "widened"), [("even", 2.0), ("all in steps of 25", 1.0)])
def test_the_density_of_values_on_one_grid_is_that_of_values_spread_over_the_whole_step(
    shape: str, widened: float
) -> None:
    column, rows = column_of(shape), pl.Series("x", draw(shape))
    features = column.encode(rows, seeding.stream(0, "noise"))
    slope, inner = column.log_slope(features), column.inner.log_slope(features)
    assert slope is not None
    assert inner is not None
    np.testing.assert_allclose(slope - inner, np.log(widened))


def test_a_schema_may_ask_for_it() -> None:
    rows = pl.DataFrame({"x": draw("ages by fives"), "y": draw("all digits")})
    assert TableEncoding.fit(rows, kinds={"x": "rounded"}).columns[0].kind == "rounded"
    assert TableEncoding.fit(rows, kinds={"y": "rounded"}).columns[1].kind == "number"  # a shape that it does not have


def test_a_given_value_is_encoded_without_noise_and_decodes_to_itself() -> None:
    column = column_of("whole, some with a decimal")
    for value in (57.0, 56.3):
        given = pl.Series("x", [value])
        assert column.series(column.values(column.encode(given, None))).equals(given)
