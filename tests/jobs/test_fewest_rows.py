"""A table so small that its held-out rows are too few for any score is still trained, evaluated and reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from people import write_people

from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.errors import InputError
from dualdiff_cli.jobs.compare import compare
from dualdiff_cli.jobs.evaluate import evaluate
from dualdiff_cli.jobs.report import report
from dualdiff_cli.jobs.sample import sample
from dualdiff_cli.jobs.train import train
from dualdiff_cli.present.evaluation import evaluation_tables
from dualdiff_cli.present.training import training_table

TOO_FEW = "2 held-out rows are too few for any score: at least 6 are needed."


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The record of a Gaussian that has learnt 18 rows, while 2 are held out."""
    place = tmp_path_factory.mktemp("fewest")
    path = write_people(place / "people.csv", n=20)
    config = resolve(dataset=str(path), model="mixture", settings=["model.components=1"])
    return train(config, path=place / "run", device="cpu")


def test_the_training_ends_with_its_record_in_which_the_scores_are_unknown(trained: dict[str, Any]) -> None:
    assert json.loads(Path(trained["run"], "training.json").read_text(encoding="utf-8")) == trained
    assert set(trained["memorisation"].values()) == {None}
    assert trained["verdict"] == {"level": "unknown", "sentence": TOO_FEW}
    assert training_table(trained).notes[0].count(TOO_FEW) == 1


def test_the_evaluation_and_the_report_say_once_why_the_scores_are_unknown(trained: dict[str, Any]) -> None:
    record = evaluate(trained["run"], n=60, target="income", device="cpu")
    assert {score["value"] for score in record["metrics"].values()} == {None}
    assert record["metrics"]["tstr"]["unit"] == "R²"
    *_, of_scores, verdict = evaluation_tables(record, title="")[0].notes
    assert of_scores.endswith(TOO_FEW)
    assert verdict.endswith(TOO_FEW)
    written = report(trained["run"], device="cpu")
    assert (written["verdict"], written["sentence"]) == ("unknown", TOO_FEW)
    assert TOO_FEW in Path(written["output"]).read_text(encoding="utf-8")


@pytest.mark.parametrize("n", [-1, 0, 5])
def test_too_few_generated_rows_are_refused_before_any_work(n: int, trained: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{n} generated rows cannot be scored"):
        evaluate(trained["run"], n=n, device="cpu")
    with pytest.raises(InputError, match=f"{n} generated rows cannot be scored"):
        compare("moons", n=n, device="cpu")


def test_no_rows_cannot_be_drawn(trained: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="0 rows cannot be drawn"):
        sample(trained["run"], n=0, device="cpu")
