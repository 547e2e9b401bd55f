"""How commands find runs, and how a run is repeated."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from commands import SMALL, TINY_WORDS, answer
from people import write_people


@pytest.mark.usefixtures("_full_search")
def test_without_more_than_a_data_set_two_experts_are_trained_by_the_recipe_that_suits_the_rows() -> None:
    record = answer("train", "--dataset", "line", *SMALL)
    assert (record["run"], record["model"], record["recipe"]) == ("runs/line-dual-expert-1", "dual-expert", "few-rows")
    again = Path(answer("train", "--config", "runs/line-dual-expert-1/config.toml", "--device", "cpu")["run"])
    for name in ("config.toml", "model.safetensors", "metrics.jsonl"):
        assert (again / name).read_bytes() == Path("runs/line-dual-expert-1", name).read_bytes(), name


def test_runs_are_numbered_and_the_newest_is_the_one_meant() -> None:
    words = ("train", "--dataset", "line", "--model", "baseline", *TINY_WORDS)
    assert answer(*words)["run"] == "runs/line-baseline-1"
    Path("runs/line-baseline-8").mkdir()
    newest = answer(*words)["run"]
    assert newest == "runs/line-baseline-9"
    os.utime("runs/line-baseline-1/config.toml", (1, 1))
    assert answer("sample", "-n", "5", "-o", "x.csv")["run"] == newest
    assert answer("train", "--resume")["run"] == newest


def test_a_runs_own_configuration_gives_the_same_weights_again(run: Path) -> None:
    again = Path(answer("train", "--config", run / "config.toml", "--device", "cpu")["run"])
    assert again == Path("runs/moons-dual-expert-1")
    for name in ("config.toml", "model.safetensors", "metrics.jsonl"):
        assert (again / name).read_bytes() == (run / name).read_bytes(), name


def test_a_seed_of_its_own_gives_other_weights(run: Path) -> None:
    other = Path(answer("train", "--config", run / "config.toml", "--seed", "1", "--device", "cpu")["run"])
    assert (other / "model.safetensors").read_bytes() != (run / "model.safetensors").read_bytes()


def test_columns_of_a_file_come_out_as_they_went_in(tmp_path: Path) -> None:
    write_people(tmp_path / "people.csv", city=["Rome"] * 200, gap=[None, *range(199)])
    chosen = ("--columns", "income,gap,age (years)", "--missing", "drop")
    record = answer("train", "--dataset", "people.csv", "--model", "baseline", *chosen, *TINY_WORDS)
    assert record["run"] == "runs/people-baseline-1"
    assert json.loads(Path(record["run"], "data.json").read_text(encoding="utf-8"))["dropped_rows"] == 1
    for name in ("people.out.csv", "people.out.parquet"):
        answer("sample", "-n", "30", "-o", name)
    for frame in (pl.read_csv("people.out.csv"), pl.read_parquet("people.out.parquet")):
        assert frame.columns == ["income", "gap", "age (years)"]
        assert frame.dtypes == [pl.Float64, pl.Int64, pl.Int64]
        assert frame.height == 30
    answer("sample", "-n", "30", "-o", "people.out.npy")
    assert np.array_equal(np.load("people.out.npy"), pl.read_csv("people.out.csv").to_numpy())
