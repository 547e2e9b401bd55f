"""Skewed and heavy-tailed columns are translated; all others keep the affine encoding."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose

from dualdiff_cli import seeding
from dualdiff_cli.data import FloatArray, TableEncoding, get_density
from dualdiff_cli.data.densities.catalogue import DENSITIES
from dualdiff_cli.data.encoding.bounded import BoundedColumn
from dualdiff_cli.data.encoding.skewed import SkewedColumn

N = 2000


def draw(shape: str, n: int = N) -> FloatArray:
    rng = seeding.stream(n, shape)
    normal, bulk = rng.normal(size=n), rng.normal(50, 15, n)
    shapes = {
        "lognormal": np.exp(normal),
        "exponential": rng.exponential(size=n),
        "shifted lognormal": np.exp(normal) - 3,
        "t2": rng.standard_t(2, n),
        "t3": rng.standard_t(3, n),
        "Cauchy": rng.standard_cauchy(n),
        "one outlier": np.concatenate([[1e6], bulk[1:]]),
        "ten outliers": np.concatenate([1e4 * rng.normal(size=10), bulk[10:]]),
        "normal": bulk,
        "uniform": rng.uniform(size=n),
        "uniform with a peak": np.where(rng.random(n) < 0.033, rng.uniform(180, 181, n), rng.uniform(0, 360, n)),
        "narrow lognormal": np.exp(0.05 * normal),
        "two modes": np.where(rng.random(n) < 0.7, 10, 30) + normal,
        "arcsine": np.sin(rng.uniform(-3, 3, n)),
        "unequal modes": np.array([0.0, 3, 7, 8])[rng.choice(4, n, p=[0.6, 0.2, 0.1, 0.1])] + 0.5 * normal,
        "many zeros": np.where(rng.random(n) < 0.5, 0, np.exp(normal)),
        "constant": np.ones(n),
    }
    return shapes[shape]


TRANSLATED = {
    "lognormal": "positive",
    "exponential": "positive",
    "shifted lognormal": "unbounded",
    "t2": "unbounded",
    "t3": "unbounded",
    "Cauchy": "unbounded",
    "one outlier": "unbounded",
    "ten outliers": "unbounded",
}


def column_of(shape: str) -> SkewedColumn:
    return SkewedColumn.fit(pl.Series("x", draw(shape)), standardise=True)


@pytest.mark.parametrize(("shape", "form"), TRANSLATED.items())
@pytest.mark.parametrize("n", [400, 5000])
def test_a_column_with_heavy_tails_is_translated(shape: str, form: str, n: int) -> None:
    (column,) = TableEncoding.fit(pl.DataFrame({"x": draw(shape, n)})).columns
    skewed = column.inner if isinstance(column, BoundedColumn) else column
    assert isinstance(skewed, SkewedColumn)
    assert skewed.form == form


@pytest.mark.parametrize(
    "shape",
    [
        "normal",
        "uniform",
        "uniform with a peak",
        "narrow lognormal",
        "two modes",
        "arcsine",
        "unequal modes",
        "many zeros",
        "constant",
    ],
)
@pytest.mark.parametrize("n", [30, 400, 5000])
def test_other_columns_are_not_translated(shape: str, n: int) -> None:
    assert not SkewedColumn.suits(pl.Series("x", draw(shape, n)))


@pytest.mark.parametrize("name", DENSITIES)
def test_no_density_of_the_catalogue_is_translated(name: str) -> None:
    rows = get_density(name).sample(3000, seeding.stream(0, name))
    assert not any(SkewedColumn.suits(pl.Series("x", x)) for x in rows.T)


def test_columns_that_keep_their_unit_are_not_translated() -> None:
    rows = pl.DataFrame({"x": draw("lognormal")})
    (column,) = TableEncoding.fit(rows, standardise=False).columns
    assert column.affine == (0, 1)
    with pytest.raises(ValueError, match="'x'"):
        SkewedColumn.fit(rows["x"], standardise=False)


@pytest.mark.parametrize("shape", TRANSLATED)
def test_features_have_mean_zero_variance_one_and_decode_to_the_values(shape: str) -> None:
    x = draw(shape)
    column = column_of(shape)
    z = column.encode(pl.Series("x", x), None)
    assert z.shape == (N, 1)
    assert_allclose([z.mean(), z.std()], [0, 1], atol=1e-9)
    assert_allclose(column.values(z), x, rtol=1e-9, atol=1e-9 * np.median(np.abs(x)))


@pytest.mark.parametrize("shape", ["one outlier", "ten outliers"])
def test_outliers_do_not_decide_the_scale_of_the_bulk(shape: str) -> None:
    x = draw(shape)
    z = column_of(shape).encode(pl.Series("x", x), None)[:, 0]
    bulk = np.abs(x - 50) < 60
    assert bulk.sum() >= N - 12
    assert 0.4 < z[bulk].std() <= 1
    assert np.abs(z).max() < 25
    assert x.std() > 10 * x[bulk].std()  # the affine encoding would make the bulk ten times narrower


@pytest.mark.parametrize("shape", TRANSLATED)
def test_the_slope_is_the_derivative_of_decoding(shape: str) -> None:
    column, h = column_of(shape), 1e-6
    z = np.linspace(-4, 4, 50)[:, None]
    slope = (column.values(z + h) - column.values(z - h)) / (2 * h)
    assert_allclose(column.log_slope(z), np.log(slope), atol=1e-5)


def test_a_table_adds_the_slopes_of_its_columns_and_has_a_density() -> None:
    rows = pl.DataFrame({"x": draw("lognormal"), "y": draw("normal")})
    encoding = TableEncoding.fit(rows)
    z = encoding.encode(rows, None)
    # If features are standard normal, the density of log x is normal; compare with SciPy's lognormal density of x.
    slope = encoding.log_slope(z)
    x, y = encoding.columns
    assert_allclose(slope, x.log_slope(z[:, :1]) + np.log(y.affine[1]))  # type: ignore[index,operator]
    assert encoding.has_density
    with pytest.raises(Exception, match="'x'"):
        encoding.affine  # noqa: B018


def test_a_positive_column_stays_positive_and_takes_values_that_are_not() -> None:
    column = column_of("lognormal")
    assert column.values(np.linspace(-30, 30, 100)[:, None]).min() > 0
    z = column.encode(pl.Series("x", [1.0, 0.0, -5.0]), None)
    assert np.isfinite(z).all()
    assert z[1, 0] == z[2, 0] == pytest.approx(-100)


def test_a_zero_beside_p_values_of_any_magnitude_is_a_finite_feature() -> None:
    p_values = 10.0 ** -seeding.stream(0, "p-values").exponential(8, N)
    column = SkewedColumn.fit(pl.Series("p", p_values), standardise=True)
    assert column.scale > 10.7  # two to the power of −100 standard deviations is no number of float64
    z = column.encode(pl.Series("p", [0.0, -1.0, 5e-324]), None)[:, 0]
    assert z[0] == z[1] == -100
    assert -100 < z[2] < -10


@pytest.mark.parametrize("shape", ["below 50", "not negative", "from 5"])
@pytest.mark.parametrize("dtype", [pl.Float64, pl.Int64, pl.Datetime("us")])
def test_a_translated_column_keeps_bounds_that_the_translation_does_not_know(
    shape: str, dtype: type[pl.DataType]
) -> None:
    rng = seeding.stream(0, shape)
    scale = 1 if dtype == pl.Float64 else 10_000
    x = {
        "below 50": 50 - rng.exponential(size=N),
        "not negative": np.abs(10 + rng.standard_t(1.5, N)),
        "from 5": 5 + np.exp(1.5 * rng.normal(size=N)) * (rng.random(N) < 0.97) + rng.exponential(0.2, N),
    }[shape]
    values = pl.Series("x", x * scale).cast(pl.Float64 if scale == 1 else pl.Int64).cast(dtype)
    encoding = TableEncoding.fit(pl.DataFrame([values]))
    z = rng.normal(size=(50_000, encoding.width)) * 1.5
    drawn, known = encoding.decode(z)["x"].to_physical(), values.to_physical()
    if shape == "below 50":
        assert float(drawn.max()) <= float(known.max())  # type: ignore[arg-type]
    else:
        assert float(drawn.min()) >= (0 if shape == "not negative" else float(known.min()))  # type: ignore[arg-type]


def test_torch_decodes_what_numpy_decodes() -> None:
    z = np.linspace(-8, 8, 1000)[:, None]
    for shape in TRANSLATED:
        column = column_of(shape)
        assert_allclose(column.values(torch.from_numpy(z)).numpy(), column.values(z), rtol=1e-12)


def test_json_keeps_the_encoding() -> None:
    encoding = TableEncoding.fit(pl.DataFrame({"x": draw("t2"), "y": draw("lognormal")}))
    assert TableEncoding.model_validate_json(encoding.model_dump_json()) == encoding
