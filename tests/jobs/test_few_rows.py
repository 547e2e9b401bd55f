"""A file of few rows is trained in folds, and its run is used like any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from people import write_people
from short_runs import copy_of

from dualdiff_cli import seeding
from dualdiff_cli.config import recipes
from dualdiff_cli.config.recipes import Request
from dualdiff_cli.config.schema import DiffusionConfig
from dualdiff_cli.data import TableEncoding
from dualdiff_cli.errors import InputError, Interrupted
from dualdiff_cli.exporting.runtime import ExportedModel
from dualdiff_cli.jobs.evaluate import evaluate
from dualdiff_cli.jobs.export import export
from dualdiff_cli.jobs.plot import plot
from dualdiff_cli.jobs.sample import sample
from dualdiff_cli.jobs.train import Callbacks, resume, train
from dualdiff_cli.models import DrawingOptions
from dualdiff_cli.store.run import Run

ROWS = 300
COLUMNS = ["age (years)", "income", "height"]
SMALL = ["model.width=16", "model.blocks=1", "folds.levels=6", "training.log_every=7", "training.checkpoint_every=15"]
SMALL += ["sampling.steps=8", "training.batch=32"]


@pytest.fixture(scope="module")
def file(shared: Path) -> Path:
    """A file of 300 rows and three columns, of which the first is of whole numbers."""
    height = seeding.stream(0, "height").normal(1.7, 0.1, ROWS)
    return write_people(shared / "few.csv", n=ROWS, height=height)


def asked(file: Path | str, *settings: str, steps: int = 40, **request: Any) -> Request:
    """What the command line asks for with a file, --steps and a network of width 16."""
    options = {"training": {"steps": steps}}
    return Request(dataset=str(file), options=options, settings=[*SMALL, *settings], **request)


@pytest.fixture(scope="module")
def trained(file: Path, shared: Path) -> dict[str, Any]:
    return train(asked(file), path=shared / "few", device="cpu")


# Which recipe is taken


def test_few_rows_are_trained_in_folds(trained: dict[str, Any]) -> None:
    assert (trained["recipe"], trained["model"], trained["steps"]) == ("few-rows", "dual-expert", 40)
    config = Run.open(trained["run"]).config
    assert isinstance(config, DiffusionConfig)
    assert (config.recipe, config.folds.number, config.model.experts, config.model.width) == ("few-rows", 4, 1, 16)


def test_the_record_gives_the_losses_on_unseen_rows_and_the_weights_of_all_experts(trained: dict[str, Any]) -> None:
    assert 0 < trained["unseen_loss"] <= 1.01 * min(trained["unseen_loss_of"].values())
    assert len(trained["unseen_loss_of"]) == len(trained["expert_usage"]) == 3
    assert sum(trained["expert_usage"]) == pytest.approx(1)
    assert json.loads(json.dumps(trained, allow_nan=False)) == trained


def test_the_log_has_the_loss_on_held_out_rows_and_the_record_the_best_step(trained: dict[str, Any]) -> None:
    log = Run.open(trained["run"]).load_metrics()
    judged = [line for line in log if "held_out" in line]
    assert [line["step"] for line in judged] == [40]  # the only checkpoint of 40 steps is the last one
    assert judged[0]["held_out"] > 0
    assert trained["best_step"] == 40


@pytest.mark.usefixtures("_full_search")
def test_one_gaussian_is_said_to_be_as_good_on_rows_of_one_gaussian(tmp_path: Path) -> None:
    rng = seeding.stream(0, "normal")
    pl.DataFrame(rng.normal(size=(400, 2)), schema=["x", "y"]).write_csv(tmp_path / "normal.csv")
    record = train(asked(tmp_path / "normal.csv"), path=tmp_path / "run", device="cpu")
    assert record["components"] == 1
    assert "one Gaussian" in record["simpler"]
    assert "--model mixture" in record["simpler"]
    alone = train(asked(tmp_path / "normal.csv", model="baseline"), path=tmp_path / "alone", device="cpu")
    assert alone["simpler"] is None


@pytest.mark.parametrize(("limit", "recipe"), [(270, "precise"), (271, "few-rows")])
def test_the_number_of_training_rows_decides_the_recipe(
    limit: int, recipe: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenth of the 300 rows is held out."""
    monkeypatch.setattr(recipes, "FEW_ROWS", limit)
    settings = [] if recipe == "few-rows" else ["objective.references=32", "model.gate_hidden=[8]"]
    assert train(asked(file, *settings, steps=2), device="cpu")["recipe"] == recipe


def test_the_number_of_rows_drawn_from_a_density_decides_too() -> None:
    few = asked("moons", "data.points=200", "data.held_out_points=50", steps=2)
    assert train(few, device="cpu")["recipe"] == "few-rows"
    assert few.config(recipes.FEW_ROWS - 1).recipe == "few-rows"
    assert few.config(recipes.FEW_ROWS).recipe == few.config().recipe == "precise"


@pytest.mark.parametrize("recipe", ["paper", "precise"])
def test_a_recipe_that_is_named_is_taken_however_few_the_rows_are(recipe: str, file: Path) -> None:
    record = train(asked(file, "objective.references=0", recipe=recipe, steps=2), device="cpu")
    assert record["recipe"] == recipe
    config = Run.open(record["run"]).config
    assert isinstance(config, DiffusionConfig)
    assert config.folds.number == 0


@pytest.mark.parametrize(
    "request_",
    [
        {"model": "enhanced-gating"},
        {"model": "baseline-matched"},
        {"experts": 3},
        {"settings": ["model.experts=3"]},
        {"settings": ["recipe=precise"]},
        {"settings": ["schedule.name=straight-line"]},
        {"settings": ["objective.diversity=0.1"]},
        {"settings": ["objective.coupling=optimal-transport", "objective.references=0"]},
    ],
)
def test_what_the_recipe_for_few_rows_does_not_know_takes_the_precise_recipe(request_: dict[str, Any]) -> None:
    assert Request(dataset="line", **request_).config(100).recipe == "precise"


def test_a_setting_that_the_recipe_for_few_rows_has_anyway_does_not_change_the_recipe() -> None:
    settings = ["schedule.name=log-snr-uniform", "objective.weighting=uniform", "objective.diversity=0"]
    assert Request(dataset="line", settings=settings).config(100).recipe == "few-rows"


@pytest.mark.parametrize("model", ["dual-expert", "baseline"])
def test_the_baseline_has_no_mixture_as_an_expert(model: str) -> None:
    config = Request(dataset="line", model=model).config(100)
    assert isinstance(config, DiffusionConfig)
    assert (config.recipe, config.folds.number > 0) == ("few-rows", True)
    assert config.folds.mixture == config.folds.independent == (model == "dual-expert")


def test_a_number_of_folds_takes_the_recipe_for_few_rows_before_the_rows_are_counted(file: Path) -> None:
    three = asked(file, "folds.number=3", steps=2)
    assert three.config().recipe == three.config(10 * recipes.FEW_ROWS).recipe == "few-rows"
    record = train(three, device="cpu")
    config = Run.open(record["run"]).config
    assert isinstance(config, DiffusionConfig)
    assert config.folds.number == 3
    assert asked(file, "folds.number=0").config().recipe == "precise"


@pytest.mark.parametrize("model", ["mixture", "kernel-density"])
def test_other_models_have_their_one_recipe_for_few_rows_too(model: str) -> None:
    assert Request(dataset="line", model=model).config(100).recipe == "plain"


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("objective.weighting=min-snr", "objective.weighting"),
        ("objective.diversity=0.1", "objective.diversity"),
        ("objective.balance=0.1", "objective.balance"),
        ("objective.coupling=optimal-transport", "objective.coupling"),
        ("schedule.name=cosine", "schedule.name"),
        ("training.compile=on", "training.compile"),
        ("training.precision=bfloat16", "training.precision"),
    ],
)
def test_a_setting_that_folds_would_ignore_is_refused(setting: str, named: str, file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"folds need {named}=.*; --recipe precise"):
        train(asked(file, "objective.references=0", setting, recipe="few-rows"), path=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


# What a run is used for


def test_samples_have_the_columns_of_the_file(trained: dict[str, Any], file: Path) -> None:
    record = sample(trained["run"], n=150, output="rows.csv", seed=3, device="cpu")
    rows, truth = pl.read_csv("rows.csv"), pl.read_csv(file)
    assert (record["sample_steps"], record["network_evaluations"]) == (8, 8)
    assert rows.schema == truth.schema
    assert rows.columns == COLUMNS
    assert np.isfinite(rows.to_numpy()).all()
    for name in COLUMNS:
        assert rows[name].mean() == pytest.approx(truth[name].mean(), abs=truth[name].std() / 2)


def test_samples_depend_on_the_seed_alone(trained: dict[str, Any]) -> None:
    files = [("a.csv", 3), ("b.csv", 3), ("c.csv", 4)]
    for name, seed in files:
        sample(trained["run"], n=20, output=name, seed=seed, device="cpu")
    a, b, c = (Path(name).read_bytes() for name, _ in files)
    assert a == b != c


def test_a_run_is_evaluated_exactly(trained: dict[str, Any]) -> None:
    record = evaluate(trained["run"], n=100, exact=True, device="cpu", options=DrawingOptions(steps=4))
    metrics = record["metrics"]
    assert record["recipe"] == "few-rows"
    assert "training_loss_published" not in metrics
    assert 0 < metrics["held_out_loss"]["value"] < 2
    assert np.isfinite(metrics["nll_held_out"]["value"])
    assert metrics["sliced_wasserstein"]["value"] < 1


def test_a_run_has_pictures_of_samples_loss_and_gate(trained: dict[str, Any], tmp_path: Path) -> None:
    run = copy_of(trained, tmp_path / "run")
    names = {Path(path).stem for path in plot(run, device="cpu")}
    assert names == {"samples", "loss", "gate-profile"}


def test_an_exported_sampler_draws_the_rows_of_the_run(trained: dict[str, Any], tmp_path: Path) -> None:
    record = export(trained["run"], format="onnx", output=tmp_path / "few.onnx")
    assert 0 <= record["max_abs_error"] <= record["tolerance"]
    exported = ExportedModel.open(tmp_path / "few.onnx", device="cpu")
    assert exported.metadata["recipe"] == "few-rows"
    assert TableEncoding.model_validate(exported.metadata["encoding"]).names == COLUMNS
    sample(exported, n=40, output="file.csv", seed=5)
    sample(trained["run"], n=40, output="run.csv", seed=5, device="cpu")
    of_file, of_run = (pl.read_csv(name) for name in ("file.csv", "run.csv"))
    assert of_file.schema == of_run.schema
    near = np.isclose(of_file.to_numpy(), of_run.to_numpy(), rtol=1e-3, atol=1e-3).all(1)
    assert near.mean() >= 0.9  # a whole number may be rounded to the other side


def test_an_exported_denoiser_answers_as_the_run_does(trained: dict[str, Any], tmp_path: Path) -> None:
    record = export(trained["run"], format="onnx", what="denoiser", output=tmp_path / "denoiser.onnx")
    assert 0 <= record["max_abs_error"] <= record["tolerance"]


# Resuming


def stop_after(step: int) -> Callable[[], bool]:
    steps = iter(range(1, step + 1))
    return lambda: next(steps) == step


@pytest.mark.parametrize("step", [1, 20, 39])
def test_a_run_that_was_stopped_ends_in_the_same_bytes_as_one_that_was_not(
    step: int, trained: dict[str, Any], file: Path
) -> None:
    with pytest.raises(Interrupted, match=rf"after {step} of 40 steps"):
        train(asked(file), device="cpu", callbacks=Callbacks(should_stop=stop_after(step)))
    run, whole = Run.open(), Path(trained["run"])
    record = resume(run, device="cpu")
    for name in ("config.toml", "data.json", "metrics.jsonl", "model.safetensors", "model.json"):
        assert (run.path / name).read_bytes() == (whole / name).read_bytes(), name
    assert record["held_out_loss"] == trained["held_out_loss"]


def test_a_run_whose_training_ended_early_is_finished_and_is_resumed_without_a_step(file: Path) -> None:
    early = asked(file, "folds.number=2", "folds.patience=1", "training.learning_rate=1e-12", steps=5_000)
    record = train(early, path="early", device="cpu")
    assert record["steps"] < 5_000
    before = Path("early", "model.safetensors").read_bytes()
    assert resume("early", device="cpu")["steps"] == record["steps"]
    assert Path("early", "model.safetensors").read_bytes() == before


def test_a_changed_number_of_bands_is_found_before_a_stopped_run_goes_on(file: Path) -> None:
    with pytest.raises(Interrupted):
        train(asked(file), device="cpu", callbacks=Callbacks(should_stop=stop_after(20)))
    path = Run.open().path / "config.toml"
    text = path.read_text(encoding="utf-8")
    assert "bands = 6" in text
    path.write_text(text.replace("bands = 6", "bands = 3"), encoding="utf-8")
    with pytest.raises(InputError, match=r"another configuration.*config\.toml"):
        resume(path.parent, device="cpu")
