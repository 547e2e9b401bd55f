"""Columns that follow from others: the formula holds in every row that is drawn, filled or exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from dualdiff_cli import export, sample, seeding, train
from dualdiff_cli.config.formulas import read_constraint, read_formula
from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.data import TableEncoding, check_table, relations, split_table
from dualdiff_cli.data.encoding.derived import DerivedColumn
from dualdiff_cli.data.encoding.given import given_cells
from dualdiff_cli.data.relations import find_relations, free_relations, held_relations
from dualdiff_cli.errors import InputError
from dualdiff_cli.exporting.runtime import ExportedModel
from dualdiff_cli.models import DrawingOptions, Model, load_model
from dualdiff_cli.store.run import Run

N = 200
KINDS = {
    "total": "= minutes + 60*hours",
    "c": "= 100 - a - b",
    "cost": "= 0.5*two + 2",
    "f": "= 1.8*a + 32",
    "g": "= log10(b + 1)/hours^0.5",
}


def frame() -> pl.DataFrame:
    rng = seeding.stream(0, "test")
    a, b = rng.dirichlet([4, 3, 5], N).T[:2].round(3) * 100
    rows = pl.DataFrame(
        {
            "total": 0,
            "hours": rng.integers(1, 6, N),
            "minutes": rng.integers(0, 60, N),
            "a": a.round(1),
            "b": b.round(1),
        }
    )
    return rows.with_columns(
        total=pl.col("minutes") + 60 * pl.col("hours"),
        c=(100 - pl.col("a") - pl.col("b")).round(1),
        two=pl.Series(rng.choice([1, 3], N)),
    ).with_columns(
        cost=0.5 * pl.col("two") + 2,
        f=(1.8 * pl.col("a") + 32).round(2),
        g=(pl.col("b") + 1).log10() / pl.col("hours").sqrt(),
    )


FRAME = frame()


def assert_holds(rows: pl.DataFrame) -> None:
    assert rows["total"].dtype == pl.Int64
    assert (rows["total"] == rows["minutes"] + 60 * rows["hours"]).all()
    np.testing.assert_allclose(rows.select(pl.sum_horizontal("a", "b", "c")).to_series().to_numpy(), 100, atol=1e-9)
    assert (rows["c"] == rows["c"].round(1)).all()
    assert (rows["cost"] == 0.5 * rows["two"] + 2).all()
    np.testing.assert_allclose(rows["f"], 1.8 * rows["a"] + 32, rtol=1e-12)
    np.testing.assert_allclose(rows["g"], (rows["b"] + 1).log10() / rows["hours"].sqrt(), rtol=1e-9)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("derived")
    FRAME.write_parquet(folder / "table.parquet")
    options = {"data": {"kinds": KINDS}}
    settings = ["model.width=8", "model.blocks=1", "sampling.steps=4", "training.steps=4", "folds.number=2"]
    settings += ["folds.levels=4", "folds.bands=2", "folds.mixture=false", "folds.independent=false"]
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
    assert [column.width for column in derived] == [0] * 5
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


@pytest.mark.parametrize(
    ("given", "cells"),
    [
        ({"total": 65, "hours": 1}, {"total": 65, "hours": 1, "minutes": 5}),
        ({"cost": "3.5"}, {"cost": 3.5, "two": 3}),
        ({"total": "127", "hours": 2, "minutes": "7"}, {"total": 127}),
    ],
)
def test_a_column_with_a_formula_can_be_given_with_all_but_one_of_the_columns_that_it_is_computed_from(
    model: Model, given: dict[str, Any], cells: dict[str, float]
) -> None:
    drawn = model.sample(20, seed=1, options=DrawingOptions(given=given))
    for name, value in cells.items():
        assert set(drawn[name]) == {value}
    assert_holds(drawn)


def test_an_equation_with_one_unknown_column_is_given_and_not_selected(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    record = sample(model, n=20, where="total = 65 AND hours = 1 AND a > 0", seed=1, output=path)
    assert record["given"] == {"total": "65", "hours": "1"}
    assert record["acceptance_rate"] == 1
    assert set(pl.read_csv(path)["minutes"]) == {5}
    several = sample(model, n=2, where="total > 65 AND hours = 1", seed=1, output=path)
    assert several["given"] == {"hours": "1"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"total": 65}, r"'total' cannot be given.*minutes \+ 60\*hours.*--where"),
        ({"total": 65, "hours": 1, "minutes": 6}, r"'total' cannot be 65.*gives 66"),
        ({"total": "many", "hours": 1}, r"'many' is no value of the column 'total'"),
        ({"total": 65, "minutes": 6}, r"'total' cannot be 65.*60\*hours, so that 'hours' would be 0\.983333.*as 66\."),
        ({"total": 65, "hours": 5}, r"'total' cannot be 65.*so that 'minutes' would be -235"),
    ],
)
def test_given_values_that_no_row_can_have_are_refused(model: Model, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.sample(5, seed=1, options=DrawingOptions(given=given))


def test_a_formula_with_several_places_of_a_column_is_not_solved_for_it() -> None:
    x = seeding.stream(0, "squares").uniform(1, 9, N).round(2)
    rows = pl.DataFrame({"x": x, "y": (x * x + x).round(4)})
    encoding = TableEncoding.fit(rows, kinds={"y": "= x*x + x"})
    with pytest.raises(InputError, match="'y' cannot be given"):
        given_cells(encoding, {"y": 6.0})
    assert not encoding.can_be_given("y", beside=["y"])
    assert encoding.can_be_given("y", beside=["x", "y"])
    gap = rows.head(1).with_columns(x=pl.lit(None, pl.Float64))
    assert encoding.solved(gap)["x"].to_list() == [None]
    assert given_cells(encoding, {"x": 2.0, "y": 6.0}).cells.columns == ["x"]


@pytest.mark.parametrize(
    ("formula", "least", "solvable"),
    [
        ("x^2", -3, False),
        ("x^2", 0, True),
        ("(x - 4)^2", 0, False),
        ("x^(-1)", -3, True),
        ("2 + 1/(x + 9)^2", -3, True),
    ],
)
def test_a_power_is_solved_for_a_column_only_if_its_root_is_that_column(
    formula: str, least: float, solvable: bool
) -> None:
    x = seeding.stream(0, "roots").uniform(least, 3, N)
    rows = pl.DataFrame({"x": x}).with_columns(y=read_formula(formula).value({"x": x}))
    encoding = TableEncoding.fit(rows, kinds={"y": f"= {formula}"})
    assert encoding.can_be_given("y", beside=["y"]) is solvable
    found = encoding.solved(rows.head(1).with_columns(x=pl.lit(None, pl.Float64)))["x"].to_list()
    assert found == (pytest.approx([x[0]]) if solvable else [None])
    assert TableEncoding.read(encoding.model_dump(mode="json")) == encoding
    if not solvable:
        with pytest.raises(InputError, match=r"'y' cannot be given.*computed from, or use --where"):
            given_cells(encoding, {"y": 4.0})


def test_a_quotient_by_zero_stays_a_gap() -> None:
    rng = seeding.stream(0, "zeros")
    p, q = rng.uniform(1, 9, N), rng.uniform(1, 9, N)
    rows = pl.DataFrame({"p": p, "q": q, "r": p * q})
    encoding = TableEncoding.fit(rows, kinds={"r": "= p*q"})
    gaps = pl.DataFrame({"p": [None, None], "q": [0.0, 2.0], "r": [1.0, 3.0]}, schema=rows.schema)
    assert encoding.solved(gaps)["p"].to_list() == [None, 1.5]


def test_names_with_quotes_and_blanks_stand_in_formulas_that_can_be_read_again() -> None:
    inches = seeding.stream(0, "inches").uniform(1, 9, N).round(2)
    rows = pl.DataFrame({'a "in" b': inches, "in cm": (2.54 * inches).round(4)})
    found = find_relations(rows)
    assert {name: str(formula) for name, formula in found.items()} == {"in cm": '= 2.54*"a ""in"" b"'}
    (equation,) = free_relations(rows, TableEncoding.fit(rows).columns)
    assert read_constraint(equation) == ("in cm", found["in cm"])


def test_a_gap_that_follows_from_the_other_cells_is_computed(model: Model) -> None:
    third = pl.int_range(50) % 3
    gaps = FRAME.head(50).with_columns(
        pl.when(third != 0).then("hours"), pl.when(third != 1).then("total"), pl.when(third != 2).then("a")
    )
    filled = model.fill(gaps, seed=1)
    assert filled.select("hours", "total", "minutes").equals(FRAME.head(50).select("hours", "total", "minutes"))
    np.testing.assert_allclose(filled["a"], FRAME["a"][:50], atol=1e-9)


def test_a_gap_is_solved_for_that_another_solved_gap_makes_known() -> None:
    rng = seeding.stream(0, "chain")
    x, y, z = rng.normal(size=(3, N))
    rows = pl.DataFrame({"A": x + y, "B": x + z, "x": x, "y": y, "z": z})
    encoding = TableEncoding.fit(rows, kinds={"A": "= x + y", "B": "= x + z"})
    solved = encoding.solved(rows.with_columns(x=pl.lit(None, pl.Float64), y=pl.lit(None, pl.Float64)))
    for name in ("x", "y"):
        np.testing.assert_allclose(solved[name], rows[name], atol=1e-9)


def test_an_equation_with_several_gaps_beside_its_observed_result_holds_in_filled_rows(model: Model) -> None:
    gaps = FRAME.with_columns(
        *(pl.lit(None, FRAME[name].dtype).alias(name) for name in ("minutes", "hours", "b")),
        pl.when(pl.int_range(N) % 2 == 0).then("a"),
        pl.when(pl.int_range(N) % 2 == 1).then("f"),
    )
    filled = model.fill(gaps.with_columns(g=pl.lit(None, pl.Float64)), seed=1)
    assert filled.select("total", "c").equals(FRAME.select("total", "c"))
    assert_holds(filled)


def test_observed_cells_stay_where_a_formula_has_several_gaps(model: Model) -> None:
    gaps = FRAME.head(20).with_columns(pl.lit(None, pl.Int64).alias(name) for name in ("minutes", "hours"))
    filled = model.fill(gaps, seed=1)
    assert filled["total"].equals(FRAME["total"][:20])
    assert filled.null_count().sum_horizontal().item() == 0


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
        ({"total": "= 5"}, "names no column", "'total'"),
        ({"total": "= minutes + 60*hours", "hours": "= minutes"}, "does not hold in", "leave the constraint out"),
        ({"c": "= 100 - a - b", "b": "= 100 - a - c"}, "'b'|'c'", "have none"),
    ],
)
def test_a_formula_that_cannot_be_kept_is_refused(kinds: dict[str, str], named: str, remedy: str) -> None:
    with pytest.raises(InputError, match=rf"({named}).*{remedy}"):
        TableEncoding.fit(FRAME, kinds=kinds)


def test_two_values_in_a_formula_are_learnt_as_steps_and_not_as_the_category_that_was_asked_for() -> None:
    rng = np.random.default_rng(8)
    frame = pl.DataFrame({"on": rng.integers(0, 2, 200) * 1.0, "x": rng.normal(size=200)})
    frame = frame.with_columns((pl.col("on") + pl.col("x")).alias("sum"))
    encoding = TableEncoding.fit(frame, kinds={"sum": "= on + x"})
    drawn = encoding.decode(rng.normal(size=(200, encoding.width)))["on"]
    assert drawn.equals(drawn.round())
    with pytest.raises(InputError, match="'on'"):
        TableEncoding.fit(frame, kinds={"sum": "= on + x", "on": "category"})


def test_missing_cells_of_a_formula_make_its_value_missing() -> None:
    gaps = FRAME.with_columns(
        pl.when(pl.int_range(N) % 3 > 0).then("hours"), pl.when(pl.int_range(N) % 3 > 0).then("total")
    )
    encoding = TableEncoding.fit(gaps, kinds={"total": KINDS["total"]})
    back = encoding.decode(encoding.encode(gaps, None))
    assert (back["total"].is_null() == gaps["hours"].is_null()).all()
    assert (back["total"].drop_nulls() == gaps["total"].drop_nulls()).all()


def test_a_formula_of_an_earlier_version_is_read() -> None:
    written = {"kind": "derived", "name": "y", "factors": {"x": 2.0}, "constant": -1.0, "decimals": None}
    column = DerivedColumn.model_validate(written)
    assert column.summary == "computed = 2*x - 1"
    now = {"kind": "derived", "name": "y", "equals": "2*x - 1", "decimals": None, "ambiguous": ()}
    assert column.model_dump() == now


def test_relations_are_found_and_others_are_not() -> None:
    found = find_relations(FRAME)
    assert {name: str(formula) for name, formula in found.items()} == {
        "c": "= 100 - a - b",
        "total": "= minutes + 60*hours",
        "f": "= 1.8*a + 32",
    }
    for name, formula in found.items():
        TableEncoding.fit(FRAME, kinds={name: str(formula)})
    noisy = FRAME.with_columns(total=pl.col("total") + (pl.int_range(N) == 17))
    assert set(find_relations(noisy)) == {"c", "f"}
    assert find_relations(FRAME.head(8)) == {}


def test_a_relation_is_solved_for_the_column_with_the_shortest_formula() -> None:
    celsius = pl.Series("celsius", seeding.stream(0, "test").normal(15, 8, N).round(1))
    rows = pl.DataFrame([(1.8 * celsius + 32).round(2).alias("fahrenheit"), celsius])
    for columns in (["fahrenheit", "celsius"], ["celsius", "fahrenheit"]):
        found = find_relations(rows.select(columns))
        assert {name: str(formula) for name, formula in found.items()} == {"fahrenheit": "= 1.8*celsius + 32"}


def of_several_kinds() -> pl.DataFrame:
    rng = seeding.stream(0, "relations that are not linear")
    price, quantity = rng.uniform(1, 90, N).round(2), rng.integers(1, 30, N)
    height, mass, x = rng.uniform(1.5, 2, N).round(2), rng.uniform(50, 100, N).round(1), rng.normal(size=N)
    columns = {"price": price, "quantity": quantity, "revenue": (price * quantity).round(2)}
    columns |= {"height": height, "mass": mass, "bmi": mass / height**2}
    return pl.DataFrame(columns | {"x": x, "y": 2.5 * np.exp(-2 * x)})


def test_products_of_powers_and_exponentials_are_found() -> None:
    rows = of_several_kinds()
    found = {name: str(formula) for name, formula in find_relations(rows).items()}
    assert found == {"revenue": "= price*quantity", "bmi": "= mass / height^2", "y": "= 2.5*exp(-2*x)"}
    encoding = TableEncoding.fit(rows, kinds=held_relations(rows, {}))
    back = encoding.decode(encoding.encode(rows, None))
    for name in found:
        np.testing.assert_allclose(back[name], rows[name], rtol=1e-9)
    noisy = rows.with_columns(pl.col("y") * (1 + 1e-4 * (pl.int_range(N) == 17)), pl.col("bmi").round(4))
    assert set(find_relations(noisy)) == {"revenue"}


def test_columns_with_few_values_or_with_values_that_are_not_positive_have_no_product() -> None:
    rng = seeding.stream(0, "few values")
    a, b = rng.integers(1, 5, (2, N))
    assert find_relations(pl.DataFrame({"a": a, "b": b, "c": a * b})) == {}
    x, y = rng.normal(size=(2, N))
    assert find_relations(pl.DataFrame({"x": x, "y": y, "z": x * y})) == {}


def test_a_relation_is_held_unless_something_else_was_asked_for_or_the_column_has_gaps_of_its_own() -> None:
    total = "= minutes + 60*hours"
    rest = {"c": "= 100 - a - b", "f": "= 1.8*a + 32"}
    assert held_relations(FRAME, {}) == rest | {"total": total}
    assert held_relations(FRAME, {"total": "number"}) == rest
    assert held_relations(FRAME, {"hours": "category"}) == rest
    assert held_relations(FRAME, {"minutes": "= total - 60*hours"}) == rest
    own = FRAME.with_columns(pl.when(pl.int_range(N) % 9 > 0).then("total"))
    assert held_relations(own, {}) == rest
    shared = own.with_columns(pl.when(pl.int_range(N) % 9 > 0).then("hours"))
    assert held_relations(shared, {}) == rest | {"total": total}


def test_a_table_with_relations_is_learnt_with_its_formulas_and_says_so() -> None:
    data = split_table(check_table(FRAME, name="times"), name="times", origin={}, seed=0, kinds={"cost": KINDS["cost"]})
    assert {name: str(kind) for name, kind in data.kinds.items()} == {
        "cost": KINDS["cost"],
        "total": "= minutes + 60*hours",
        "c": "= 100 - a - b",
        "f": "= 1.8*a + 32",
    }
    assert_holds(data.encoding.decode(data.encoding.encode(data.held_out, None)))
    notes = [note for note in data.notes if note.startswith("In every row total = minutes + 60*hours.")]
    assert len(notes) == 1
    assert "--schema" in notes[0]


@pytest.mark.parametrize("unit", [1.0, 1e9])
def test_times_that_are_far_from_zero_are_no_relation_unless_they_are_exactly_equal(unit: float) -> None:
    """Two times of events that last seconds, over a year, as Unix seconds or as whole nanoseconds."""
    rng = seeding.stream(0, "times")
    start = 1.7e9 + rng.uniform(0, 3e7, N)
    end = start + rng.uniform(0.01, 5, N)
    rows = pl.DataFrame({"start": unit * start, "end": unit * end}).cast(pl.Int64 if unit > 1 else pl.Float64)
    assert find_relations(rows) == {}
    copied = rows.select("start", end="start")
    assert len(find_relations(copied)) == (unit == 1)  # float64 does not have all whole numbers of 19 digits


def test_equations_that_a_formula_keeps_are_not_offered_again() -> None:
    encoding = TableEncoding.fit(FRAME, kinds={"total": KINDS["total"]})
    free = free_relations(FRAME, encoding.columns)
    assert set(free) == {"c = 100 - a - b", "f = 1.8*a + 32"}
    assert set(free_relations(FRAME, TableEncoding.fit(FRAME).columns)) == {*free, "total = minutes + 60*hours"}


def test_relations_are_looked_for_in_rows_from_all_over_a_sorted_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relations, "MOST_ROWS", 100)
    a, b = seeding.stream(0, "test").integers(1, 1000, (2, 400))
    rows = pl.DataFrame({"a": a, "b": np.where(np.arange(400) < 200, 0, b)}).with_columns(c=pl.col("a") + pl.col("b"))
    assert find_relations(rows)
