"""A target with gaps or point masses is predicted where it is a number."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dualdiff_cli import seeding
from dualdiff_cli.data import Data
from dualdiff_cli.jobs.truth import Truth

N = 2000


def rows_with(apart: float | None, *, role: str) -> pl.DataFrame:
    """Give rows in which y is exp x, and in 30 % of the rows the value apart, whatever x is."""
    rng = seeding.stream(0, role)
    x = rng.normal(size=N)
    values = np.where(rng.random(N) < 0.3, np.nan, np.exp(x))
    return pl.DataFrame({"x": x, "y": pl.Series(values).fill_nan(apart)})


@pytest.mark.parametrize("apart", [None, -3.0], ids=["gaps", "a point mass below all other values"])
def test_rows_in_which_the_target_is_no_number_take_no_part(apart: float | None) -> None:
    real, generated = rows_with(apart, role="real"), rows_with(apart, role="generated")
    data = Data("rows", rows_with(apart, role="training"), real, None, {})
    score = Truth(data, real, N, seed=0).score(generated, metrics=["tstr"], target="y")["tstr"]
    numbers = [N - rows["y"].null_count() - int((rows["y"] == -3.0).sum()) for rows in (real, generated)]
    assert [score.n_real, score.n_generated] == numbers
    assert score.value > 0.9  # with the rows that are no numbers it is at most 0.7
    assert score.floor == pytest.approx(score.value, abs=0.05)
    assert "take no part" in " ".join(score.notes)
