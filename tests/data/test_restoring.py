from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

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


@pytest.mark.parametrize(
    ("texts", "values", "drawn", "written"),
    [
        (["1,5", "NA"], [1.5, None], 2.25, "2,25"),
        (["1.50", None], [1.5, None], 2.25, "2.25"),
        (["1,234", None], [1234, None], 5678, "5678"),
        (["$1.5", None], [1.5, None], -2.25, "-$2.25"),
        (["7 %", None], [7, None], 8, "8 %"),
        (["1,5 €", None], [1.5, None], 2.25, "2,25 €"),
        (
            ["12/31/2024 9:30 PM", None],
            [datetime(2024, 12, 31, 21, 30), None],
            datetime(2025, 1, 2, 3, 4),
            "01/02/2025 3:04 AM",
        ),
        (["True", None], [True, None], False, "False"),
        (["TRUE", None], [True, None], False, "FALSE"),
        (["31.12.2024", None], [date(2024, 12, 31), None], date(2025, 1, 2), "02.01.2025"),
        (["4/30/2024", None], [date(2024, 4, 30), None], date(2025, 1, 2), "1/2/2025"),
        (["2024-12-31", None], [date(2024, 12, 31), None], date(2025, 1, 2), "2025-01-02"),
        (
            ["2024-12-31 10:30", None],
            [datetime(2024, 12, 31, 10, 30), None],
            datetime(2025, 1, 2, 3, 4),
            "2025-01-02 03:04",
        ),
        # No form of the text would lose the seconds, and one with a zone says that the drawn moment is in UTC.
        (
            ["2024-12-31 10:30", None],
            [datetime(2024, 12, 31, 10, 30), None],
            datetime(2025, 1, 2, 3, 4, 5),
            "2025-01-02T03:04:05",
        ),
        (
            ["2024-01-01T10:00:00+02:00", None],
            [datetime(2024, 1, 1, 8), None],
            datetime(2025, 1, 2, 3),
            "2025-01-02T03:00:00Z",
        ),
        ([None, None], pl.Series([None, None], dtype=pl.Date), date(2025, 1, 2), "2025-01-02"),
    ],
)
def test_drawn_cells_of_a_column_of_texts_are_written_as_the_others(
    texts: list[str | None], values: Any, drawn: object, written: str
) -> None:
    original, observed = pl.Series("a", texts, dtype=pl.String), pl.Series("a", values)
    filled = pl.Series("a", [values[0], drawn], dtype=observed.dtype)
    assert put_back(original, observed, filled)[1] == written


def test_a_decimal_comma_far_down_in_a_column_with_a_unit_is_seen() -> None:
    texts, observed = pl.Series("a", [*["7 %"] * 100, "1,5 %", None]), pl.Series("a", [*[7.0] * 100, 1.5, None])
    filled = observed.fill_null(2.25)
    assert put_back(texts, observed, filled)[-1] == "2,25 %"


def test_a_file_with_decimal_commas_gets_them_in_a_column_without_any() -> None:
    texts, observed = pl.Series("a", ["1", None]), pl.Series("a", [1.0, None])
    filled = pl.Series("a", [1.0, 1.234])
    assert put_back(texts, observed, filled, decimal_comma=True).to_list() == ["1", "1,234"]
