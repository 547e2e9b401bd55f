"""Columns that follow from others: the formula holds in every row that is drawn, filled or exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from dualdiff_cli import export, seeding, train
from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.data import TableEncoding
from dualdiff_cli.data.relations import find_relations, free_relations
from dualdiff_cli.errors import InputError
from dualdiff_cli.exporting.runtime import ExportedModel
from dualdiff_cli.models import DrawingOptions, Model, load_model
from dualdiff_cli.store.run import Run

N = 200
KINDS = {"total": "= minutes + 60*hours", "c": "= 100 - a - b", "cost": "= 0.5*two + 2"}


def frame() -> pl.DataFrame:
    rng = seeding.stream(0, "test")
    a, b = rng.dirichlet([4, 3, 5], N).T[:2].round(3) * 100
    rows = pl.DataFrame(
        {
            "total": 0,
            "hours": rng.integers(0, 5, N),
            "minutes": rng.integers(0, 60, N),
            "a": a.round(1),
            "b": b.round(1),
        }
    )
    return rows.with_columns(
        total=pl.col("minutes") + 60 * pl.col("hours"),
        c=(100 - pl.col("a") - pl.col("b")).round(1),
        two=pl.Series(rng.choice([1, 3], N)),
    ).with_columns(cost=0.5 * pl.col("two") + 2)


FRAME = frame()


def assert_holds(rows: pl.DataFrame) -> None:
    assert rows["total"].dtype == pl.Int64
    assert (rows["total"] == rows["minutes"] + 60 * rows["hours"]).all()
    np.testing.assert_allclose(rows.select(pl.sum_horizontal("a", "b", "c")).to_series().to_numpy(), 100, atol=1e-9)
    assert (rows["c"] == rows["c"].round(1)).all()
    assert (rows["cost"] == 0.5 * rows["two"] + 2).all()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("derived")
    FRAME.write_parquet(folder / "table.parquet")
    options = {"data": {"kinds": KINDS}}
    settings = ["model.width=8", "model.blocks=1", "folds.number=2", "sampling.steps=4", "training.steps=4"]
    config = resolve(dataset=str(folder / "table.parquet"), rows=N, options=options, settings=settings)
    record: dict[str, Any] = train(config, path=folder / "run", device="cpu")
    return str(record["run"])


@pytest.fixture(scope="module")
def model(run: str) -> Model:
    return load_model(Run.open(run), device=torch.device("cpu"))


def test_formulas_hold_exactly_in_drawn_rows_and_their_columns_have_no_features(model: Model) -> None:
    drawn = model.sample(300, seed=1)
    assert drawn.columns == FRAME.columns
    assert_holds(drawn)
    derived = [column for column in model.encoding.columns if column.kind == "derived"]
    assert [column.width for column in derived] == [0, 0, 0]
    assert TableEncoding.read(model.encoding.model_dump(mode="json")) == model.encoding


def test_a_column_of_a_formula_is_learnt_as_numbers(model: Model) -> None:
    kinds = {column.name: column.kind for column in model.encoding.columns}
    assert kinds["two"] == "integer"
    assert TableEncoding.fit(FRAME).columns[FRAME.columns.index("two")].kind == "category"


def test_formulas_hold_around_given_cells_and_in_filled_rows(model: Model) -> None:
    given = model.sample(50, seed=1, options=DrawingOptions(given={"minutes": 7, "a": 12.5}))
    assert set(given["minutes"]) == {7}
    assert_holds(given)
    gaps = FRAME.head(50).with_columns(pl.lit(None, pl.Int64).alias(name) for name in ("total", "hours", "cost"))
    filled = model.fill(gaps, seed=1)
    assert (filled["minutes"] == gaps["minutes"]).all()
    assert_holds(filled)


def test_a_column_with_a_formula_cannot_be_given(model: Model) -> None:
    with pytest.raises(InputError, match=r"'total' cannot be given.*minutes \+ 60\*hours.*--where"):
        model.sample(5, seed=1, options=DrawingOptions(given={"total": 65}))


def test_formulas_hold_in_the_rows_of_an_exported_file(run: str, tmp_path: Path) -> None:
    record = export(run, output=tmp_path / "model.onnx", device="cpu")
    assert_holds(ExportedModel.open(Path(record["output"])).sample(40, seed=2))


@pytest.mark.parametrize(
    ("kinds", "named", "remedy"),
    [
        ({"total": "= minutes + 61*hours"}, "does not hold in", "Correct these rows"),
        ({"total": "= minutes + 60*ours"}, "'ours'", "hours"),
        ({"totl": "= minutes + 60*hours"}, "'totl'", "total"),
        ({"total": "= total + minutes"}, "'total'", "other columns"),
        ({"total": "= minutes + 60*hours", "hours": "= minutes"}, "does not hold in", "leave the constraint out"),
        ({"c": "= 100 - a - b", "b": "= 100 - a - c"}, "'b'|'c'", "have none"),
    ],
)
def test_a_formula_that_cannot_be_kept_is_refused(kinds: dict[str, str], named: str, remedy: str) -> None:
    with pytest.raises(InputError, match=rf"({named}).*{remedy}"):
        TableEncoding.fit(FRAME, kinds=kinds)


def test_missing_cells_of_a_formula_make_its_value_missing() -> None:
    gaps = FRAME.with_columns(
        pl.when(pl.int_range(N) % 3 > 0).then("hours"), pl.when(pl.int_range(N) % 3 > 0).then("total")
    )
    encoding = TableEncoding.fit(gaps, kinds={"total": KINDS["total"]})
    back = encoding.decode(encoding.encode(gaps, None))
    assert (back["total"].is_null() == gaps["hours"].is_null()).all()
    assert (back["total"].drop_nulls() == gaps["total"].drop_nulls()).all()


def test_relations_are_found_and_others_are_not() -> None:
    found = find_relations(FRAME)
    assert {name: str(formula) for name, formula in found.items()} == {
        "c": "= 100 - a - b",
        "total": "= 60*hours + minutes",
    }
    for name, formula in found.items():
        TableEncoding.fit(FRAME, kinds={name: str(formula)})
    noisy = FRAME.with_columns(total=pl.col("total") + (pl.int_range(N) == 17))
    assert set(find_relations(noisy)) == {"c"}
    assert find_relations(FRAME.head(8)) == {}


def test_a_relation_is_solved_for_the_column_with_the_shortest_formula() -> None:
    celsius = pl.Series("celsius", seeding.stream(0, "test").normal(15, 8, N).round(1))
    rows = pl.DataFrame([(1.8 * celsius + 32).round(2).alias("fahrenheit"), celsius])
    for columns in (["fahrenheit", "celsius"], ["celsius", "fahrenheit"]):
        found = find_relations(rows.select(columns))
        assert {name: str(formula) for name, formula in found.items()} == {"fahrenheit": "= 1.8*celsius + 32"}


def test_equations_that_a_formula_keeps_are_not_offered_again() -> None:
    encoding = TableEncoding.fit(FRAME, kinds={"total": KINDS["total"]})
    assert free_relations(FRAME, encoding.columns) == ["c = 100 - a - b"]
    assert free_relations(FRAME, TableEncoding.fit(FRAME).columns) == ["c = 100 - a - b", "total = 60*hours + minutes"]
