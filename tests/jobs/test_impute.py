"""One model answers every question about its columns: rows around given cells, and filled gaps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from conditions import CORRELATION, known_rows, quick_request, write_known_rows

from dualdiff_cli import seeding
from dualdiff_cli.config.recipes import Request
from dualdiff_cli.data import read_cells, write_chunks
from dualdiff_cli.errors import InputError, Interrupted
from dualdiff_cli.jobs.impute import impute
from dualdiff_cli.jobs.sample import sample
from dualdiff_cli.jobs.train import Callbacks, resume, train
from dualdiff_cli.models import DrawingOptions, load_model
from dualdiff_cli.store.run import Run

N = 2000


@pytest.fixture(scope="module")
def file(file_with_gaps: Path) -> Path:
    return file_with_gaps


@pytest.fixture(scope="module")
def trained(of_gaps: dict[str, Any]) -> dict[str, Any]:
    return of_gaps


@pytest.fixture(scope="module")
def run(trained: dict[str, Any]) -> str:
    return str(trained["run"])


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    """Other rows of the same kind, with gaps at random, in another order of columns and with a column of their own."""
    rows = known_rows(300, seed=9)
    gaps = seeding.stream(2, "gaps").random((300, rows.width)) < 0.3
    rows = rows.with_columns(
        pl.when(pl.Series(~gaps[:, k])).then(pl.col(name)).alias(name) for k, name in enumerate(rows.columns)
    )
    own = pl.Series("row", [None if k % 7 == 0 else f"r{k}" for k in range(300)])
    return rows.select("y", "hits", "side", "x").insert_column(2, own)


def filled(run: str, table: pl.DataFrame | Path, **options: Any) -> pl.DataFrame:
    return impute(run, table, device="cpu", **options)["frame"]  # type: ignore[no-any-return]


def asking(**given: Any) -> pl.DataFrame:
    """N rows with these cells, and gaps in all others."""
    rows = known_rows(1).clear()
    return pl.DataFrame({n: pl.Series([given.get(n)] * N, dtype=t) for n, t in rows.schema.items()})


# What imputing changes


def test_no_observed_cell_changes_and_every_gap_is_filled(run: str, table: pl.DataFrame) -> None:
    done = filled(run, table)
    assert done.schema == table.schema
    assert done.height == table.height
    for name in table.columns:
        observed = table[name].is_not_null()
        assert done[name].filter(observed).equals(table[name].filter(observed))
    assert done["row"].equals(table["row"])  # no column of the model: its gaps stay
    assert done.drop("row").null_count().sum_horizontal().item() == 0
    assert set(done["side"]) == {"high", "low"}


def test_nan_is_a_gap_in_columns_of_the_model_and_a_value_in_all_others(run: str) -> None:
    table = known_rows(5).with_columns(pl.lit(float("nan")).alias("x"), pl.lit(float("nan")).alias("own"))
    done = filled(run, table)
    assert np.isfinite(done["x"].to_numpy()).all()
    assert done["own"].is_nan().all()


def test_rows_without_a_value_and_the_numbers_of_the_rows_stay_where_they_are(run: str, tmp_path: Path) -> None:
    (tmp_path / "gaps.csv").write_text(",x,y\n7,1.5,2.5\n8,,\n9,,3.5\n", encoding="utf-8")
    done = filled(run, tmp_path / "gaps.csv")
    assert done.to_series(0).to_list() == [7, 8, 9]
    assert done["x"][0] == 1.5
    assert done["y"].to_list()[::2] == [2.5, 3.5]
    assert done.null_count().sum_horizontal().item() == 0


def test_a_table_whose_only_column_of_the_model_has_empty_rows_keeps_them(run: str, tmp_path: Path) -> None:
    (tmp_path / "gaps.csv").write_text("x,y\n1.5,2.5\n,\n0.5,\n", encoding="utf-8")
    assert filled(run, tmp_path / "gaps.csv")["x"].len() == 3


def test_the_record_counts_the_filled_cells(run: str, table: pl.DataFrame, tmp_path: Path) -> None:
    record = impute(run, table, output=tmp_path / "filled.csv", draws=2, device="cpu")
    gaps = table.drop("row").null_count().sum_horizontal().item()
    assert (record["rows"], record["cells_filled"], record["draws"]) == (300, gaps, 2)
    written = pl.read_csv(tmp_path / "filled.csv")
    assert written.columns == ["draw", *table.columns]
    assert written["draw"].to_list() == [1] * 300 + [2] * 300


def test_the_seed_decides_the_filled_cells_and_draws_are_independent(run: str, table: pl.DataFrame) -> None:
    first, again, other = (filled(run, table, seed=seed) for seed in (1, 1, 2))
    assert first.equals(again)
    gaps = table["x"].is_null()
    assert not (first["x"] == other["x"]).filter(gaps).any()
    both = filled(run, table, seed=1, draws=2)
    one, two = (both.filter(draw=k).drop("draw") for k in (1, 2))
    assert one.equals(first)
    assert not (one["x"] == two["x"]).filter(gaps).any()
    assert one["x"].filter(~gaps).equals(two["x"].filter(~gaps))


def test_a_file_is_filled_as_its_rows_are(run: str, table: pl.DataFrame, tmp_path: Path) -> None:
    table.write_csv(tmp_path / "table.csv")
    impute(run, tmp_path / "table.csv", output=tmp_path / "filled.parquet", device="cpu")
    assert pl.read_parquet(tmp_path / "filled.parquet").equals(filled(run, table))


def test_rows_without_gaps_come_back_as_they_are_and_a_missing_column_is_no_obstacle(run: str) -> None:
    rows = known_rows(20, seed=3)
    assert filled(run, rows).equals(rows)
    without = rows.drop("hits").with_columns(side=pl.lit(None, dtype=pl.String))
    done = filled(run, without)
    assert done.columns == without.columns
    assert done.null_count().sum_horizontal().item() == 0


def test_a_column_of_gaps_without_a_type_is_filled_with_the_type_of_the_training(run: str) -> None:
    rows = known_rows(10, seed=3).with_columns(hits=pl.Series([None] * 10, dtype=pl.Null))
    assert filled(run, rows).schema["hits"] == pl.Int64


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quick run of a table with codes that are texts: some with leading zeros, some with none."""
    folder = tmp_path_factory.mktemp("codes")
    rows = [f"{'00501' if k % 2 else '02139'},{7 if k % 3 else 'A'},{k % 7}.25\n" for k in range(60)]
    (folder / "codes.csv").write_text("zip,code,x\n" + "".join(rows), encoding="utf-8")
    request = Request(dataset=str(folder / "codes.csv"), model="mixture", settings=["model.components=2"])
    return Path(train(request, path=folder / "run", device="cpu")["run"])


def test_numbers_in_place_of_learnt_texts_are_refused_and_the_advice_works(codes: Path, tmp_path: Path) -> None:
    (tmp_path / "numbers.csv").write_text("zip,code,x\n501,7,\n2139,7,1.25\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"'zip'.*Int64.*learnt String.*'0") as caught:
        impute(codes, tmp_path / "numbers.csv", device="cpu")
    assert "leading zeros" in caught.value.remedy
    (tmp_path / "texts.csv").write_text("zip,code,x\n00501,7,\n02139,7,1.25\n", encoding="utf-8")
    done = impute(codes, tmp_path / "texts.csv", device="cpu")["frame"]
    # The numbers of this part of the table read as the texts that were learnt.
    assert done.select("zip", "code").rows() == [("00501", "7"), ("02139", "7")]


def test_truth_values_in_place_of_learnt_texts_are_refused(codes: Path) -> None:
    with pytest.raises(InputError, match=r"'code'.*Boolean.*learnt String"):
        impute(codes, pl.DataFrame({"code": [True, False], "x": [None, 0.25]}), device="cpu")


def test_marks_of_missing_texts_in_a_frame_are_gaps_as_in_the_training(codes: Path) -> None:
    rows = pl.DataFrame({"zip": ["00501", "", " NA ", None], "x": [0.25, 1.25, 2.25, 3.25]})
    record = impute(codes, rows, device="cpu")
    assert record["cells_filled"] == 3
    assert set(record["frame"]["zip"]) <= {"00501", "02139"}


def test_values_that_were_not_learnt_are_counted_in_a_warning(codes: Path) -> None:
    rows = pl.DataFrame({"zip": ["99999", "00501", "99999"], "x": [None, 0.25, None]})
    with pytest.warns(UserWarning, match=r"'zip' 2 cells have .*'99999'.*mean of the learnt values"):
        done = impute(codes, rows, device="cpu")["frame"]
    assert done["zip"].equals(rows["zip"])


def test_numbers_that_the_model_cannot_draw_are_counted_in_a_warning(tmp_path: Path) -> None:
    rng = seeding.stream(0, "positive")
    rows = pl.DataFrame({"size": rng.lognormal(0, 1, 200), "share": rng.uniform(0, 1, 200), "x": rng.normal(size=200)})
    rows.with_columns(pl.col("x").round(1)).write_csv(tmp_path / "rows.csv")
    request = Request(dataset=str(tmp_path / "rows.csv"), model="mixture", settings=["model.components=1"])
    run = train(request, path=tmp_path / "run", device="cpu")["run"]
    table = pl.DataFrame({"size": [0.0, 1.0, 2.0], "share": [0.5, -0.5, 0.25], "x": [None, 0.12, 99.0]})
    least = pytest.warns(UserWarning, match=r"'size' 1 cell has .* cannot draw, such as '0\.0'")
    with least, pytest.warns(UserWarning, match=r"'share' 1 cell has .* cannot draw, such as '-0\.5'"):
        done = impute(run, table, device="cpu")["frame"]
    assert done.select("size", "share").equals(table.select("size", "share"))


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quick run of a table with amounts, days and answers."""
    folder = tmp_path_factory.mktemp("orders")
    days = pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 3, 30), eager=True)
    number = pl.int_range(90, eager=True)
    rows = pl.DataFrame({"amount": (number * 37 % 90) / 8, "day": days, "paid": number % 3 == 0})
    rows.write_csv(folder / "orders.csv")
    request = Request(dataset=str(folder / "orders.csv"), model="mixture", settings=["model.components=2"])
    return Path(train(request, path=folder / "run", device="cpu")["run"])


LOCAL = """amount;day;paid;own;when;id
1,250;31.01.2024;True;NA;2024-01-01T10:00:00+02:00;007
NA;14.02.2024;False;1,50;;008
2,5;;NA;31.12.2024;2024-01-02T10:00:00+02:00;009
"""


def test_a_text_file_keeps_every_observed_text_and_drawn_cells_are_written_alike(orders: Path, tmp_path: Path) -> None:
    (tmp_path / "local.csv").write_text(LOCAL, encoding="utf-8")
    notes: list[str] = []
    impute(orders, tmp_path / "local.csv", output=tmp_path / "filled.csv", device="cpu", on_note=notes.append)
    before = pl.read_csv(LOCAL.encode(), separator=";", infer_schema=False)
    done = pl.read_csv(tmp_path / "filled.csv", separator=";", infer_schema=False)
    for name, gap in {"amount": 1, "day": 2, "paid": 2}.items():
        expected, found = before[name].to_list(), done[name].to_list()
        assert found[:gap] + found[gap + 1 :] == expected[:gap] + expected[gap + 1 :]
    assert done["paid"][2] in ("True", "False")
    assert done.select("own", "when", "id").equals(before.select("own", "when", "id"))
    assert re.fullmatch(r"-?\d+(,\d+)?", done["amount"][1])
    assert re.fullmatch(r"\d\d\.\d\d\.\d{4}", done["day"][2])
    assert [words for words in ("semicolons", "decimal comma", "'day'") if any(words in note for note in notes)]
    assert not any("'own'" in note or "'when'" in note for note in notes)


def test_numbers_with_a_unit_are_those_that_were_learnt_without_it(orders: Path, tmp_path: Path) -> None:
    (tmp_path / "units.csv").write_text(
        "amount,day\n€1.25,2024-01-01\nNA,2024-01-02\n-€2,2024-01-03\n", encoding="utf-8"
    )
    with pytest.warns(UserWarning, match=r"'amount' 1 cell has .*'-2\.0'"):  # no learnt amount is negative
        impute(orders, tmp_path / "units.csv", output=tmp_path / "filled.csv", device="cpu")
    first, drawn, last = pl.read_csv(tmp_path / "filled.csv")["amount"]
    assert (first, last) == ("€1.25", "-€2")
    assert re.fullmatch(r"-?€\d+(\.\d+)?", drawn)


@pytest.mark.parametrize("suffix", [".ndjson", ".xlsx"])
def test_columns_that_the_model_does_not_know_are_no_gaps_and_keep_their_texts(
    orders: Path, tmp_path: Path, suffix: str
) -> None:
    own = ["NA", "1,234", "2024-01-01T10:00:00+02:00"]
    rows = pl.DataFrame({"amount": [1.25, None, 3.5], "own": own, "day": ["NA", "2024-01-05", "2024-01-06"]})
    write_chunks(tmp_path / f"table{suffix}", [rows], rows=3)
    impute(orders, tmp_path / f"table{suffix}", output=tmp_path / f"filled{suffix}", device="cpu")
    done = read_cells(tmp_path / f"filled{suffix}").frame
    assert done["own"].to_list() == own
    assert (done["amount"][0], done["amount"][2]) == (1.25, 3.5)
    assert done.null_count().sum_horizontal().item() == 0


def test_a_text_file_becomes_values_in_a_format_that_has_types(orders: Path, tmp_path: Path) -> None:
    (tmp_path / "local.csv").write_text(LOCAL, encoding="utf-8")
    impute(orders, tmp_path / "local.csv", output=tmp_path / "filled.parquet", device="cpu")
    done = pl.read_parquet(tmp_path / "filled.parquet")
    assert done.schema["amount"] == pl.Float64
    assert done.schema["day"] == pl.Date
    assert done["amount"][2] == 2.5


def test_texts_of_a_frame_are_read_as_the_training_reads_them(orders: Path) -> None:
    rows = pl.DataFrame({"amount": ["1.50", None, "NA"], "day": ["31.01.2024", None, "14.02.2024"]})
    done = impute(orders, rows, device="cpu")["frame"]
    assert done.schema == rows.schema
    assert (done["amount"][0], done["day"][0], done["day"][2]) == ("1.50", "31.01.2024", "14.02.2024")
    assert all(float(amount) >= 0 for amount in done["amount"])
    assert re.fullmatch(r"\d\d\.\d\d\.\d{4}", done["day"][1])


def test_a_frame_without_rows_is_refused_as_a_file_is(orders: Path) -> None:
    with pytest.raises(InputError, match="no rows"):
        impute(orders, pl.DataFrame({"amount": []}, schema={"amount": pl.Float64}), device="cpu")


TYPED = {"x": pl.Float32, "y": pl.Decimal(12, 3), "side": pl.Enum(["low", "high"]), "hits": pl.UInt16}


@pytest.mark.parametrize("by_file", [False, True])
def test_the_types_of_a_table_and_its_observed_cells_stay_bit_for_bit(
    run: str, table: pl.DataFrame, tmp_path: Path, by_file: bool
) -> None:
    zoned = pl.Series("own", [0, None, 7] * 100).cast(pl.Datetime("ms", "Europe/Berlin"))
    typed = table.with_columns(pl.col("y").round(3)).cast(TYPED).with_columns(zoned, pl.Series("none", [None] * 300))
    typed.write_parquet(tmp_path / "typed.parquet")
    if by_file:
        impute(run, tmp_path / "typed.parquet", output=tmp_path / "filled.parquet", device="cpu")
    done = pl.read_parquet(tmp_path / "filled.parquet") if by_file else filled(run, typed)
    assert done.schema == typed.schema
    for column in typed:
        assert done[column.name].filter(column.is_not_null()).equals(column.drop_nulls())
    assert done.select(list(TYPED)).null_count().sum_horizontal().item() == 0
    assert done.select("row", "own", "none").equals(typed.select("row", "own", "none"))


def test_drawn_fractions_are_rounded_to_a_column_of_whole_numbers_with_a_warning(run: str) -> None:
    rows = known_rows(20, seed=3).with_columns(x=pl.Series([10, None] * 10, dtype=pl.Int32))
    with pytest.warns(UserWarning, match="'x' are rounded"):
        done = filled(run, rows)
    assert done.schema["x"] == pl.Int32
    assert done["x"].null_count() == 0


def test_a_drawn_value_that_an_enum_does_not_have_is_refused(run: str) -> None:
    sides = pl.Series(["high", None, None, None] * 5, dtype=pl.Enum(["high"]))
    with pytest.raises(InputError, match=r"'side'.*Enum.*low"):
        filled(run, known_rows(20, seed=3).with_columns(side=sides, x=pl.lit(4.0)))


def test_a_text_file_gets_moments_in_utc_and_durations_in_seconds(run: str, tmp_path: Path) -> None:
    zoned = pl.Series("own", [0, 3_600_000] * 10).cast(pl.Datetime("ms", "Europe/Berlin"))
    lasting = pl.Series("long", [1500, None] * 10).cast(pl.Duration("ms"))
    known_rows(20, seed=3).with_columns(zoned, lasting).write_parquet(tmp_path / "typed.parquet")
    impute(run, tmp_path / "typed.parquet", output=tmp_path / "filled.csv", device="cpu")
    done = pl.read_csv(tmp_path / "filled.csv")
    assert (done["own"][1], done["long"][0]) == ("1970-01-01T01:00:00", 1.5)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hits": pl.Series([0.5] * 10)}, "'hits'"),
        ({"x": pl.Series(["a"] * 10)}, "'x'"),
    ],
)
def test_a_column_of_another_type_is_refused_rather_than_changed(
    run: str, change: dict[str, pl.Series], named: str
) -> None:
    with pytest.raises(InputError) as caught:
        filled(run, known_rows(10, seed=3).with_columns(**change))
    assert named in caught.value.problem


def test_tables_that_the_number_of_the_draw_or_the_model_does_not_go_with_are_refused(run: str) -> None:
    rows = known_rows(10, seed=3)
    with pytest.raises(InputError, match="'draw'"):
        filled(run, rows.with_columns(draw=pl.lit(1)), draws=2)
    with pytest.raises(InputError, match="none of the model's columns"):
        filled(run, pl.DataFrame({"other": [1.0]}))
    with pytest.raises(InputError, match="0 draws"):
        filled(run, rows, draws=0)


# What the filled and the given cells are like

SPREAD = float(np.sqrt(1 - CORRELATION**2))


@pytest.mark.parametrize("x", [8.0, 10.0, 12.5])
def test_filled_cells_have_the_conditional_distribution(run: str, x: float) -> None:
    y = filled(run, asking(x=x))["y"].to_numpy()
    expected = CORRELATION * (x - 10) / 2
    # So short a training learns roughly; models/test_conditioning.py shows that the way of drawing is exact.
    assert y.mean() == pytest.approx(expected, abs=0.4)
    assert SPREAD - 0.1 < y.std() < 0.93  # of 1 if nothing were given


def test_a_filled_category_follows_what_is_known_and_the_other_way_round(run: str) -> None:
    low, high = (filled(run, asking(x=x)) for x in (7.0, 13.0))
    assert (low["side"] == "high").mean() < 0.3  # type: ignore[operator]
    assert (high["side"] == "high").mean() > 0.7  # type: ignore[operator]
    left, right = (filled(run, asking(side=side))["x"].to_numpy() for side in ("low", "high"))
    # E[x | side] = 10 ± 2·0.8·√(2/π)
    assert left.mean() == pytest.approx(10 - 1.28, abs=0.4)
    assert right.mean() == pytest.approx(10 + 1.28, abs=0.4)


def test_given_cells_stand_in_every_row_exactly_and_the_rest_is_what_impute_draws(run: str, tmp_path: Path) -> None:
    options = DrawingOptions(given={"x": "12.5", "side": "high"})
    record = sample(run, n=N, output=tmp_path / "rows.parquet", options=options, device="cpu")
    drawn = pl.read_parquet(tmp_path / "rows.parquet")
    assert record["given"] == {"x": "12.5", "side": "high"}
    assert drawn.columns == ["x", "side", "y", "hits"]
    assert drawn["x"].to_list() == [12.5] * N
    assert set(drawn["side"]) == {"high"}
    by_impute = filled(run, asking(x=12.5, side="high"))
    for name in ("y", "hits"):
        a, b = drawn[name].drop_nulls().to_numpy(), by_impute[name].to_numpy()
        assert abs(a.mean() - b.mean()) < 4 * np.hypot(a.std(), b.std()) / np.sqrt(N) + 0.05
    assert drawn["y"].null_count() > 0  # rows have gaps as the training rows do


def test_a_guidance_of_one_is_conditional_of_zero_is_not_and_of_two_exaggerates(run: str) -> None:
    model = load_model(Run.open(run), device=torch.device("cpu"))
    means = [
        float(model.sample(N, seed=0, options=DrawingOptions(given={"x": 12.0}, guidance=w))["y"].mean())  # type: ignore[arg-type]
        for w in (0.0, 1.0, 2.0)
    ]
    assert means[0] == pytest.approx(float(model.sample(N, seed=0)["y"].mean()), abs=0.02)  # type: ignore[arg-type]
    assert means[0] + 0.4 < means[1] < means[2]


def test_equal_values_of_a_condition_are_given_and_the_rest_is_selected(run: str, tmp_path: Path) -> None:
    record = sample(run, n=100, output=tmp_path / "rows.csv", where="x = 12.5 AND y > 0.5", device="cpu")
    drawn = pl.read_csv(tmp_path / "rows.csv")
    assert set(drawn["x"]) == {12.5}
    assert float(drawn["y"].min()) > 0.5
    assert record["given"] == {"x": "12.5"}
    assert record["acceptance_rate"] > 0.3  # not the share of rows that have x = 12.5 by chance, which is zero
    with pytest.raises(InputError, match="'side' cannot be middle"):
        sample(run, n=10, where="side = 'middle'", device="cpu")


def test_a_model_that_has_not_learnt_conditions_says_so(shared: Path, tmp_path: Path) -> None:
    file = write_known_rows(tmp_path / "few.csv", n=60)
    run = train(quick_request(file, "objective.conditional=0", steps=5), path=tmp_path / "run", device="cpu")["run"]
    with pytest.raises(InputError, match=r"not learnt.*objective\.conditional"):
        impute(run, known_rows(5).with_columns(x=pl.lit(None, dtype=pl.Float64)), device="cpu")


# Training on a mixed table


FOLDS = ("folds.number=2", "folds.levels=4", "folds.bands=2")


@pytest.mark.parametrize("recipe", [FOLDS, ("recipe=precise",)], ids=["folds", "one-network"])
def test_a_stopped_and_resumed_training_on_a_mixed_table_ends_in_the_same_weights(
    recipe: tuple[str, ...], file: Path, tmp_path: Path
) -> None:
    small = ["model.width=8", "model.blocks=1", "training.checkpoint_every=10", *recipe]
    asked = quick_request(file, *small, steps=30)
    train(asked, path=tmp_path / "whole", device="cpu")
    calls = iter(range(1000))
    with pytest.raises(Interrupted):
        train(asked, path=tmp_path / "cut", device="cpu", callbacks=Callbacks(should_stop=lambda: next(calls) >= 2))
    resume(Run.open(tmp_path / "cut"), device="cpu")
    for name in ("model.safetensors", "model.json", "data.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
