"""A table whose conditional distributions are known, and a quick training on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from dualdiff_cli import seeding
from dualdiff_cli.config.recipes import Request

__all__ = ["CORRELATION", "known_rows", "quick_request", "write_known_rows"]

CORRELATION = 0.8
"""Of x and y, which are standard normal."""


def known_rows(n: int, *, seed: int = 0) -> pl.DataFrame:
    """Draw rows of x, y, a category that says whether x is above 0 with 10 % of mistakes, and a count that rises."""
    rng = seeding.stream(seed, "known rows")
    x = rng.normal(size=n)
    y = CORRELATION * x + np.sqrt(1 - CORRELATION**2) * rng.normal(size=n)
    high = (x > 0) ^ (rng.random(n) < 0.1)
    return pl.DataFrame(
        {
            "x": 10 + 2 * x,
            "side": np.where(high, "high", "low"),
            "y": y,
            "hits": rng.poisson(np.exp(1 + 0.5 * y)),
        }
    )


def write_known_rows(path: Path, n: int = 1200, *, gaps: float = 0.0) -> Path:
    """Write such rows, of which a share of the cells is missing."""
    rows = known_rows(n)
    missing = seeding.stream(1, "gaps").random((n, rows.width)) < gaps
    rows.with_columns(
        pl.when(pl.Series(~missing[:, k])).then(pl.col(name)).alias(name) for k, name in enumerate(rows.columns)
    ).write_csv(path)
    return path


def quick_request(file: Path | str, *settings: str, steps: int = 300) -> Request:
    """What the command line asks for with a file of few rows, --steps and a narrow network."""
    small = ["model.width=32", "folds.levels=12", "training.log_every=100", "sampling.steps=12", "training.batch=64"]
    return Request(dataset=str(file), options={"training": {"steps": steps}}, settings=[*small, *settings])
