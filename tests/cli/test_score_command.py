"""`dualdiff score`: what it prints, and the tables and options that it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from commands import answer, dualdiff, refused, settings
from people import write_people


@pytest.fixture(scope="module")
def people(elsewhere: Path) -> Path:
    return write_people(elsewhere / "scored-people.csv")


@pytest.fixture(scope="module")
def run(people: Path, elsewhere: Path) -> Path:
    small = settings("model.components=1", "model.covariance='full'")
    words = ("--dataset", people, "--model", "mixture", *small, "--run-dir", elsewhere / "scored-people")
    return Path(answer("train", *words)["run"])


def test_the_record_says_unit_and_mean_and_the_file_has_one_value_a_row(
    run: Path, people: Path, tmp_path: Path
) -> None:
    record = answer("score", people, run, "-o", tmp_path / "out.npy")
    assert {"run", "rows", "unit", "mean", "note", "output"} <= set(record)
    values = np.load(tmp_path / "out.npy")
    assert values.shape == (200, 1)
    assert (record["rows"], record["unit"], record["output"]) == (200, "bits", str(tmp_path / "out.npy"))
    assert record["mean"] == pytest.approx(float(values.mean()))
    assert "seed" in record["note"]  # an age is a whole number


def test_the_values_go_to_standard_output_as_csv(run: Path, people: Path) -> None:
    lines = dualdiff("score", people, run, "-o", "-").stdout.splitlines()
    assert lines[0] == "log2_density"
    assert len(lines) == 201
    assert all(np.isfinite(float(line)) for line in lines[1:])


def test_tables_and_options_that_cannot_be_scored_are_refused(run: Path, people: Path, tmp_path: Path) -> None:
    out, gaps = tmp_path / "out.csv", tmp_path / "gaps.csv"
    pl.read_csv(people).head(3).with_columns(pl.Series("income", [1.0, None, 2.0])).write_csv(gaps)
    pl.read_csv(people).drop("income").write_csv(tmp_path / "less.csv")
    assert "row 2" in refused("score", gaps, run, "-o", out)
    assert "'income'" in refused("score", tmp_path / "less.csv", run, "-o", out)
    assert "none.csv" in refused("score", tmp_path / "none.csv", run, "-o", out)
    assert "out.doc" in refused("score", people, run, "-o", tmp_path / "out.doc")
    assert "--output" in refused("score", people, run, "-o", "-", "--json")
    assert not out.exists()
