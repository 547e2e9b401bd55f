"""The commands and options that ask a model a question: columns, impute, sample --given and --where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from commands import answer, dualdiff, refused, settings

from dualdiff_cli import seeding

WORDS = ["--steps", "20", "--device", "cpu", *settings("model.width=8", "folds.levels=6", "sampling.steps=4")]
N = 150


def table() -> pl.DataFrame:
    """Rows whose text identifies them, with a category, an angle and some gaps."""
    rng = seeding.stream(0, "events")
    energy = [None if k % 9 == 0 else float(x) for k, x in enumerate(rng.lognormal(1, 0.5, N))]
    return pl.DataFrame(
        {
            "id": [f"event {k}" for k in range(N)],
            "detector": rng.choice(list("AB"), N),
            "energy": energy,
            "angle": rng.uniform(0, 360, N),
            "hits": rng.poisson(3, N),
        }
    )


@pytest.fixture(scope="module")
def file(elsewhere: Path) -> Path:
    path = elsewhere / "events.csv"
    table().write_csv(path)
    return path


@pytest.fixture(scope="module")
def schema(file: Path, elsewhere: Path) -> Path:
    """What `columns` writes, with the angle that a reader knows of."""
    path = elsewhere / "events.toml"
    answer("columns", file, "-o", path)
    path.write_text(path.read_text().replace('"angle" = "bounded"', '"angle" = "angle"'))
    return path


@pytest.fixture(scope="module")
def run(file: Path, schema: Path, elsewhere: Path) -> Path:
    return Path(
        answer("train", "--dataset", file, "--schema", schema, *WORDS, "--run-dir", elsewhere / "events")["run"]
    )


def test_columns_looks_at_the_columns_that_are_named(file: Path) -> None:
    record = answer("columns", file, "--columns", "hits, detector")
    assert [column["name"] for column in record["columns"]] == ["hits", "detector"]


def test_columns_prints_a_line_for_every_column_and_trains_nothing(file: Path) -> None:
    result = dualdiff("columns", file)
    assert result.exit_code == 0
    for name, kind in [("id", "identifier"), ("detector", "category"), ("hits", "integer")]:
        assert any(line.split()[:2] == [name, kind] for line in result.stdout.splitlines())
    assert not Path("runs").exists()


def test_train_follows_the_schema_and_says_which_column_it_left_out(file: Path, schema: Path, tmp_path: Path) -> None:
    assert '"angle" = "angle"' in schema.read_text()
    words = ["train", "--dataset", file, "--schema", schema, *WORDS, "--run-dir", tmp_path / "again"]
    result = dualdiff(*words)
    assert result.exit_code == 0
    assert "'id'" in result.stderr


def test_samples_have_the_kinds_of_the_columns(run: Path, tmp_path: Path) -> None:
    assert answer("sample", run, "-n", "300", "-o", tmp_path / "rows.csv")["n"] == 300
    drawn = pl.read_csv(tmp_path / "rows.csv")
    assert drawn.columns == ["detector", "energy", "angle", "hits"]
    assert set(drawn["detector"]) <= {"A", "B"}
    assert float(drawn["angle"].min()) >= 0
    assert float(drawn["angle"].max()) < 360
    assert drawn["hits"].dtype == pl.Int64
    assert int(drawn["hits"].min()) >= 0
    assert float(drawn["energy"].min()) > 0  # type: ignore[arg-type]


def test_given_cells_stand_in_every_row(run: Path, tmp_path: Path) -> None:
    words = ["--given", "detector=B", "--given", "hits=3", "--guidance", "1.5"]
    record = answer("sample", run, "-n", "50", "-o", tmp_path / "rows.csv", *words)
    drawn = pl.read_csv(tmp_path / "rows.csv")
    assert set(drawn["detector"]) == {"B"}
    assert set(drawn["hits"]) == {3}
    assert record["given"] == {"detector": "B", "hits": "3"}


def test_where_keeps_the_rows_that_meet_it_and_tells_the_acceptance_rate(run: Path, tmp_path: Path) -> None:
    record = answer("sample", run, "-n", "50", "-o", tmp_path / "rows.csv", "--where", "angle < 180")
    assert (pl.read_csv(tmp_path / "rows.csv")["angle"] < 180).all()
    assert 0 < record["acceptance_rate"] < 1
    assert record["network_evaluations"] == record["sample_steps"]


def test_rows_that_are_drawn_again_are_counted_among_all_that_a_condition_was_asked_of(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dualdiff_cli.jobs.sample.sample", lambda *_, **__: {"redrawn": 70, "candidates": 5000})
    assert "70 of 5,000 drawn rows were" in dualdiff("sample", run, "-n", "50", "--where", "hits > 3").stderr
    assert "70 of 100 rows were" in dualdiff("sample", run, "-n", "100").stderr


def test_the_way_to_rows_with_a_gap_that_the_refusal_of_an_empty_value_names_works(run: Path, tmp_path: Path) -> None:
    assert "--where '\"energy\" IS NULL'" in refused("sample", run, "-n", "5", "--given", "energy=")
    answer("sample", run, "-n", "5", "-o", tmp_path / "rows.csv", "--where", '"energy" IS NULL')
    assert pl.read_csv(tmp_path / "rows.csv")["energy"].null_count() == 5


def test_a_given_value_far_beyond_the_training_rows_is_no_absurd_row(run: Path, tmp_path: Path) -> None:
    record = answer("sample", run, "-n", "20", "-o", tmp_path / "rows.csv", "--given", "hits=100000")
    assert pl.read_csv(tmp_path / "rows.csv")["hits"].to_list() == [100_000] * 20
    assert record["redrawn"] < 20


def test_impute_fills_the_gaps_of_a_file_and_keeps_everything_else(run: Path, file: Path, tmp_path: Path) -> None:
    record = answer("impute", run, file, "-o", tmp_path / "filled.csv")
    before, after = pl.read_csv(file), pl.read_csv(tmp_path / "filled.csv")
    assert record["cells_filled"] == before["energy"].null_count() == 17
    assert after.drop("energy").equals(before.drop("energy"))
    observed = before["energy"].is_not_null()
    assert after["energy"].filter(observed).equals(before["energy"].filter(observed))
    assert after["energy"].null_count() == 0
    assert np.isfinite(after["energy"].to_numpy()).all()


def test_a_filled_table_for_a_pipe_is_csv_and_nothing_else(run: Path, file: Path, tmp_path: Path) -> None:
    dualdiff("impute", run, file, "-o", tmp_path / "filled.csv")
    assert dualdiff("impute", run, file, "-o", "-").stdout == (tmp_path / "filled.csv").read_text(encoding="utf-8")
    assert "--json and --output -" in refused("impute", run, file, "-o", "-", "--json")


def test_columns_may_stand_in_another_order_than_in_training(run: Path, tmp_path: Path) -> None:
    table().select("hits", "energy", "id", "angle", "detector").write_csv(tmp_path / "table.csv")
    answer("impute", run, tmp_path / "table.csv", "-o", tmp_path / "filled.csv", "--draws", "2")
    filled = pl.read_csv(tmp_path / "filled.csv")
    assert filled.columns == ["draw", "hits", "energy", "id", "angle", "detector"]
    assert filled.height == 2 * N


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--given", "detector=Z"], "'detector'"),
        (["--given", "detektor=A"], "'detektor'"),
        (["--given", "hits=many"], "'hits'"),
        (["--given", "detector"], "--given"),
        (["--given", "hits=1", "--given", " hits=2"], "'hits' twice, with 1 and with 2"),
        (["--guidance", "2"], "--guidance"),
        (["--where", "energy >"], "energy >"),
        (["--where", "mass > 3"], "mass > 3"),
    ],
)
def test_a_condition_that_cannot_be_is_refused_by_name(run: Path, words: list[str], named: str) -> None:
    assert named in refused("sample", run, "-n", "5", *words)


def test_impute_without_a_table_of_the_models_columns_is_refused(run: Path, tmp_path: Path) -> None:
    pl.DataFrame({"u": [1.0, None], "v": [2, 3]}).write_csv(tmp_path / "other.csv")
    assert "detector" in refused("impute", run, tmp_path / "other.csv", "-o", tmp_path / "filled.csv")
    assert "none.csv" in refused("impute", run, tmp_path / "none.csv", "-o", tmp_path / "filled.csv")
