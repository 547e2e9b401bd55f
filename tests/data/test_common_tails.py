"""Heavy-tailed columns that are far out together keep a part of their tails."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_t, norm, t

from dualdiff_cli.data import TableEncoding
from dualdiff_cli.data.encoding.common_tails import _student_t
from dualdiff_cli.data.encoding.skewed import SkewedColumn

N, NU = 2_000, 3


def heavy(seed: int, *, together: bool) -> pl.DataFrame:
    """Three columns whose margins are hyperbolic sines of normal values, far out together or not."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((N, 3)) @ np.array([[1, 0.6, 0.0], [0, 0.8, 0.0], [0, 0, 1]])
    if together:
        z = norm.ppf(t.cdf(z / np.sqrt(rng.chisquare(NU, (N, 1)) / NU), NU))
    return pl.DataFrame(100 + 3 * np.sinh(z), schema=["a", "b", "c"])


def spreads(rows: pl.DataFrame) -> list[float]:
    columns = TableEncoding.fit(rows).columns
    assert all(isinstance(column, SkewedColumn) for column in columns)
    return [column.spread for column in columns if isinstance(column, SkewedColumn)]


@pytest.mark.parametrize("seed", range(3))
def test_columns_that_are_far_out_together_get_wider_translations(seed: int) -> None:
    assert min(spreads(heavy(seed, together=True))) > 6  # a single column gets about 3


@pytest.mark.parametrize("seed", range(3))
def test_columns_whose_far_values_lie_in_different_rows_become_normal_each(seed: int) -> None:
    assert_allclose(spreads(heavy(seed, together=False)), 3, rtol=0.3)


def test_the_other_columns_of_the_table_stay_as_they_are() -> None:
    rows = heavy(0, together=True)
    rng = np.random.default_rng(1)
    others = pl.DataFrame({"plain": rng.uniform(size=N), "positive": rng.lognormal(0, 2, N)})
    encoding = TableEncoding.fit(pl.concat([others, rows], how="horizontal"))
    assert encoding.columns[:2] == TableEncoding.fit(others).columns
    assert [column.kind for column in encoding.columns[2:]] == ["skewed"] * 3


def test_the_table_decodes_to_the_values_and_features_are_standardised() -> None:
    rows = heavy(0, together=True)
    encoding = TableEncoding.fit(rows)
    z = encoding.encode(rows, None)
    assert_allclose(encoding.decode(z).to_numpy(), rows.to_numpy(), rtol=1e-10)
    assert_allclose(z.mean(0), 0, atol=1e-10)
    assert_allclose(z.std(0), 1)


def test_one_heavy_column_alone_has_nothing_in_common() -> None:
    rows = heavy(0, together=True)
    alone = rows.select("a")
    assert_array_equal(spreads(alone), [SkewedColumn.fit(alone["a"], standardise=True).spread])


@pytest.mark.parametrize("nu", [3.0, 100.0])
def test_the_fit_reaches_the_likelihood_of_the_true_distribution(nu: float) -> None:
    mu, sigma = np.array([1.0, -2.0]), np.array([[2.0, 0.5], [0.5, 1.0]])
    truth = multivariate_t(mu, sigma, df=nu, seed=0)
    z = truth.rvs(N)
    gain = (_student_t(z, nu) - truth.logpdf(z)).sum()
    assert 0 < gain < 10  # half of a chi-squared variable with five degrees of freedom: 2.5 on average
