"""Random rows of a table, each drawn once."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from dualdiff_cli import seeding

NUMBERS = np.arange(3000.0)


@pytest.mark.parametrize(
    "rows",
    [NUMBERS[:, None], pl.DataFrame({"x": NUMBERS}), torch.from_numpy(NUMBERS[:, None])],
    ids=["array", "frame", "tensor"],
)
def test_a_subsample_is_from_all_over_the_table_and_has_no_row_twice(rows: Any) -> None:
    drawn, again, other = (seeding.subsample(rows, 500, seed=seed, role="test") for seed in (1, 1, 2))
    assert type(drawn) is type(rows)
    x, x_again, x_other = (np.asarray(each)[:, 0] for each in (drawn, again, other))
    assert len(np.unique(x)) == len(x) == 500
    assert np.histogram(x, bins=3, range=(0, 3000))[0] == pytest.approx(500 / 3, abs=40)
    assert np.array_equal(x, x_again)
    assert not np.array_equal(x, x_other)


def test_a_table_that_is_small_enough_stays_as_it_is() -> None:
    assert seeding.subsample(NUMBERS, len(NUMBERS), seed=0, role="test") is NUMBERS


@pytest.mark.parametrize("most", [100, 3000, 5000])
def test_shuffled_rows_are_those_of_a_permutation_of_the_array(most: int) -> None:
    rows = np.stack([NUMBERS, -NUMBERS], axis=1)
    drawn = seeding.shuffled(rows, most, seeding.stream(4, "test"))
    assert np.array_equal(drawn, seeding.stream(4, "test").permutation(rows)[:most])
