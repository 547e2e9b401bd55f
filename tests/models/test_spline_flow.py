"""The spline flow against a Gaussian that is known, and how its training stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal

from dualdiff_cli import seeding
from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.data import load_data
from dualdiff_cli.errors import InputError, Interrupted
from dualdiff_cli.models.spline_flow import SplineFlow
from dualdiff_cli.store.run import Run
from dualdiff_cli.training.session import Callbacks

CPU = torch.device("cpu")
MEAN, COVARIANCE = np.array([100.0, -5.0]), np.array([[0.04, 0.9], [0.9, 36.0]])
GAUSSIAN = multivariate_normal(MEAN, COVARIANCE)


def rows(n: int, role: str) -> pl.DataFrame:
    """Correlated columns, far from zero and of different units."""
    return pl.DataFrame(seeding.stream(0, role).multivariate_normal(MEAN, COVARIANCE, n), schema=["a", "b"])


def fitted_in(
    path: Path, frame: pl.DataFrame, *settings: str, callbacks: Callbacks = Callbacks()
) -> tuple[SplineFlow, dict[str, Any], Run]:
    """Train a flow on the rows of a frame, and save it."""
    path.mkdir(exist_ok=True)
    frame.write_parquet(path / "table.parquet")
    config = resolve(dataset=str(path / "table.parquet"), model="spline-flow", settings=settings)
    plan = SplineFlow.plan(config, load_data(config.dataset, seed=0), device=CPU)
    run = Run.create(config, path / "run")
    model, record = SplineFlow.fit(plan, run, device=CPU, callbacks=callbacks)
    model.save(run)
    return model, record, run


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[SplineFlow, dict[str, Any], Run]:
    path = tmp_path_factory.mktemp("known")
    return fitted_in(path, rows(1500, "training"), "model.steps=300", "model.hidden=[32]")


def test_the_density_is_close_to_that_of_a_gaussian(known: tuple[SplineFlow, dict[str, Any], Run]) -> None:
    model, record, _ = known
    x = rows(2000, "checked")
    expected = GAUSSIAN.logpdf(x.to_numpy())
    log_p = model.log_density(x)
    assert 0 < (expected - log_p).mean() < 0.1  # the Kullback-Leibler divergence in nats
    assert np.sqrt(np.mean((expected - log_p) ** 2)) < 0.5
    assert record["held_out_loss"] == pytest.approx(-expected.mean() / np.log(2), abs=0.4)


def test_rows_have_the_moments_of_the_gaussian(known: tuple[SplineFlow, dict[str, Any], Run]) -> None:
    generated = known[0].sample(8000, seed=1).to_numpy()
    assert_allclose((generated.mean(axis=0) - MEAN) / np.sqrt(np.diag(COVARIANCE)), 0, atol=0.15)
    assert_allclose(np.cov(generated.T), COVARIANCE, rtol=0.15)


def test_the_density_is_that_of_the_rows(known: tuple[SplineFlow, dict[str, Any], Run]) -> None:
    """The mean of q/p over rows of p is the integral of q, which is 1."""
    model = known[0]
    wide = multivariate_normal(MEAN, 2 * COVARIANCE)
    x = seeding.stream(0, "wide").multivariate_normal(MEAN, 2 * COVARIANCE, 8000)
    ratio = np.exp(model.log_density(pl.DataFrame(x, schema=["a", "b"])) - wide.logpdf(x))
    assert_allclose(ratio.mean(), 1, atol=0.05)


def test_training_stops_early_and_keeps_the_best_weights(tmp_path: Path) -> None:
    _, record, _ = fitted_in(tmp_path, rows(60, "training"), "model.patience=3", "model.learning_rate=0.02")
    assert record["best_step"] < record["steps"] < 1000


def test_training_depends_on_its_seed_alone(tmp_path: Path) -> None:
    models = [
        fitted_in(tmp_path / f"{k}", rows(100, "training"), "model.steps=20", f"seed={seed}")[0]
        for k, seed in enumerate((0, 0, 1))
    ]
    first, again, other = (torch.cat([p.flatten() for p in model.flow.parameters()]) for model in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_single_column_can_be_learnt(tmp_path: Path) -> None:
    counts = pl.DataFrame({"k": seeding.stream(0, "counts").poisson(6.0, 500)})
    model, _, run = fitted_in(tmp_path, counts, "model.steps=150")
    generated = model.sample(4000, seed=0)
    assert generated.schema == {"k": pl.Int64}
    assert generated["k"].mean() == pytest.approx(6, abs=0.6)
    assert SplineFlow.load(run, device=CPU).sample(50, seed=0).equals(generated[:50])


def test_a_stopped_training_says_that_it_starts_over(tmp_path: Path) -> None:
    seen: list[int] = []
    callbacks = Callbacks(on_progress=lambda progress: seen.append(progress.step), should_stop=lambda: len(seen) == 2)
    with pytest.raises(Interrupted, match="2") as caught:
        fitted_in(tmp_path, rows(60, "training"), callbacks=callbacks)
    assert caught.value.exit_code == 130
    assert "--resume" in caught.value.remedy
    assert not Run(tmp_path / "run").is_trained


def test_a_loss_that_is_no_number_names_the_setting_to_change(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.learning_rate") as caught:
        fitted_in(tmp_path, rows(60, "training"), "model.learning_rate=1e12")
    assert caught.value.exit_code == 2
