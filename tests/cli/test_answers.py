"""What the commands answer: the JSON keys that scripts rely on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from commands import answer, dualdiff, settings
from people import write_people
from safetensors.torch import load_file

from dualdiff_cli import __version__

TRAIN = {"run", "dataset", "model", "recipe", "steps", "parameters", "train_seconds", "held_out_loss", "device"}
SAMPLE = {"run", "n", "columns", "sampler", "sample_steps", "network_evaluations", "seconds", "output"}
EXPORT = {"run", "format", "what", "output", "bytes", "max_abs_error", "tolerance", "opset"}


def test_train_answers_with_the_keys_of_the_contract(trained: dict[str, Any], elsewhere: Path) -> None:
    weights = load_file(elsewhere / "moons" / "model.safetensors")
    assert set(trained) >= TRAIN
    assert trained["run"] == str(elsewhere / "moons")
    assert (trained["dataset"], trained["model"], trained["recipe"]) == ("moons", "dual-expert", "paper")
    assert (trained["steps"], trained["device"]) == (30, "cpu")
    assert trained["parameters"] == sum(weight.numel() for weight in weights.values())
    assert trained["train_seconds"] > 0
    assert 0 < trained["held_out_loss"] < 2


@pytest.mark.parametrize(("model", "own"), [("mixture", ["model.components=2"]), ("kernel-density", [])])
def test_models_without_steps_take_the_same_commands(model: str, own: list[str]) -> None:
    sizes = settings("data.points=300", "data.held_out_points=200", *own)
    record = answer("train", "--dataset", "moons", "--model", model, *sizes)
    assert set(record) >= TRAIN
    assert (record["run"], record["model"], record["steps"]) == (f"runs/moons-{model}-1", model, None)
    drawn = answer("sample", "-n", "20", "-o", "rows.csv")
    assert set(drawn) >= SAMPLE
    assert (drawn["run"], drawn["sampler"]) == (record["run"], None)
    assert pl.read_csv("rows.csv").shape == (20, 2)
    scored = answer("evaluate", "-n", "100", "--exact")
    assert {"kl_real_generated", "nll_held_out", "kl_real_model"} <= set(scored["metrics"])
    assert [Path(path).name for path in answer("plot")["figures"]] == ["samples.png"]


def test_sample_answers_with_the_keys_of_the_contract(run: Path) -> None:
    record = answer("sample", run, "-n", "50", "-o", "points.csv", "--sample-steps", "6")
    assert set(record) >= SAMPLE
    assert record["run"] == str(run)
    assert (record["n"], record["columns"], record["output"]) == (50, ["x", "y"], "points.csv")
    assert (record["sampler"], record["sample_steps"], record["network_evaluations"]) == ("ancestral", 6, 6)
    assert record["seconds"] > 0
    assert pl.read_csv("points.csv").shape == (50, 2)


def test_evaluate_answers_with_the_metrics_of_the_contract_and_leaves_them_in_the_run(run: Path) -> None:
    record = answer("evaluate", run, "-n", "200", "--device", "cpu")
    assert (record["run"], record["dataset"]) == (str(run), "moons")
    assert (record["n_real"], record["n_generated"]) == (400, 200)
    metrics = record["metrics"]
    contract = {"sliced_wasserstein", "classifier_two_sample", "memorisation", "copies"}
    assert {"kl_real_generated", "kl_generated_real", *contract} <= set(metrics)
    assert {"value", "unit", "ci95", "floor"} <= set.intersection(*(set(score) for score in metrics.values()))
    assert metrics["kl_real_generated"]["unit"] == metrics["kl_generated_real"]["unit"] == "bits"
    assert json.loads((run / "evaluation.json").read_text(encoding="utf-8")) == record


def test_evaluate_adds_the_exact_likelihood_and_the_diagnosis_where_they_are_asked_for(run: Path) -> None:
    words = ("evaluate", run, "-n", "100", "--sample-steps", "4", "--device", "cpu", "--diagnose")
    record = answer(*words, "--exact")
    assert {"nll_held_out", "nll_excess", "kl_real_model"} <= set(record["metrics"])
    assert {"floor", "schedule_and_sampler", "network", "total"} == set(record["diagnosis"]["kl_real_generated"])
    shown = dualdiff(*words).stdout
    assert "schedule and sampler" in shown
    assert "nll_held_out" not in shown


def test_evaluate_scores_files_without_a_run_and_shows_a_table() -> None:
    write_people(Path("a.csv"))
    write_people(Path("b.csv"))
    words = ("evaluate", "--samples", "a.csv", "--against", "b.csv")
    result = dualdiff(*words)
    assert result.exit_code == 0
    assert "a.csv against b.csv" in result.stdout
    assert re.search(r"^sliced_wasserstein .*[✓◐✕?] (good|not yet|bad|unknown)", result.stdout, re.MULTILINE)
    assert re.search(r"^Verdict: . (good|not yet|bad|unknown)\. .*floor", result.stdout, re.MULTILINE)
    assert answer(*words)["run"] is None
    assert not Path("runs").exists()


def test_the_scores_of_a_file_are_headed_by_its_name_and_not_by_that_of_the_run(run: Path) -> None:
    answer("sample", run, "-n", "100", "-o", "points.csv")
    assert "points.csv against held-out moons" in dualdiff("evaluate", run, "--samples", "points.csv").stdout


def test_plot_answers_with_the_pictures(run: Path) -> None:
    record = answer("plot", run, "--device", "cpu")
    assert record["run"] == str(run)
    names = [Path(path).name for path in record["figures"]]
    assert names == ["samples.png", "loss.png", "gate-scatter.png", "gate-histogram.png", "gate-profile.png"]
    assert all(Path(path).is_file() for path in record["figures"])


def test_export_answers_with_the_keys_of_the_contract_and_its_file_serves_alone(run: Path) -> None:
    record = answer("export", run, "--format", "torchscript", "-o", "model.ts", "--device", "cpu")
    assert set(record) >= EXPORT
    assert (record["run"], record["format"], record["what"]) == (str(run), "torchscript", "sampler")
    assert (record["output"], record["bytes"]) == ("model.ts", Path("model.ts").stat().st_size)
    assert record["max_abs_error"] <= record["tolerance"]
    assert record["opset"] is None
    drawn = answer("sample", "--from", "model.ts", "--trust", "-n", "50", "-o", "a.csv", "--device", "cpu")
    assert set(drawn) >= SAMPLE
    assert (drawn["run"], drawn["from"], drawn["n"], drawn["columns"]) == (None, "model.ts", 50, ["x", "y"])
    answer("sample", run, "-n", "50", "-o", "b.csv", "--device", "cpu")
    np.testing.assert_allclose(pl.read_csv("a.csv"), pl.read_csv("b.csv"), rtol=0, atol=record["tolerance"])
    scored = dualdiff("evaluate", "--from", "model.ts", "--trust", "-n", "100", "--device", "cpu").stdout
    assert "model.ts against held-out moons" in scored
    shown = dualdiff("export", run, "--what", "denoiser", "--format", "torchscript", "--device", "cpu").stdout
    assert re.search(r"^output +\S+denoiser.ts *$", shown, re.MULTILINE)


def test_info_answers_with_versions_devices_and_what_would_be_used() -> None:
    record = answer("info")
    assert record["dualdiff"] == __version__
    assert record["versions"]["torch"]
    assert record["device"]
    assert record["reason"]
    assert "CPUExecutionProvider" in record["providers"]
    shown = dualdiff("info").stdout
    assert record["versions"]["numpy"] in shown


def test_datasets_answers_with_densities_and_kinds_of_files() -> None:
    record = answer("datasets")
    densities = {density["name"]: density for density in record["densities"]}
    assert {"circle", "dino", "line", "moons"} <= set(densities)
    assert densities["line"]["entropy_bits"] == pytest.approx(5)  # log2 of the area, 4 × 8
    assert densities["line"]["columns"] == ["x", "y"]
    assert {".csv", ".tsv", ".parquet", ".ndjson", ".npy"} <= set(record["files"])
    shown = dualdiff("datasets").stdout
    assert all(name in shown for name in densities)
