"""What every kind of model that can be trained promises, whatever it is made of."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose
from tiny import tiny_of

from dualdiff_cli import seeding
from dualdiff_cli.config.registry import MODEL_KINDS
from dualdiff_cli.config.schema import RunConfig
from dualdiff_cli.data import Data, load_data
from dualdiff_cli.errors import InputError
from dualdiff_cli.jobs.evaluate import evaluate
from dualdiff_cli.jobs.sample import sample
from dualdiff_cli.jobs.train import resume, train
from dualdiff_cli.models import DrawingOptions, TrainableModel, kind_of, load_model
from dualdiff_cli.models.base import ROWS_PER_BLOCK
from dualdiff_cli.store.run import Run

CPU = torch.device("cpu")
FAR = {"a": 100.0, "b": -5.0}
"""Where the columns of the table lie."""


class Trained(NamedTuple):
    """A finished run of one kind of model, and the record of its training."""

    kind: str
    run: Run
    record: dict[str, Any]

    def load(self) -> TrainableModel[Any]:
        return load_model(self.run, device=CPU)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hundred rows of a correlated Gaussian, far from zero and with columns of different units."""
    u, v = seeding.stream(0, "test").normal(size=(2, 400))
    path = tmp_path_factory.mktemp("data") / "table.csv"
    pl.DataFrame({"a": FAR["a"] + 0.1 * u, "b": FAR["b"] + 7 * (0.6 * u + 0.8 * v)}).write_csv(path)
    return path


@pytest.fixture(scope="module", params=MODEL_KINDS)
def trained(request: pytest.FixtureRequest, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    path = tmp_path_factory.mktemp(request.param) / "run"
    record = train(tiny_of(request.param, dataset=str(table)), path=path, device="cpu")
    return Trained(request.param, Run.open(path), record)


def planned(kind: str, config: RunConfig) -> tuple[type[TrainableModel[Any]], Any, Data]:
    cls: type[TrainableModel[Any]] = MODEL_KINDS[kind]
    data = load_data(config.dataset, seed=config.seed)
    return cls, cls.plan(config, data, device=CPU), data


def test_a_kind_bears_its_name_in_the_registry(trained: Trained) -> None:
    assert kind_of(trained.run) is MODEL_KINDS[trained.kind] is type(trained.load())
    assert MODEL_KINDS[trained.kind].kind == trained.kind


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_a_plan_holds_the_training_rows_as_features(kind: str, table: Path) -> None:
    _, plan, data = planned(kind, tiny_of(kind, dataset=str(table)))
    assert plan.features.shape == (data.train.height, 2)
    assert_allclose(plan.features.mean(axis=0), 0, atol=1e-9)
    assert_allclose(plan.features.std(axis=0), 1)
    assert plan.encoding.names == ["a", "b"]
    for name, values in zip(data.train.columns, plan.encoding.decode(plan.features), strict=True):
        assert_allclose(values, data.train[name], rtol=1e-14)


def test_every_kind_is_judged_by_the_held_out_rows_of_its_plan(trained: Trained, tmp_path: Path) -> None:
    cls, plan, data = planned(trained.kind, trained.run.config)
    assert plan.held_out.shape == (data.held_out.height, 2)
    assert_allclose(plan.encoding.decode(plan.held_out).to_numpy(), data.held_out.to_numpy())
    elsewhere = replace(plan, held_out=plan.held_out + 2)
    run = Run.create(trained.run.config, tmp_path / "run")
    _, facts = cls.fit(elsewhere, run, device=CPU)
    assert facts["held_out_loss"] > trained.record["held_out_loss"]
    curves = [[line["held_out"] for line in of.load_metrics() if "held_out" in line] for of in (run, trained.run)]
    assert len(curves[0]) == len(curves[1]) == (2 if trained.kind == "diffusion" else 0)
    assert all(far > near for far, near in zip(*curves, strict=True))


def test_a_record_says_what_the_training_came_to(trained: Trained) -> None:
    record = trained.record
    assert record["parameters"] >= 1
    assert math.isfinite(record["held_out_loss"])
    assert record["held_out_loss_unit"]
    assert record["steps"] == {"diffusion": 12, "spline-flow": 50, "tabddpm": 50}.get(trained.kind)
    assert record["train_seconds"] > 0


def test_a_model_that_was_saved_is_the_model_that_was_fitted(trained: Trained, table: Path, tmp_path: Path) -> None:
    config = trained.run.config
    cls, plan, data = planned(trained.kind, config)
    fitted, _ = cls.fit(plan, Run.create(config, tmp_path / "again"), device=CPU)
    loaded = trained.load()
    assert loaded.config == fitted.config == config
    assert loaded.encoding == fitted.encoding
    assert loaded.sample(20, seed=3).equals(fitted.sample(20, seed=3))
    if loaded.has_density:
        assert_allclose(loaded.log_density(data.held_out), fitted.log_density(data.held_out), rtol=1e-10)


def test_resuming_a_finished_run_leaves_the_same_bytes(trained: Trained) -> None:
    before = (trained.run.path / "model.safetensors").read_bytes()
    resume(trained.run, device="cpu")
    assert (trained.run.path / "model.safetensors").read_bytes() == before


def test_no_global_generator_is_seeded_or_read(trained: Trained, tmp_path: Path) -> None:
    def state() -> list[int]:
        return [*np.random.get_state()[1].tolist(), *torch.get_rng_state().tolist()]  # type: ignore[index]  # noqa: NPY002

    before = state()
    cls, plan, _ = planned(trained.kind, trained.run.config)
    model, _ = cls.fit(plan, Run.create(trained.run.config, tmp_path / "run"), device=CPU)
    model.sample(3, seed=0)
    assert state() == before


def test_rows_have_the_columns_and_types_of_the_table_and_lie_where_it_lies(trained: Trained) -> None:
    rows = trained.load().sample(200, seed=0)
    assert rows.schema == {"a": pl.Float64, "b": pl.Float64}
    assert rows.height == 200
    assert abs(rows["a"].mean() - FAR["a"]) < 0.1  # type: ignore[operator]
    assert abs(rows["b"].mean() - FAR["b"]) < 7  # type: ignore[operator]


def test_rows_depend_on_the_seed(trained: Trained) -> None:
    model = trained.load()
    first, again, other = (model.sample(3, seed=seed) for seed in (5, 5, 6))
    assert first.equals(again)
    assert not first.equals(other)
    assert not model.has_density or not set(first["a"]) & set(other["a"])


def test_a_row_does_not_depend_on_how_many_are_drawn(trained: Trained) -> None:
    model = trained.load()
    few, many = model.sample(9, seed=1), model.sample(ROWS_PER_BLOCK + 9, seed=1)
    assert_allclose(many[:9].to_numpy(), few.to_numpy(), rtol=1e-6)
    assert not any(many[start : start + 9].equals(many[:9]) for start in (2048, ROWS_PER_BLOCK))  # no block is repeated
    assert not model.has_density or many["a"].n_unique() == many.height


def test_the_density_integrates_to_one(trained: Trained) -> None:
    model = trained.load()
    if not model.has_density:
        with pytest.raises(InputError, match=trained.kind):
            model.log_density(pl.DataFrame(FAR))
        return
    (a, da), (b, db) = (
        np.linspace(FAR[name] - 6 * scale, FAR[name] + 6 * scale, 41, retstep=True)
        for name, scale in (("a", 0.1), ("b", 7.0))
    )
    grid = pl.DataFrame({"a": np.repeat(a, 41), "b": np.tile(b, 41)})
    assert_allclose(np.exp(model.log_density(grid)).sum() * da * db, 1, atol=0.02)


def test_a_sampling_of_any_kind_gives_a_file_and_a_record(trained: Trained, tmp_path: Path) -> None:
    record = sample(trained.run, n=30, output=tmp_path / "rows.csv", seed=2, device="cpu")
    assert record["columns"] == ["a", "b"]
    assert (record["n"], record["seed"]) == (30, 2)
    assert pl.read_csv(tmp_path / "rows.csv").equals(trained.load().sample(30, seed=2))
    inside = sample(trained.run, n=3, device="cpu")["output"]
    assert Path(inside).parent == trained.run.path / "samples"


def test_an_evaluation_of_any_kind_gives_scores_and_a_likelihood(trained: Trained) -> None:
    exact = trained.load().has_density
    record = evaluate(trained.run, n=100, exact=exact, device="cpu")
    for name in ("kl_real_generated", "sliced_wasserstein", *(["nll_held_out"] if exact else [])):
        assert math.isfinite(record["metrics"][name]["value"])
    assert ("held_out_loss" in record["metrics"]) == (trained.kind == "diffusion")
    assert (trained.run.path / "evaluation.json").exists()


def test_an_unfinished_run_of_any_kind_says_how_to_finish_it(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_model(Run.create(trained.run.config, tmp_path / "run"), device=CPU)
    assert "--resume" in caught.value.remedy
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("description", [{}, {"encoding": {}}, {"encoding": {"columns": [{"kind": "number"}]}}])
def test_a_description_that_does_not_suit_the_model_is_a_bad_input(
    trained: Trained, description: dict[str, Any], tmp_path: Path
) -> None:
    run = Run.create(trained.run.config, tmp_path / "run")
    tensors, _ = trained.run.load_model()
    run.save_model(tensors, description)
    with pytest.raises(InputError) as caught:
        load_model(run, device=CPU)
    assert str(run) in caught.value.problem


def test_a_run_of_another_kind_of_model_is_a_bad_input(trained: Trained, tmp_path: Path) -> None:
    tensors, description = trained.run.load_model()
    run = Run.create(trained.run.config, tmp_path / "run")
    run.save_model(tensors, {**description, "kind": "another"})
    other = MODEL_KINDS["mixture" if trained.kind == "kernel-density" else "kernel-density"]
    for load in (load_model, other.load):
        with pytest.raises(InputError, match=r"is damaged or does not match its configuration"):
            load(run, device=CPU)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (DrawingOptions(sampler="ddim"), "--sampler"),
        (DrawingOptions(steps=3), "--sample-steps"),
        (DrawingOptions(precision="bfloat16"), "--precision"),
        (DrawingOptions(compile="off"), "--compile"),
    ],
)
def test_an_option_that_a_model_does_not_have_is_refused(trained: Trained, options: DrawingOptions, named: str) -> None:
    model = trained.load()
    if trained.kind == "diffusion":
        assert model.sample(3, seed=0, options=options).height == 3
        return
    with pytest.raises(InputError, match=f"{named} does not apply to the model {trained.kind}") as caught:
        model.draw(3, seed=0, options=options)
    assert caught.value.exit_code == 2
