"""Rows that meet a condition, and which parts of a condition can be given instead of selected."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from short_runs import simple

from dualdiff_cli import seeding
from dualdiff_cli.errors import InputError
from dualdiff_cli.jobs.sample import sample
from dualdiff_cli.jobs.selecting import LEAST_CANDIDATES, Selection, equalities
from dualdiff_cli.jobs.train import train
from dualdiff_cli.models import DrawingOptions


def rows(n: int = LEAST_CANDIDATES) -> Iterator[pl.DataFrame]:
    """Draw n rows with a number and a letter, in frames of at most 700."""
    rng = seeding.stream(0, "rows")
    for first in range(0, n, 700):
        m = min(700, n - first)
        yield pl.DataFrame({"x": rng.normal(size=m), "letter": rng.choice(list("AB"), m, p=[0.95, 0.05])})


@pytest.mark.parametrize("predicate", ["x > 0.5", "x > 0 AND letter = 'B'", "x BETWEEN -1 AND 0", "letter IN ('B')"])
def test_exactly_the_rows_that_meet_the_condition_are_kept_in_their_order(predicate: str) -> None:
    selection, drawn = Selection(predicate), []

    def noted() -> Iterator[pl.DataFrame]:
        for frame in rows():
            drawn.append(frame)
            yield frame

    kept = pl.concat(selection.rows(noted(), 300))
    candidates = pl.concat(drawn)
    meeting = candidates.filter(pl.sql_expr(predicate))
    assert kept.equals(meeting.head(300))
    assert (selection.candidates, selection.accepted) == (candidates.height, meeting.height)


def test_no_more_rows_are_drawn_than_are_needed() -> None:
    selection = Selection("x > -100")
    assert pl.concat(selection.rows(rows(), 300)).height == 300
    assert selection.candidates == 700  # one frame


def test_kept_rows_have_the_conditional_distribution() -> None:
    kept = pl.concat(Selection("letter = 'B'").rows(rows(), 2000))["x"].to_numpy()
    assert abs(kept.mean()) < 4 / 2000**0.5
    assert kept.std() == pytest.approx(1, abs=0.08)


def test_a_condition_that_nothing_meets_ends_with_a_sentence_and_the_number_of_rows_that_were_tried() -> None:
    selection = Selection("x > 100")
    with pytest.raises(InputError) as caught:
        list(selection.rows(rows(), 10))
    assert selection.accepted == 0
    assert selection.candidates == LEAST_CANDIDATES
    assert f"{selection.candidates:,}" in caught.value.problem
    assert "x > 100" in caught.value.problem
    assert "--given" in caught.value.remedy


@pytest.mark.parametrize("predicate", ["x >", "", "x ==== 3", "SELECT", "y > 3", "x + 1", "x > 'a'"])
def test_what_is_no_condition_on_the_columns_is_refused(predicate: str) -> None:
    with pytest.raises(InputError) as caught:
        list(Selection(predicate).rows(rows(), 10))
    assert predicate in caught.value.problem
    assert "WHERE" in caught.value.remedy


@pytest.mark.parametrize(
    "predicate",
    [
        "row_number() over () = 1",
        "x > AVG(x)",
        "x > 3 * STDDEV(x)",
        "x < 2 * MAX(x) - 3",
        "x = MAX(x)",
        "x > 1 AND COUNT(*) > 1",
        "SUM(x) OVER (PARTITION BY letter) > x",
        "LAG(x) OVER (ORDER BY x) > 0",
        "letter = 'B' OR x > MEDIAN(x)",
    ],
)
def test_a_condition_that_compares_rows_is_refused(predicate: str) -> None:
    with pytest.raises(InputError) as caught:
        list(Selection(predicate).rows(rows(), 100))
    assert predicate in caught.value.problem
    assert "OVER" in caught.value.remedy


@pytest.mark.parametrize("predicate", ["true", "GREATEST(x, 1) = 1", "CASE WHEN x > 1 THEN true ELSE x > 0 END"])
def test_a_condition_without_a_column_or_with_functions_of_one_row_is_taken(predicate: str) -> None:
    assert pl.concat(Selection(predicate).rows(rows(), 100)).height == 100


# Equalities

NAMES = ["a", "b_1", "größe", "with space", "and", "x or y", "a=b", "(c)"]
VALUES = [3, -2.5, 0, "A", "it's", "x AND y", "a = 1", "NOT (this)", "", "ä", "10", 'say "hi"']


def written(name: str, value: object) -> str:
    """Write an equality in SQL."""
    plain = name.replace("_", "").isalnum() and name != "and"
    quoted = "'" + str(value).replace("'", "''") + "'"
    return f"{name if plain else chr(34) + name + chr(34)} = {quoted if isinstance(value, str) else value}"


@pytest.mark.parametrize("seed", range(30))
def test_equalities_joined_by_and_are_all_found_beside_other_conditions(seed: int) -> None:
    choice = random.Random(seed)
    names = choice.sample(NAMES, choice.randint(1, 4))
    values = {name: choice.choice(VALUES) for name in names}
    others = choice.sample(["z > 3", "z <> 'A'", "w <= -1.5", "v IS NULL", "u != 2"], choice.randint(0, 2))
    parts = [*(written(*each) for each in values.items()), *others]
    choice.shuffle(parts)
    found = equalities(choice.choice([" AND ", " and ", "\nAnd\n"]).join(parts))
    assert found == {name: value if isinstance(value, str) else str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("written_so", "value"),
    [
        ("1e3", "1000"),
        (".1", "0.1"),
        ("5.", "5"),
        ("+12345678901234567", "12345678901234567"),
        ("-2.5E-1", "-0.25"),
        ("TRUE", "TRUE"),
        ("false", "false"),
        ("DATE '2021-04-01'", "2021-04-01"),
    ],
)
def test_a_value_is_recognised_however_it_is_written(written_so: str, value: str) -> None:
    assert equalities(f"a = {written_so} AND b > 2") == {"a": value}


@pytest.mark.parametrize(
    "predicate",
    [
        "a = 1 OR b = 2",
        "NOT a = 1",
        "(a = 1)",
        "a BETWEEN 1 AND 2",
        "a IN (1, 2)",
        "CASE WHEN a > 1 AND b = 2 AND c > 3 THEN true END",
        "a = b",
        "a = 1 + 1",
        "a >= 1",
        "a <> 1",
        "1 = a",
    ],
)
def test_a_condition_that_is_no_row_of_equalities_is_left_whole(predicate: str) -> None:
    assert equalities(predicate) == {}


@pytest.mark.parametrize("seed", range(10))
def test_every_row_that_meets_a_condition_has_the_values_that_were_taken_from_it(seed: int) -> None:
    choice = random.Random(seed)
    table = pl.DataFrame({"a": [1, 2] * 50, "letter": list("ABCDE") * 20, "it's": ["x y", "and"] * 50})
    predicate = " AND ".join(choice.sample(["a = 2", "letter = 'B'", "\"it's\" = 'and'", "letter <> 'A'", "a > 0"], 3))
    meeting = table.filter(pl.sql_expr(predicate))
    for name, value in equalities(predicate).items():
        assert set(meeting[name].cast(pl.String)) <= {value}


# The job


@pytest.fixture(scope="module")
def mixture(shared: Path) -> str:
    return str(train(simple("mixture"), path=shared / "mixture-to-select-from", device="cpu")["run"])


def test_sample_writes_only_rows_that_meet_the_condition_and_reports_the_acceptance_rate(
    mixture: str, tmp_path: Path
) -> None:
    record = sample(mixture, n=500, output=tmp_path / "rows.parquet", where="x > 0.5 AND y < 0.3", device="cpu")
    drawn = pl.read_parquet(tmp_path / "rows.parquet")
    assert drawn.height == 500
    assert drawn.filter((pl.col("x") > 0.5) & (pl.col("y") < 0.3)).height == 500
    assert record["where"] == "x > 0.5 AND y < 0.3"
    assert 0 < record["acceptance_rate"] < 1
    assert record["candidates"] >= 500
    free = pl.DataFrame(sample_frame(mixture, 20_000, tmp_path))
    share = free.filter((pl.col("x") > 0.5) & (pl.col("y") < 0.3)).height / 20_000
    assert record["acceptance_rate"] == pytest.approx(share, abs=0.05)


def sample_frame(run: str, n: int, path: Path) -> pl.DataFrame:
    sample(run, n=n, output=path / "free.parquet", seed=5, device="cpu")
    return pl.read_parquet(path / "free.parquet")


def test_the_same_seed_selects_the_same_rows(mixture: str, tmp_path: Path) -> None:
    files = [tmp_path / f"{k}.csv" for k in range(3)]
    for file, seed in zip(files, (1, 1, 2), strict=True):
        sample(mixture, n=50, output=file, where="x > 1", seed=seed, device="cpu")
    first, again, other = (file.read_bytes() for file in files)
    assert first == again != other


def test_a_model_that_takes_no_given_cells_refuses_them_and_selects_equal_values_among_its_rows(
    shared: Path, mixture: str
) -> None:
    run = str(train(simple("kernel-density"), path=shared / "density-to-select-from", device="cpu")["run"])
    with pytest.raises(InputError, match="--given"):
        sample(run, n=5, options=DrawingOptions(given={"x": 1.0}), device="cpu")
    with pytest.raises(InputError, match=r"meet the condition x = 0.5"):
        sample(run, n=5, where="x = 0.5", device="cpu")
    assert sample(mixture, n=5, where="x = 0.5", device="cpu")["acceptance_rate"] == 1


def test_nothing_is_left_behind_where_nothing_meets_the_condition(mixture: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="x > 1000"):
        sample(mixture, n=5, output=tmp_path / "rows.csv", where="x > 1000", device="cpu")
    assert not list(tmp_path.iterdir())


def test_the_rows_of_a_longer_selection_begin_with_those_of_a_shorter_one(mixture: str, tmp_path: Path) -> None:
    for n in (20, 3000):
        sample(mixture, n=n, output=tmp_path / f"{n}.parquet", where="x > 0.5", device="cpu", seed=2)
    short, long = (pl.read_parquet(tmp_path / f"{n}.parquet") for n in (20, 3000))
    assert short.equals(long.head(20))
