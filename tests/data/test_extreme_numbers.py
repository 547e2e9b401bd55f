"""Columns at the ends of what a floating-point number can hold: learnt as they are, or refused before the training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dualdiff_cli import seeding
from dualdiff_cli.data import TableEncoding, read_table, require_space
from dualdiff_cli.data.encoding.integer import IntegerColumn
from dualdiff_cli.errors import InputError


@pytest.mark.parametrize("magnitude", [1e139, 1e30, 1.0, 1e-30, 1e-138])
def test_a_column_of_any_magnitude_comes_back(magnitude: float) -> None:
    x = magnitude * np.random.default_rng(0).normal(size=500)
    rows = pl.DataFrame({"x": x})
    encoding = TableEncoding.fit(rows)
    features = encoding.encode(rows, None)
    assert np.isfinite(features).all()
    assert 0.5 < features.std() < 2
    np.testing.assert_allclose(encoding.decode(features)["x"], x, rtol=1e-9, atol=1e-9 * magnitude)


@pytest.mark.parametrize("magnitude", [1e-200, 1e-310])
def test_a_column_whose_variance_vanishes_is_refused_by_its_name(magnitude: float) -> None:
    with pytest.raises(InputError, match="'x' differ by") as caught:
        TableEncoding.fit(pl.DataFrame({"x": magnitude * np.arange(1.0, 200.0), "y": np.arange(199.0) / 7}))
    assert "unit" in caught.value.remedy


def test_a_file_with_values_whose_squares_overflow_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.csv"
    path.write_text("x,y\n1e308,1\n-1e308,2\n3,4\n")
    with pytest.raises(InputError, match=r"'x' .*beyond"):
        read_table(path)


def test_more_rows_than_the_disk_holds_are_refused(tmp_path: Path) -> None:
    require_space(tmp_path / "new" / "rows.csv", rows=1_000, columns=2)
    with pytest.raises(InputError, match=r"rows\.csv has .* GB"):
        require_space(tmp_path / "rows.csv", rows=2**63 - 1, columns=2)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="/proc is a file system without any room")
def test_a_file_system_that_holds_no_files_is_not_called_too_small() -> None:
    require_space("/proc/rows.csv", rows=5, columns=2)


@pytest.mark.parametrize(
    ("values", "dtype", "bounds"),
    [
        ([2**63 - 1 - k for k in range(40)], pl.Int64, (-(2**63), 2**63 - 1)),
        ([2**64 - 1 - k for k in range(40)], pl.UInt64, (0, 2**64 - 1)),
    ],
)
@pytest.mark.parametrize("number", [-1e300, -1e19, 50.0, 1e19, 1e300])
def test_a_drawn_whole_number_beyond_64_bits_becomes_the_nearest(
    values: list[int], dtype: type[pl.DataType], bounds: tuple[int, int], number: float
) -> None:
    (column,) = TableEncoding.fit(pl.DataFrame({"id": pl.Series(values, dtype=dtype)})).columns
    (drawn,) = column.series(np.array([number]))
    exact = int(number) + column.offset
    assert drawn == min(max(exact, bounds[0]), bounds[1]) or abs(drawn - exact) < 2**-40 * abs(exact)


def test_whole_numbers_whose_noise_is_rounded_away_come_back() -> None:
    numbers = pl.Series("n", [0, 281474395344413, -584753331] * 8)
    column = IntegerColumn.fit(numbers, standardise=True)
    for seed in range(100):  # without care a quarter of the seeds give a neighbour in some row
        features = column.encode(numbers, seeding.stream(seed, "noise"))
        assert column.series(column.values(features)).equals(numbers)
