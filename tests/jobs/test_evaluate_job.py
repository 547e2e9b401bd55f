from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from people import write_people
from short_runs import copy_of, run_of

from dualdiff_cli import resolve, seeding, train
from dualdiff_cli.data import get_density
from dualdiff_cli.errors import InputError
from dualdiff_cli.jobs.evaluate import evaluate
from dualdiff_cli.models import DrawingOptions
from dualdiff_cli.store.run import Run

DIVERGENCES = ("kl_real_generated", "kl_generated_real", "kl_published")
FILES = ["sliced_wasserstein", "classifier_two_sample"]
LOSSES = ("held_out_loss", "training_loss_published")


@pytest.fixture(scope="module")
def evaluated(trained: dict[str, Any]) -> dict[str, Any]:
    return evaluate(trained["run"], n=300, device="cpu")


def test_the_record_of_an_evaluation_says_what_was_scored(evaluated: dict[str, Any], trained: dict[str, Any]) -> None:
    assert {key: value for key, value in evaluated.items() if key != "metrics"} == {
        "run": trained["run"],
        "dataset": "eight-gaussians",
        "model": "dual-expert",
        "recipe": "paper",
        "n_real": 200,
        "n_generated": 300,
        "samples": None,
        "against": None,
        "seed": 0,
        "sampler": "ancestral",
        "sample_steps": 8,
        "precision": "float32",
        "compiled": False,
        "network_evaluations": 8,
        "sample_seconds": evaluated["sample_seconds"],
        "model_sha256": evaluated["model_sha256"],
    }
    assert evaluated["sample_seconds"] > 0
    assert json.loads(json.dumps(evaluated, allow_nan=False)) == evaluated


def test_every_metric_has_the_keys_of_the_contract(evaluated: dict[str, Any]) -> None:
    metrics = evaluated["metrics"]
    assert set(metrics) == {
        *DIVERGENCES,
        *LOSSES,
        "sliced_wasserstein",
        "wasserstein2",
        "classifier_two_sample",
        "classifier_auc",
        "memorisation",
        "copies",
        "mode_coverage",
        "off_mode_share",
        "mode_share_tv",
    }
    for name, score in metrics.items():
        assert {"value", "unit", "ci95", "floor"} <= score.keys()
        if score["ci95"] is not None:
            assert score["ci95"][0] <= score["value"] <= score["ci95"][1], name
        assert (score["floor"] is None) == (name in LOSSES), name
    assert {metrics[name]["unit"] for name in DIVERGENCES} == {"bits"}


def test_an_evaluation_is_left_in_the_run(evaluated: dict[str, Any], trained: dict[str, Any]) -> None:
    assert json.loads(Path(trained["run"], "evaluation.json").read_text(encoding="utf-8")) == evaluated


@pytest.mark.parametrize("options", [{"options": DrawingOptions(steps=4)}, {"metrics": ["wasserstein2"]}])
def test_an_evaluation_of_a_part_or_with_other_options_is_not_left_in_the_run(
    options: dict[str, Any], trained: dict[str, Any], tmp_path: Path
) -> None:
    run = copy_of(trained, tmp_path / "run")
    (run.path / "evaluation.json").unlink(missing_ok=True)
    evaluate(run, n=100, device="cpu", **options)
    assert not (run.path / "evaluation.json").exists()


def test_the_held_out_loss_is_the_one_that_training_ended_with(
    evaluated: dict[str, Any], trained: dict[str, Any], of_people: dict[str, Any]
) -> None:
    assert evaluated["metrics"]["held_out_loss"]["value"] == trained["held_out_loss"]
    scored = evaluate(run_of(of_people), n=100, device="cpu")
    assert scored["metrics"]["held_out_loss"]["value"] == of_people["held_out_loss"]
    assert "kl_published" not in scored["metrics"]


def test_rows_of_a_file_are_scored_in_place_of_the_models(trained: dict[str, Any], tmp_path: Path) -> None:
    run = copy_of(trained, tmp_path / "run")
    (run.path / "evaluation.json").unlink(missing_ok=True)
    truth = get_density("eight-gaussians").sample(300, seeding.stream(9, "truth"))
    for name, points in (("true", truth), ("shifted", truth + 1.0)):
        pl.DataFrame(points, schema=["x", "y"]).write_csv(f"{name}.csv")
    good, bad = (evaluate(run, samples=f"{name}.csv", device="cpu") for name in ("true", "shifted"))
    for name in ("kl_real_generated", "kl_generated_real", *FILES):
        close, far = (record["metrics"][name] for record in (good, bad))
        assert far["value"] - far["floor"] > 3 * abs(close["value"] - close["floor"]), name
    assert set(LOSSES).isdisjoint(good["metrics"])
    assert "sampler" not in good
    assert not (run.path / "evaluation.json").exists()


def test_a_runs_samples_are_scored_against_a_file(of_people: dict[str, Any]) -> None:
    write_people(Path("truth.csv"), n=150, seed=4)
    record = evaluate(of_people["run"], against=Path("truth.csv"), n=100, metrics=FILES, device="cpu")
    assert (record["n_real"], record["n_generated"]) == (150, 100)
    assert record["metrics"]["sliced_wasserstein"]["unit"] == "standard deviations"


def test_a_column_is_predicted_by_trees_that_have_learnt_from_the_samples(
    of_people: dict[str, Any], trained: dict[str, Any]
) -> None:
    write_people(Path("truth.csv"), n=150, seed=4)
    names = pl.read_csv("truth.csv").columns
    asked: dict[str, Any] = {"against": Path("truth.csv"), "n": 100, "metrics": ["tstr"], "device": "cpu"}
    score = evaluate(of_people["run"], target=names[0], **asked)["metrics"]["tstr"]
    assert score["unit"] == "R²"
    assert score["floor"] is not None
    for run, target, wanted in ((of_people, "nmae", names[0]), (trained, "x", "--target")):
        with pytest.raises(InputError, match=rf"'{target}' is no column.*{re.escape(wanted)}"):
            evaluate(run["run"], target=target, n=100, device="cpu", metrics=["tstr"])


def test_gaps_that_no_feature_holds_are_said(tmp_path: Path) -> None:
    x = [float(k) for k in range(60)]
    pl.DataFrame({"x": x, "y": x[::-1]}).write_csv(tmp_path / "whole.csv")
    pl.DataFrame({"x": [None] * 20 + x[20:], "y": x}).write_csv(tmp_path / "gaps.csv")
    with pytest.warns(UserWarning, match="'x' has 20 missing values in 60 rows"):
        evaluate(samples=tmp_path / "gaps.csv", against=tmp_path / "whole.csv", metrics=FILES)


def test_two_files_are_scored_without_a_run() -> None:
    write_people(Path("samples.csv"), n=200, seed=0)
    write_people(Path("truth.csv"), n=400, seed=1, city=["Rome"] * 400)  # is left out: the samples have no city
    record = evaluate(samples=Path("samples.csv"), against="truth.csv")
    assert (record["run"], record["dataset"], record["n_real"], record["n_generated"]) == (None, "truth.csv", 200, 200)
    assert (record["samples"], record["against"]) == ("samples.csv", "truth.csv")
    kl = record["metrics"]["kl_real_generated"]
    assert kl["unit"] == "bits"
    assert abs(kl["value"] - kl["floor"]) < 0.5


def test_a_column_of_another_type_is_refused_and_a_fraction_among_whole_numbers_is_scored() -> None:
    days = pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 4, 9), eager=True)
    number = pl.int_range(100, eager=True) * 7 % 100
    truth = pl.DataFrame({"x": number, "day": days, "name": ["a", "b"] * 50})
    truth.write_csv("truth.csv")
    wrong = {
        "x": pl.Series(["many", *["1"] * 99]),
        "day": pl.int_range(100, eager=True),
        "name": pl.int_range(100, eager=True),
    }
    for name, column in wrong.items():
        truth.with_columns(column.alias(name)).write_csv("samples.csv")
        with pytest.raises(InputError, match=f"'{name}' of the table has the type"):
            evaluate(samples="samples.csv", against="truth.csv", metrics=FILES)
    truth.with_columns(x=pl.col("x") + 0.5).write_csv("samples.csv")
    assert set(evaluate(samples="samples.csv", against="truth.csv", metrics=FILES)["metrics"]) == set(FILES)


def test_the_notes_of_reading_are_told() -> None:
    write_people(Path("samples.csv"), n=200, seed=0)
    text = Path("samples.csv").read_text(encoding="utf-8").replace(",", ";")
    Path("truth.csv").write_text(text, encoding="utf-8")
    notes: list[str] = []
    evaluate(samples="samples.csv", against="truth.csv", metrics=FILES, on_note=notes.append)
    assert [note for note in notes if "semicolons" in note]


@pytest.mark.parametrize("files", [{}, {"samples": "a.csv"}, {"against": "a.csv"}])
def test_without_a_run_both_files_are_needed(files: dict[str, str]) -> None:
    write_people(Path("a.csv"))
    with pytest.raises(InputError, match=r"nothing to score.*--samples and --against"):
        evaluate(**files)


def test_a_file_without_the_columns_of_the_run_is_refused(trained: dict[str, Any]) -> None:
    write_people(Path("people.csv"))
    with pytest.raises(InputError, match=r"people.csv has no column 'x'"):
        evaluate(trained["run"], samples="people.csv", device="cpu")


def test_a_model_that_is_no_diffusion_model_is_scored_like_any_other(simpler: dict[str, Any], tmp_path: Path) -> None:
    run = copy_of(simpler, tmp_path / "run")
    record = evaluate(run, n=200, exact=True, device="cpu")
    assert record["model"] == simpler["model"]
    assert set(LOSSES).isdisjoint(record["metrics"])
    nll = record["metrics"]["nll_held_out"]
    assert nll["value"] == pytest.approx(simpler["held_out_loss"])
    assert [note for note in nll["notes"] if "reflects at the bounds of 'x', 'y'" not in note] == []
    assert json.loads((run.path / "evaluation.json").read_text(encoding="utf-8")) == record


def test_a_run_can_be_named_by_its_path(trained: dict[str, Any]) -> None:
    scores = [
        evaluate(source, n=100, metrics=["wasserstein2"], device="cpu")["metrics"]
        for source in (trained["run"], Path(trained["run"]), Run(trained["run"]))
    ]
    assert scores[0] == scores[1] == scores[2]
    with pytest.raises(InputError, match="nowhere is not a run"):
        evaluate("nowhere")


def test_the_training_file_given_as_samples_is_warned_of(of_people: dict[str, Any]) -> None:
    write_people(Path("fresh.csv"), n=150, seed=4)
    run = of_people["run"]
    with pytest.warns(UserWarning, match="people.csv repeat rows"):
        record = evaluate(run, samples=of_people["dataset"], metrics=["copies"], device="cpu")
    assert record["metrics"]["copies"]["value"] > 0.85  # a tenth of the rows is held out
    evaluate(run, samples="fresh.csv", metrics=["copies"], device="cpu")  # a warning would be an error


def test_a_file_scored_against_itself_is_warned_of() -> None:
    write_people(Path("a.csv"))
    with pytest.warns(UserWarning, match="against themselves"):
        evaluate(samples="a.csv", against=Path("a.csv").resolve(), metrics=["sliced_wasserstein"])


def test_training_rows_in_place_of_true_rows_are_warned_of(of_people: dict[str, Any]) -> None:
    with pytest.warns(UserWarning, match=r"people\.csv are rows that the model was trained on"):
        record = evaluate(of_people["run"], against=of_people["dataset"], n=100, metrics=["copies"], device="cpu")
    assert list(record["metrics"]) == ["copies"]  # and no loss of the run's own held-out rows


def test_a_column_that_identifies_the_rows_of_a_file_is_not_scored(tmp_path: Path) -> None:
    notes: list[str] = []
    for k, name in enumerate(("samples", "truth")):
        names = [f"{name} {i}" for i in range(200)]
        write_people(tmp_path / f"{name}.csv", n=200, seed=k, name=names, land=["DE"] * 200)
    asked = {"against": tmp_path / "truth.csv", "metrics": ["worst_column"]}
    record = evaluate(samples=tmp_path / "samples.csv", on_note=notes.append, **asked)
    assert [note for note in notes if "identifies" in note] == [
        "The column 'name' identifies the rows and is not scored."
    ]
    assert record["metrics"]["worst_column"]["floor"] < 0.3
    write_people(tmp_path / "samples.csv", n=200, name=names, land=["FR"] * 200)
    with pytest.warns(UserWarning, match="The column 'land' has other values in the rows that are scored"):
        evaluate(samples=tmp_path / "samples.csv", **asked)


def test_numbers_of_another_type_in_place_of_true_rows_are_no_training_rows(tmp_path: Path) -> None:
    whole, halves = (pl.DataFrame({"n": [k % 50 + away for k in range(300)]}) for away in (0, 0.5))
    whole.write_csv(tmp_path / "whole.csv")
    halves.write_csv(tmp_path / "halves.csv")
    run = train(resolve(dataset=str(tmp_path / "whole.csv"), model="mixture"), path=tmp_path / "run")["run"]
    record = evaluate(run, against=tmp_path / "halves.csv", n=100, metrics=["worst_column"], device="cpu")
    assert record["n_real"] == 300
