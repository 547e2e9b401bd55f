"""What looks at a part of the rows takes it from all over the table, because a table may be sorted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from painting import painted
from short_runs import run_of, short

from dualdiff_cli import seeding
from dualdiff_cli.data import Data, given_cells
from dualdiff_cli.jobs.inputs import data_of_run
from dualdiff_cli.jobs.plot import experts_over_levels, pictured_rows
from dualdiff_cli.jobs.shown import _true_rows, shown_model
from dualdiff_cli.jobs.train import train
from dualdiff_cli.jobs.truth import Truth
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.models.fitting import build_network_denoiser
from dualdiff_cli.training.gaps import held_out_features, training_features
from dualdiff_cli.training.loss import estimate_loss


@pytest.fixture(scope="module")
def of_sorted(shared: Path) -> dict[str, Any]:
    """The record of a gated model of two columns, whose 2,000 rows are sorted by the first column."""
    x, y = seeding.stream(0, "sorted rows").normal(size=(2, 2000))
    pl.DataFrame({"x": np.sort(x), "y": y}).write_csv(shared / "sorted.csv")
    with painted():
        return train(short(str(shared / "sorted.csv")), path=shared / "sorted", device="cpu")


@pytest.fixture(scope="module")
def data(of_sorted: dict[str, Any]) -> Data:
    return data_of_run(run_of(of_sorted))


def spread_out(x: np.ndarray) -> bool:
    """Say whether values are about standard normal; those at the start of the table are all below −0.5."""
    return abs(x.mean()) < 0.4 and 0.7 < x.std() < 1.3


def test_true_rows_are_drawn_from_the_whole_table(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualdiff_cli.jobs.truth.REAL", 60)
    real = Truth(data, data.held_out, 100, seed=0).real
    assert real.shape == (60, 2)
    assert spread_out(real[:, 0])


def test_pictured_and_shown_rows_are_drawn_from_the_whole_table(of_sorted: dict[str, Any], data: Data) -> None:
    generated = data.train.head(60).select("y", "x")
    real = pictured_rows(data, generated, seed=0)
    assert (real.columns, real.height) == (["y", "x"], 60)
    assert spread_out(real["x"].to_numpy())
    assert spread_out(shown_model(run_of(of_sorted), None, n=60).points[:, 0])


def test_shown_rows_with_given_cells_are_held_out_ones_first_and_all_from_the_whole_table() -> None:
    rows = pl.DataFrame(
        {"x": np.sort(seeding.stream(0, "x").normal(size=3000)), "side": ["low", "high", "high"] * 1000}
    )
    data = Data("test", rows[::2], rows[1::2], None, {})
    given = given_cells(data.encoding, {"side": "high"})
    few, all_held_out, more = (_true_rows(data, given, n) for n in (60, 1000, 1060))
    assert [part.height for part in (few, all_held_out, more)] == [60, 1000, 1060]
    assert more["side"].unique().to_list() == ["high"]
    assert all_held_out["x"].is_in(data.held_out["x"].to_list()).all()
    assert spread_out(few["x"].to_numpy())
    assert more[:1000].equals(all_held_out)
    assert more["x"][1000:].is_in(data.train["x"].to_list()).all()
    assert spread_out(more["x"][1000:].to_numpy())


def test_experts_are_looked_at_on_rows_of_the_whole_table(
    of_sorted: dict[str, Any], data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = DiffusionModel.load(run_of(of_sorted), device=torch.device("cpu"))
    monkeypatch.setattr("dualdiff_cli.jobs.plot.PROFILE_ROWS", 60)
    found = experts_over_levels(model, data, seed=0)
    assert found is not None
    noise, weights, _ = found
    x = seeding.subsample(held_out_features(model.encoding, data, seed=0), 60, seed=0, role="profiled rows")
    assert spread_out(x[:, 0])
    epsilon = torch.randn(x.shape, generator=seeding.torch_stream(0, "gate profile"), dtype=torch.float64)
    alpha, sigma = model.denoiser.schedule(t := torch.tensor(model.denoiser.schedule.t_min, dtype=torch.float64))
    gates = model.denoiser.gate(alpha * torch.from_numpy(x) + sigma * epsilon, t).double().mean(0)
    np.testing.assert_allclose(weights[noise.argmin()], gates.numpy(), atol=1e-9)


def test_the_published_loss_is_of_rows_of_the_whole_table(
    of_sorted: dict[str, Any], data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(of_sorted)
    model = DiffusionModel.load(run, device=torch.device("cpu"))
    monkeypatch.setattr("dualdiff_cli.models.losses.LOSS_POINTS", 60)
    score = model.losses(run, data, seed=0)["training_loss_published"]
    last, state = build_network_denoiser(model.config, 2), run.load_state()
    assert state is not None
    last.load_weights(state["trainer"]["network"])
    features = torch.from_numpy(training_features(model.encoding, data.train, seed=0)).float()
    drawn = seeding.subsample(features, 60, seed=0, role="rows of the training loss")
    assert spread_out(drawn[:, 0].numpy())
    assert (score.n_real, score.value) == (60, pytest.approx(estimate_loss(last, drawn, seed=0).mean))
