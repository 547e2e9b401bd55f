from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from dualdiff_cli import seeding
from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.data import TableEncoding, load_data, read_table
from dualdiff_cli.data.encoding.angle import AngleColumn
from dualdiff_cli.data.schema_file import read_schema
from dualdiff_cli.errors import InputError
from dualdiff_cli.jobs.columns import columns
from dualdiff_cli.jobs.train import train
from dualdiff_cli.models import load_model
from dualdiff_cli.store.run import Run
from dualdiff_cli.training.session import Callbacks

N = 200


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with an identifier, a column of gaps only, a constant, a category, gaps and point masses."""
    rng = seeding.stream(0, "events")
    zero = np.where(rng.random(N) < 0.5, 0.0, rng.exponential(5, N))
    temp = [None if k % 10 == 0 else float(x) for k, x in enumerate(rng.normal(15, 8, N))]
    pl.DataFrame(
        {
            "id": [f"event-{k}" for k in range(N)],
            "detector": rng.choice(list("ABC"), N),
            "zero": zero,
            "temp": temp,
            "angle": rng.uniform(0, 360, N),
            "same": ["x"] * N,
            "empty": pl.Series([None] * N, dtype=pl.String),
        }
    ).write_csv(tmp_path / "events.csv")
    return tmp_path / "events.csv"


def test_every_column_is_described_and_nothing_is_trained(file: Path) -> None:
    record = columns(file)
    kinds = {column["name"]: column["kind"] for column in record["columns"]}
    assert kinds == {
        "id": "identifier",
        "detector": "category",
        "zero": "masses",
        "temp": "number",
        "angle": "bounded",
        "same": "constant",
        "empty": "constant",
    }
    by_name = {column["name"]: column for column in record["columns"]}
    assert (by_name["temp"]["missing"], by_name["detector"]["distinct"], by_name["id"]["features"]) == (20, 3, 0)
    assert record["rows"] == N
    assert record["output"] is None
    assert [path.name for path in file.parent.iterdir()] == ["events.csv"]


def test_the_schema_that_is_written_is_accepted_by_train_and_by_columns_itself(file: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.toml"
    record = columns(file, output=schema)
    assert read_schema(schema) == {column["name"]: column["kind"] for column in record["columns"]}
    assert columns(file, schema=schema)["columns"] == record["columns"]
    settings = ["model.components=2", "model.covariance='diag'"]
    kinds = read_schema(schema)
    request = resolve(dataset=str(file), model="mixture", options={"data": {"kinds": kinds}}, settings=settings)
    run = Run.open(train(request, path=tmp_path / "run", device="cpu")["run"])
    drawn = load_model(run, device=torch.device("cpu")).sample(50, seed=0)
    assert drawn.columns == ["detector", "zero", "temp", "angle", "same", "empty"]
    assert drawn["empty"].null_count() == 50
    assert set(drawn["same"]) == {"x"}


def test_an_edited_schema_decides_the_kinds(file: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.toml"
    schema.write_text('[columns]\nangle = "angle"\ntemp = "identifier"\n')
    kinds = {column["name"]: column["kind"] for column in columns(file, schema=schema)["columns"]}
    assert (kinds["angle"], kinds["temp"], kinds["detector"]) == ("angle", "identifier", "category")


def test_a_column_that_may_be_an_angle_by_its_name_and_range_is_offered_as_one(file: Path, tmp_path: Path) -> None:
    offers = [note for note in columns(file)["notes"] if "angle" in note]
    assert [note.partition(". ")[0] for note in offers] == ["Column 'angle' may be an angle from 0 to 360"]
    schema = tmp_path / "schema.toml"
    schema.write_text('[columns]\nangle = "number"\n')
    assert not any("angle" in note for note in columns(file, schema=schema)["notes"])
    notes: list[str] = []
    config = resolve(dataset=str(file), model="mixture", settings=["model.components=2", "model.covariance='diag'"])
    train(config, path=tmp_path / "run", device="cpu", callbacks=Callbacks(on_note=notes.append))
    assert offers[0] in notes


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("windDirection", [0.0, 359.5, 90.0], "angle from 0 to 360, in steps of 0.5"),
        ("phase", [-3.1, 3.1, 0.5], "angle from -3.14159 to 3.14159, in steps of 0.1"),
        ("Hour", [0, 23, 12], "angle from 0 to 24"),
        ("month", [1, 12, 6], "angle from 1 to 13"),
        ("winddir", [0, 360, 90], "angle from 0 to 360"),
        ("lon", [-180, 180, 90], "angle from -180 to 180"),
        ("hour", [0, 24, 12], "angle from 0 to 24"),
        ("direction", [0.0, 45.0, 90.0], None),
        ("share", [0.0, 359.5, 90.0], None),
        ("hour", ["0", "23"], None),
        ("month", [3, 3], None),
    ],
)
def test_name_and_range_say_together_whether_a_column_may_be_an_angle(
    name: str, values: list[Any], words: str | None
) -> None:
    offered = AngleColumn.offered(pl.Series(name, values))
    assert (offered and offered.summary) == words


def test_a_kind_that_a_column_cannot_have_is_refused_by_name(file: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.toml"
    schema.write_text('[columns]\ndetector = "angle"\n')
    with pytest.raises(InputError, match=r"'detector'.*angle"):
        columns(file, schema=schema)


def test_a_schema_that_names_no_column_of_the_file_is_refused(file: Path, tmp_path: Path) -> None:
    (tmp_path / "schema.toml").write_text('[columns]\ndetektor = "category"\n', encoding="utf-8")
    with pytest.raises(InputError, match="'detektor'"):
        columns(file, schema=tmp_path / "schema.toml")


@pytest.mark.parametrize(("column", "kind"), [("detector", "constant"), ("temp", "constant"), ("detector", "missing")])
def test_a_kind_that_the_data_alone_decide_is_refused_where_they_decide_otherwise(
    file: Path, tmp_path: Path, column: str, kind: str
) -> None:
    (tmp_path / "schema.toml").write_text(f'[columns]\n{column} = "{kind}"\n', encoding="utf-8")
    with pytest.raises(InputError, match=f"'{column}'.*{kind}"):
        columns(file, schema=tmp_path / "schema.toml")


@pytest.mark.parametrize("kind", ["angle", "decimal", "number"])
def test_a_refused_kind_is_answered_with_the_kinds_that_suit_the_column(file: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "schema.toml").write_text(f'[columns]\ndetector = "{kind}"\n', encoding="utf-8")
    with pytest.raises(InputError) as caught:
        columns(file, schema=tmp_path / "schema.toml")
    assert caught.value.remedy.endswith(": category, identifier.")


def test_the_columns_are_described_as_a_training_learns_them(tmp_path: Path) -> None:
    file = tmp_path / "few.csv"
    pl.DataFrame({"select": [k % 3 for k in range(120)], "x": [0.5 * k for k in range(120)]}).write_csv(file)
    learnt = {column.name: column.summary for column in load_data(file, seed=0).encoding.columns}
    assert {column["name"]: column["learnt_as"] for column in columns(file)["columns"]} == learnt
    (of_all_rows, _) = TableEncoding.fit(read_table(file).rows).columns
    assert of_all_rows.summary == "integer, from 0 to 2" != learnt["select"]


def test_the_columns_that_are_advised_in_place_of_refused_ones_can_be_chosen(tmp_path: Path) -> None:
    rows = pl.DataFrame({"tags": [["x"]] * 30} | {f"c{k}": [float(k + i % 7) for i in range(30)] for k in range(9)})
    rows.write_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="'tags'") as caught:
        columns(tmp_path / "t.parquet")
    advised = caught.value.remedy.rpartition("--columns ")[2].rstrip(".").split(",")
    assert [column["name"] for column in columns(tmp_path / "t.parquet", chosen=advised)["columns"]] == advised


def test_no_columns_are_advised_where_none_can_be_learnt(tmp_path: Path) -> None:
    pl.DataFrame({"tags": [["x"]] * 30}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="'tags'") as caught:
        columns(tmp_path / "t.parquet")
    assert "--columns" not in caught.value.remedy


def test_a_chosen_column_is_never_left_out_as_an_identifier(file: Path) -> None:
    (found,) = columns(file, chosen=["id"])["columns"]
    assert found["kind"] == "category"


def test_a_schema_with_a_column_that_is_not_chosen_is_refused_with_the_option(file: Path, tmp_path: Path) -> None:
    (tmp_path / "schema.toml").write_text('[columns]\nangle = "angle"\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"'angle'.*--columns"):
        columns(file, schema=tmp_path / "schema.toml", chosen=["temp"])


def test_a_long_text_is_cut_where_a_column_is_described(tmp_path: Path) -> None:
    rows = pl.DataFrame({"two": ["a" * 20_000, "b" * 20_000] * 30, "one": ["c" * 500] * 60})
    rows.write_parquet(tmp_path / "long.parquet")
    two, one = (column["learnt_as"] for column in columns(tmp_path / "long.parquet")["columns"])
    assert two.startswith(f"category of 2 values: {'a' * 40}…, ") or two.endswith(f", {'a' * 40}…")
    assert one == f"constant: every row gets {'c' * 40}…"
