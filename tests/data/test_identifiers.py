"""Columns that only tell the rows apart are left out, and this is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dualdiff_cli.data import load_data
from dualdiff_cli.data.split import is_identifier
from dualdiff_cli.errors import InputError

N = 200
RNG = np.random.default_rng(0)
SCATTERED = RNG.integers(-(2**62), 2**62, N)
IDENTIFIERS = {
    "text": [f"customer {k}" for k in range(N)],
    "counts rows": list(range(1000, 1000 + N)),
    "nineteen digits": (9_100_000_000_000_000_000 + np.arange(N)).tolist(),
    "hashes": SCATTERED.tolist(),
    "text with gaps": [None if k % 9 == 0 else f"customer {k}" for k in range(N)],
    "counts rows, with gaps": [None if k % 9 == 0 else 1000 + k for k in range(N)],
    "hashes with gaps": [None if k % 9 == 0 else code for k, code in enumerate(SCATTERED.tolist())],
    "names of a few rows": [f"name {k}" for k in range(20)],
    "a few names": [f"name {k}" if k % 5 == 0 else None for k in range(N)],
}
OTHERS = {
    "names": [f"name {k % 150}" for k in range(N)],
    "shuffled": RNG.permutation(N).tolist(),
    "every second": list(range(0, 2 * N, 2)),
    "numbers": RNG.normal(size=N).tolist(),
    "long but repeated": np.repeat(SCATTERED[:100], 2).tolist(),
    "names with gaps": [None if k % 9 == 0 else f"name {k % 150}" for k in range(N)],
    "counts its values": [None if k % 9 == 0 else k - k // 9 for k in range(N)],
    "a few values": [f"name {k}" if k % 25 == 0 else None for k in range(N)],
    "names of a few rows, one of them twice": [f"name {max(k, 1)}" for k in range(20)],
    "counts a few rows": list(range(20)),
}


@pytest.mark.parametrize("values", IDENTIFIERS.values(), ids=IDENTIFIERS)
def test_a_column_that_never_repeats_and_says_nothing_else_is_an_identifier(values: list[object]) -> None:
    assert is_identifier(pl.Series("x", values))


@pytest.mark.parametrize("values", OTHERS.values(), ids=OTHERS)
def test_other_columns_are_none(values: list[object]) -> None:
    assert not is_identifier(pl.Series("x", values))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    pl.DataFrame({"key": IDENTIFIERS["text"], "long": IDENTIFIERS["hashes"], "x": OTHERS["numbers"]}).write_csv(
        tmp_path / "table.csv"
    )
    return tmp_path / "table.csv"


def test_identifiers_are_left_out_noted_and_written_into_the_provenance(file: Path) -> None:
    data = load_data(str(file), seed=0)
    assert data.train.columns == data.held_out.columns == ["x"]
    assert data.provenance["identifiers"] == ["key", "long"]
    for key in ("key", "long"):
        assert any(f"'{key}'" in note for note in data.notes)


def test_columns_that_are_asked_for_are_learnt_and_a_schema_decides_either_way(file: Path) -> None:
    assert load_data(str(file), seed=0, columns=["key", "x"]).train.columns == ["key", "x"]
    asked = load_data(str(file), seed=0, kinds={"key": "category", "x": "identifier"})
    assert asked.train.columns == ["key"]
    assert asked.kinds == {"key": "category"}


def test_a_column_that_a_model_has_learnt_is_no_identifier(file: Path) -> None:
    again = load_data(str(file), seed=0, learnt=["key", "x"])
    assert again.train.columns == ["key", "x"]


def test_rows_that_are_left_out_hide_no_column_that_counts_the_rows_of_the_file(tmp_path: Path) -> None:
    gaps = [None if k % 3 == 0 else x for k, x in enumerate(RNG.normal(size=N).tolist())]
    pl.DataFrame({"key": IDENTIFIERS["counts rows"], "x": gaps}).write_csv(tmp_path / "gaps.csv")
    assert load_data(tmp_path / "gaps.csv", seed=0, missing="drop").train.columns == ["x"]


def test_a_table_of_identifiers_only_is_refused(file: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_data(str(file), seed=0, kinds={"x": "identifier"})
    assert "table.csv" in caught.value.problem
    assert "--schema" in caught.value.remedy
    with pytest.raises(InputError, match="'z'"):
        load_data(str(file), seed=0, kinds={"z": "number"})
