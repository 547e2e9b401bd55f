from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from dualdiff_cli.data.cells import tidy
from dualdiff_cli.data.restoring import in_type, put_back
from dualdiff_cli.errors import InputError

MOMENTS = [datetime(2021, 5, 22, 22, 48, 17, tzinfo=UTC), datetime(2021, 1, 2, tzinfo=UTC)]
COLUMNS = [
    pl.Series("a", ["1.25", "-3.50"]).cast(pl.Decimal(10, 2)),
    pl.Series("a", [1500, 250]).cast(pl.Duration("ms")),
    pl.Series("a", [0, 86_399_999_999_000]).cast(pl.Time),
    pl.Series("a", MOMENTS).cast(pl.Datetime("ns", "Europe/Berlin")),
    pl.Series("a", ["x", "y"], dtype=pl.Categorical),
    pl.Series("a", ["x", "y"], dtype=pl.Enum(["y", "x"])),
    pl.Series("a", [1, 255], dtype=pl.UInt8),
    pl.Series("a", [0.1, 60.9], dtype=pl.Float32),
    pl.Series("a", [True, False]),
]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: str(column.dtype))
def test_every_type_comes_back_from_the_type_of_the_model(column: pl.Series) -> None:
    assert in_type(tidy(column).values, column.dtype).equals(column)


def test_only_gaps_are_filled_and_a_mark_or_nan_is_a_gap() -> None:
    text = pl.Series("a", ["x", "NA", "z"])
    observed = pl.Series("a", ["x", None, None])
    assert put_back(text, observed, pl.Series("a", ["other", "y", None])).to_list() == ["x", "y", "z"]


def test_a_value_beyond_the_type_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"'a' of the table has the type UInt8.*300"):
        in_type(pl.Series("a", [300]), pl.UInt8())
