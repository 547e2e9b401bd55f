from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from painting import painted
from short_runs import copy_of, run_of, short

from dualdiff_cli import seeding
from dualdiff_cli.jobs.inputs import data_of_run
from dualdiff_cli.jobs.plot import experts_over_levels, plot
from dualdiff_cli.jobs.train import train
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.present.figures.gates import gate_profile
from dualdiff_cli.training.gaps import held_out_features


@pytest.fixture(autouse=True)
def _painted() -> Iterator[None]:
    with painted():
        yield


def pictures(record: dict[str, Any]) -> set[str]:
    return {path.name for path in Path(record["run"], "figures").iterdir()}


def test_pictures_of_gates_are_made_of_gated_models_only(trained: dict[str, Any], of_people: dict[str, Any]) -> None:
    assert pictures(of_people) == {"samples.png", "loss.png"}
    gates = {"gate-scatter.png", "gate-histogram.png", "gate-profile.png"}
    assert pictures(trained) == {"samples.png", "loss.png"} | gates


def test_a_model_that_is_no_diffusion_model_has_no_picture_of_a_loss(simpler: dict[str, Any]) -> None:
    assert pictures(simpler) == {"samples.png"}


def test_a_gate_on_time_is_drawn_over_the_finite_noise_levels_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def keep(noise: np.ndarray, weights: np.ndarray, *, losses: np.ndarray, **more: Any) -> Figure:
        drawn.append((noise, weights, losses))
        return gate_profile(noise, weights, losses=losses, **more)

    monkeypatch.setattr("dualdiff_cli.jobs.plot.gate_profile", keep)
    straight = ("schedule.name=straight-line", "model.gate_on=time")
    record = train(short(recipe="precise", settings=straight), path=tmp_path / "run", device="cpu")
    assert pictures(record) == {"samples.png", "loss.png", "gate-profile.png"}
    ((noise, weights, losses),) = drawn
    t = np.linspace(1, 1e-3, 64)[1:]  # at t = 1 there is no signal left
    np.testing.assert_allclose(noise, t / (1 - t))
    model = DiffusionModel.load(run_of(record), device=torch.device("cpu"))
    anywhere = model.denoiser.gate(torch.zeros(len(t), 2, dtype=torch.float64), torch.from_numpy(t))
    np.testing.assert_allclose(weights, anywhere, atol=1e-5)
    assert losses.shape == noise.shape
    assert np.isfinite(losses).all()


def test_the_losses_of_a_table_with_gaps_are_of_rows_completed_by_what_the_columns_say_of_each_other(
    of_gaps: dict[str, Any],
) -> None:
    run = run_of(of_gaps)
    model, data = DiffusionModel.load(run, device=torch.device("cpu")), data_of_run(run)
    assert model.losses(run, data, seed=0)["held_out_loss"].value == of_gaps["held_out_loss"]
    found = experts_over_levels(model, data, seed=0)
    assert found is not None
    noise, _, losses = found
    x = torch.from_numpy(held_out_features(model.encoding, data, seed=0))
    epsilon = torch.randn(x.shape, generator=seeding.torch_stream(0, "gate profile"), dtype=x.dtype)
    t = model.denoiser.schedule.time(torch.tensor(-2 * np.log(noise[20])))
    alpha, sigma = model.denoiser.schedule(t)
    with torch.no_grad():
        error = (model.denoiser(alpha * x + sigma * epsilon, t) - x).square().mean()
    assert losses[20] == pytest.approx(float((1 + 1 / noise[20] ** 2) * error), rel=1e-3)


def test_pictures_are_drawn_again_where_they_were(of_people: dict[str, Any], tmp_path: Path) -> None:
    run = copy_of(of_people, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (run.path / "figures").iterdir()}
    shutil.rmtree(run.path / "figures")
    paths = [Path(path) for path in plot(str(run), device="cpu")]
    assert {path.name: path.read_bytes() for path in paths} == before
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
