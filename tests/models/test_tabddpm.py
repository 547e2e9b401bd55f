"""TabDDPM on small tables: what it learns, what its features are, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from every_kind import every_kind
from numpy.testing import assert_allclose
from scipy.stats import kstest

from dualdiff_cli import seeding
from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.data import load_data
from dualdiff_cli.errors import InputError, Interrupted
from dualdiff_cli.jobs.export import export
from dualdiff_cli.jobs.sample import sample
from dualdiff_cli.jobs.score import score
from dualdiff_cli.models import AS_DRAWN, DrawingOptions
from dualdiff_cli.models.tabddpm import TabDDPM
from dualdiff_cli.store.run import Run
from dualdiff_cli.training.session import Callbacks

CPU = torch.device("cpu")
SMALL = ("model.timesteps=30", "model.hidden=[64]", "model.batch=128", "model.learning_rate=0.003")
SHARE = 0.7


def table(n: int = 800) -> pl.DataFrame:
    """A category that is "a" in 70 % of the rows, and a skewed number that is larger there."""
    rng = seeding.stream(0, "table")
    a = rng.random(n) < SHARE
    return pl.DataFrame({"kind": np.where(a, "a", "b"), "x": np.exp(a + 0.3 * rng.normal(size=n))})


def fitted_in(
    path: Path, frame: pl.DataFrame, *settings: str, callbacks: Callbacks = Callbacks()
) -> tuple[TabDDPM, dict[str, Any], Run]:
    """Train on the rows of a frame, and save the model."""
    path.mkdir(exist_ok=True)
    frame.write_parquet(path / "table.parquet")
    config = resolve(dataset=str(path / "table.parquet"), model="tabddpm", settings=[*SMALL, *settings])
    plan = TabDDPM.plan(config, load_data(config.dataset, seed=0), device=CPU)
    run = Run.create(config, path / "run")
    model, record = TabDDPM.fit(plan, run, device=CPU, callbacks=callbacks)
    model.save(run)
    return model, record, run


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[TabDDPM, dict[str, Any], Run]:
    return fitted_in(tmp_path_factory.mktemp("known"), table(), "model.steps=800")  # fewer steps do not learn it


def test_categories_and_numbers_are_learnt_together(known: tuple[TabDDPM, dict[str, Any], Run]) -> None:
    generated = known[0].sample(3000, seed=1)
    assert (generated["kind"] == "a").mean() == pytest.approx(SHARE, abs=0.15)
    truth = dict(table().group_by("kind").agg(pl.col("x").median()).iter_rows())
    found = dict(generated.group_by("kind").agg(pl.col("x").median()).iter_rows())
    assert found["a"] == pytest.approx(truth["a"], rel=0.35)
    assert found["b"] == pytest.approx(truth["b"], rel=0.35)
    assert generated["x"].min() > 0  # type: ignore[operator]


def test_the_held_out_loss_is_of_rows_of_the_whole_table(
    known: tuple[TabDDPM, dict[str, Any], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = known[0]
    features = model.encoding.encode(table().sort("kind", descending=True), None)  # those of the rarer kind come first
    of_all = model._loss(features)
    monkeypatch.setattr("dualdiff_cli.models.tabddpm.LOSS_ROWS", 200)
    of_first, of_some = model._loss(features[:200]), model._loss(features)
    assert abs(of_some - of_all) < 0.3 * abs(of_first - of_all)


def test_training_depends_on_its_seed_alone(tmp_path: Path) -> None:
    weights = [
        [*fitted_in(tmp_path / f"{k}", table(60), "model.steps=5", f"seed={seed}")[0].diffusion.parameters()]
        for k, seed in enumerate((0, 0, 1))
    ]
    first, again, other = (torch.cat([p.flatten() for p in of_run]) for of_run in weights)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_rows_of_every_kind_of_column_come_back_in_their_types(tmp_path: Path) -> None:
    frame = every_kind().select("detector", "many", "flag", "hits", "fraction", "date", "temp", "place", "same")
    model, _, run = fitted_in(tmp_path, frame, "model.steps=3")
    generated = TabDDPM.load(run, device=CPU).sample(50, seed=0, options=AS_DRAWN)
    assert generated.schema == frame.schema
    assert set(generated["detector"]) <= set("ABC")
    assert set(generated["many"]) <= set(frame["many"])
    assert generated["temp"].null_count()
    assert generated["fraction"].is_between(0, 1).all()
    assert generated.equals(model.sample(50, seed=0))


def test_features_pass_through_normal_numbers_and_places_without_loss(tmp_path: Path) -> None:
    model, _, _ = fitted_in(tmp_path, table(), "model.steps=1")
    features = model.encoding.encode(load_data(tmp_path / "table.parquet", seed=0).train, None)
    z, places = model.margins.split(features)
    assert z.shape == places.shape == (len(features), 1)
    assert kstest(z[:, 0], "norm").pvalue > 0.01
    assert_allclose(model.margins.join(z, places), features, atol=1e-5)


@pytest.mark.parametrize(
    ("frame", "columns"),
    [
        (table(200).select("kind"), ["kind"]),
        (table(200).select("x"), ["x"]),
    ],
)
def test_a_table_may_lack_numbers_or_categories(frame: pl.DataFrame, columns: list[str], tmp_path: Path) -> None:
    model, _, _ = fitted_in(tmp_path, frame, "model.steps=3")
    assert model.sample(5, seed=0).columns == columns


def test_a_stopped_training_says_that_it_starts_over(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="50 of at most 30000") as caught:
        fitted_in(tmp_path, table(60), callbacks=Callbacks(should_stop=lambda: True))
    assert caught.value.exit_code == 130
    assert "--resume" in caught.value.remedy
    assert not Run(tmp_path / "run").is_trained


def test_a_loss_that_is_no_number_names_the_setting_to_change(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.learning_rate") as caught:
        fitted_in(tmp_path, table(60), "model.learning_rate=1e12", "model.steps=50")
    assert caught.value.exit_code == 2


def test_what_the_model_cannot_do_is_refused(known: tuple[TabDDPM, dict[str, Any], Run], tmp_path: Path) -> None:
    model, _, run = known
    refusals = {
        "--given": lambda: model.draw(3, seed=0, options=DrawingOptions(given={"kind": "a"})),
        "cannot fill gaps": lambda: model.fill(table(3), seed=0),
        "has no density": lambda: score(run, table(30)),
        "no denoiser to export": lambda: export(run, output=tmp_path / "model.onnx"),
    }
    for words, refused in refusals.items():
        with pytest.raises(InputError, match=words) as caught:
            refused()
        assert caught.value.exit_code == 2
        assert "tabddpm" in caught.value.problem


def test_rows_with_a_condition_are_found_by_trying(known: tuple[TabDDPM, dict[str, Any], Run], tmp_path: Path) -> None:
    record = sample(known[2], n=40, where="kind = 'b'", output=tmp_path / "rows.csv", device="cpu")
    assert set(pl.read_csv(tmp_path / "rows.csv")["kind"]) == {"b"}
    assert record["acceptance_rate"] == pytest.approx(1 - SHARE, abs=0.15)
