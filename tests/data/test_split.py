from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dualdiff_cli.data import DENSITIES, draw, load_data
from dualdiff_cli.errors import InputError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A hundred complete rows, the values of a being the row numbers, and three rows with a gap at the top."""
    path = tmp_path / "table.csv"
    lines = ["a,b,s", *[f"{i},,u" for i in range(3)], *[f"{i},{i % 7 + 0.5},u" for i in range(3, 103)]]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_density_gives_as_many_points_as_asked_for() -> None:
    data = load_data("dino", seed=0, n_train=300, n_held_out=200)
    assert data.train.shape == (300, 2)
    assert data.held_out.shape == (200, 2)
    assert data.density is DENSITIES["dino"]
    assert data.train.schema == data.held_out.schema == {"x": pl.Float64, "y": pl.Float64}
    assert data.held_out_rows is None


@pytest.mark.parametrize("name", DENSITIES)
def test_training_and_held_out_draws_never_meet(name: str) -> None:
    data = load_data(name, seed=3, n_train=500, n_held_out=500)
    assert not set(data.train.rows()) & set(data.held_out.rows())


def test_a_seed_gives_the_same_points_and_another_seed_others() -> None:
    first, again, other = (load_data("circle", seed=s, n_train=50, n_held_out=50) for s in (1, 1, 2))
    assert first.train.equals(again.train)
    assert first.held_out.equals(again.held_out)
    assert not first.train.equals(other.train)


def test_the_held_out_draw_does_not_depend_on_the_number_of_training_points() -> None:
    few, many = (load_data("line", seed=1, n_train=n, n_held_out=50) for n in (10, 1000))
    assert few.held_out.equals(many.held_out)


def test_roles_are_independent_streams() -> None:
    line = DENSITIES["line"]
    roles = ["train", "held-out", "fresh", "fresh2"]
    draws = np.stack([draw(line, 5000, seed=0, role=role)["x"] for role in roles])
    correlation = np.corrcoef(draws) - np.eye(len(roles))
    assert abs(correlation).max() < 4 / np.sqrt(5000)
    assert np.array_equal(draws[0], load_data("line", seed=0, n_train=5000, n_held_out=1).train["x"])


def test_a_file_is_split_into_all_its_complete_rows(table: Path) -> None:
    data = load_data(str(table), seed=0, columns=["a", "b"], missing="drop")
    assert data.train.schema == {"a": pl.Int64, "b": pl.Float64}
    assert data.train.shape == (90, 2)
    assert data.held_out.shape == (10, 2)
    assert sorted([*data.train["a"], *data.held_out["a"]]) == list(range(3, 103))


def test_held_out_rows_are_row_numbers_of_the_file(table: Path) -> None:
    data = load_data(str(table), seed=0, columns=["a", "b"], missing="drop")
    assert data.held_out_rows is not None
    assert np.array_equal(data.held_out_rows, data.held_out["a"])


def test_the_split_depends_on_the_seed_alone(table: Path) -> None:
    splits = [
        load_data(str(table), seed=s, n_train=n, columns=["a"]).held_out_rows for s, n in ((1, 5), (1, 9), (2, 5))
    ]
    assert np.array_equal(splits[0], splits[1])
    assert not np.array_equal(splits[0], splits[2])


def test_provenance_of_a_file_is_recorded(table: Path) -> None:
    data = load_data(str(table), seed=4, columns=["a", "b"], missing="drop", held_out_fraction=0.25)
    assert json.loads(json.dumps(data.provenance)) == {
        "source": "file",
        "path": str(table),
        "sha256": hashlib.sha256(table.read_bytes()).hexdigest(),
        "columns": ["a", "b"],
        "rows": 103,
        "dropped_rows": 3,
        "train_rows": 75,
        "held_out_rows": 25,
        "seed": 4,
    }


def test_provenance_of_a_density_is_recorded() -> None:
    data = load_data("moons", seed=5, n_train=10, n_held_out=6)
    assert data.provenance == {"source": "density", "name": "moons", "train_rows": 10, "held_out_rows": 6, "seed": 5}


@pytest.mark.parametrize(("fraction", "m"), [(1e-6, 1), (1 - 1e-6, 102)])
def test_neither_part_of_a_file_is_ever_empty(table: Path, fraction: float, m: int) -> None:
    assert len(load_data(str(table), seed=0, columns=["a"], held_out_fraction=fraction).held_out) == m


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_held_out_fraction_outside_the_unit_interval_is_refused(table: Path, fraction: float) -> None:
    with pytest.raises(InputError, match="Give a number between 0 and 1"):
        load_data(str(table), seed=0, held_out_fraction=fraction)


def test_a_source_that_is_nothing_gets_the_close_names_or_all_that_is_accepted() -> None:
    with pytest.raises(
        InputError, match=r"'cirle' is neither a density nor a file that exists\. Did you mean 'circle'\?"
    ):
        load_data("cirle", seed=0)
    with pytest.raises(InputError, match=r"\.npy, \.xlsx file, or one of circle, dino, line"):
        load_data("data/none.csv", seed=0)


def test_options_for_files_are_refused_for_a_density() -> None:
    with pytest.raises(InputError, match="--columns, --missing and --schema are for files, but 'circle' is a density"):
        load_data("circle", seed=0, columns=["x"])
    with pytest.raises(InputError, match="--columns, --missing and --schema are for files"):
        load_data("circle", seed=0, missing="drop")
