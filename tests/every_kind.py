"""One column of every kind, as tables have them, and what the tests of the kinds share."""

from __future__ import annotations

import datetime as dt
from functools import cache

import numpy as np
import polars as pl

from dualdiff_cli.data import TableEncoding

__all__ = ["KINDS", "N", "every_kind", "one"]

N = 600
KINDS = {"angle": "angle", "hour": "angle", "code": "category"}
"""The kinds that no data show, so that a schema has to ask for them."""


@cache
def every_kind() -> pl.DataFrame:
    """A table of N rows with a column of every kind, and some of kinds inside other kinds."""
    rng = np.random.default_rng(0)
    fraction = rng.beta(1.2, 1.5, N)
    fraction[:60], fraction[60:90] = 0, 1
    days = np.sort(rng.integers(0, 700, N))
    working = [d + 2 if d % 7 >= 5 else d for d in days]  # the first day is a Monday
    start = dt.date(2023, 1, 2)
    gaps = rng.random(N) < 0.1
    rounding = np.random.default_rng(1)
    width = rounding.normal(57, 2, N)
    return pl.DataFrame(
        {
            "detector": rng.choice(list("ABC"), N, p=[0.5, 0.3, 0.2]),
            "two": rng.choice(["no", "yes"], N),
            "flag": rng.random(N) < 0.3,
            "many": [f"v{k}" for k in rng.integers(0, 200, N)],
            "code": rng.choice([10, 20, 30], N),
            "gauss": rng.normal(100, 1, N),
            "tiny": 1e-12 * rng.normal(size=N),
            "giant": 1e12 * rng.normal(size=N),
            "hits": rng.poisson(3, N),
            "long": 9_123_456_789_012_345_678 + rng.integers(0, 10_000, N),
            "energy": rng.lognormal(1, 0.8, N),
            "fraction": fraction,
            "zero": np.where(rng.random(N) < 0.888, 0, rng.exponential(5, N)),
            "rare": np.where(np.arange(N) % 100 == 0, rng.normal(50, 3, N), 3.5),
            "price": np.round(rng.gamma(2, 20, N), 2),
            "half": np.round(2 * rng.normal(10, 4, N)) / 2,
            "table": np.where(rounding.random(N) < 0.9, width.round(), width.round(1)),
            "mass": 25 * rounding.integers(100, 250, N),
            "uniform": rng.uniform(-1, 1, N),
            "angle": rng.uniform(0, 360, N),
            "hour": rng.integers(0, 24, N),
            "date": [start + dt.timedelta(int(d)) for d in working],
            "moment": [dt.datetime(2024, 1, 1) + dt.timedelta(seconds=int(s)) for s in rng.integers(0, 10**7, N)],
            "temp": pl.Series(np.where(gaps, None, rng.normal(15, 8, N)).tolist(), dtype=pl.Float64),
            "place": [None if gap else p for gap, p in zip(gaps[::-1], rng.choice(list("XYZ"), N), strict=True)],
            "day": [None if gap else start + dt.timedelta(int(d)) for gap, d in zip(gaps, days, strict=True)],
            "same": np.full(N, 3.5),
            "today": [start] * N,
            "empty": pl.Series([None] * N, dtype=pl.String),
        }
    )


def one(name: str, values: object, dtype: pl.DataType | type[pl.DataType] | None = None, **kinds: str) -> TableEncoding:
    """Fit an encoding to one column, beside a column of numbers that gives the table something to learn."""
    column = pl.Series(name, values, dtype=dtype)
    beside = pl.Series("beside", np.random.default_rng(1).normal(size=len(column)))
    return TableEncoding.fit(pl.DataFrame([column, beside]), kinds=kinds)
