"""Rows that run away are drawn again, with a model that lets some run away: badly conditioned, hastily trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from closed_forms import gaussian_denoiser

from dualdiff_cli import seeding
from dualdiff_cli.compute.execution import PLAIN
from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.diffusion.samplers import BLOCK, Reach, Redrawing, generate, generation, redrawing
from dualdiff_cli.diffusion.samplers.flow import Heun
from dualdiff_cli.diffusion.schedules.continuous import LogSNRUniform
from dualdiff_cli.errors import InputError
from dualdiff_cli.exporting.runtime import ExportedModel
from dualdiff_cli.jobs.export import export
from dualdiff_cli.jobs.sample import sample
from dualdiff_cli.jobs.train import train
from dualdiff_cli.models import DrawingOptions
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.store.run import Run

CPU = torch.device("cpu")
HASTY = DrawingOptions(sampler="annealed-langevin", steps=10)
SEED = 1


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A narrow network, trained under `paper` with too large a learning rate on columns that are nearly the same."""
    path, rng = tmp_path_factory.mktemp("hasty"), seeding.stream(0, "rows")
    rows = rng.normal(size=(60, 1)) @ rng.normal(size=(1, 12)) + 1e-3 * rng.normal(size=(60, 12))
    pl.DataFrame(rows).write_parquet(path / "rows.parquet")
    settings = ["model.width=16", "model.blocks=1", "training.steps=200", "training.batch=32"]
    settings += ["training.learning_rate=0.03", "training.checkpoint_every=1000"]
    config = resolve(dataset=str(path / "rows.parquet"), model="baseline", recipe="paper", settings=settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dualdiff_cli.jobs.train.draw_pictures", lambda *_, **__: [])
        train(config, path=path / "run", device="cpu")
    return Run.open(path / "run")


@pytest.fixture(autouse=True)
def _narrow_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two ranges be too far, which some rows of the model exceed."""
    monkeypatch.setattr(redrawing, "RANGES", 2.0)


def test_no_rows_are_being_drawn_again_after_a_failure() -> None:
    def walk(noise: torch.Tensor, step_noise: torch.Tensor | None) -> torch.Tensor:
        raise MemoryError

    mending = Redrawing(None)
    with pytest.raises(MemoryError):
        mending.mend(np.full((3, 2), np.nan), walk, first=0, seed=0, dim=2, draws=1, per_call=BLOCK)
    assert (mending.is_busy, mending.count) == (False, 3)


@pytest.fixture(scope="module")
def model(run: Run) -> DiffusionModel:
    return DiffusionModel.load(run, device=CPU)


def draw(model: Any, n: int) -> tuple[np.ndarray[Any, Any], int]:
    """Draw rows hastily, and say how many were drawn again."""
    drawing = model.draw(n, seed=SEED, options=HASTY)
    rows = pl.concat(drawing.chunks).to_numpy()
    return rows, drawing.facts["redrawn"]


def within(model: DiffusionModel, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    assert model.reach is not None
    frame = pl.DataFrame(rows, schema=model.encoding.names)
    return model.reach.holds(model.encoding.encode(frame, None))


def test_rows_out_of_reach_are_drawn_again_and_all_others_stay(model: DiffusionModel) -> None:
    plain, none = draw(replace(model, reach=None), 1000)
    rows, redrawn = draw(model, 1000)
    held = within(model, plain)
    assert none == 0
    assert 0 < redrawn == (~held).sum() < 500
    assert within(model, rows).all()
    assert np.array_equal(rows[held], plain[held])
    assert not np.isclose(rows[~held], plain[~held]).all(axis=1).any()


def test_a_row_that_was_drawn_again_depends_on_the_seed_and_its_number_alone(model: DiffusionModel) -> None:
    short, _ = draw(model, 300)
    long, _ = draw(model, BLOCK + 300)
    np.testing.assert_allclose(short, long[:300], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("compiled", [False, True])
def test_more_rows_than_a_call_takes_are_drawn_again_in_several_calls(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "MOST_BLOCKS", 1)
    denoiser = gaussian_denoiser(torch.zeros(1), torch.ones(1), LogSNRUniform(sigma_min=0.1, sigma_max=10.0))
    calls: list[int] = []
    denoiser.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    sampler, n = Heun(steps=20, grid="log-snr"), 8 * BLOCK

    def drawn(chunk: int) -> np.ndarray[Any, Any]:
        redrawing = Redrawing(Reach((1.0,), (2.0,)))  # and two ranges on either side: no row below −1
        way: dict[str, Any] = {"execution": replace(PLAIN, compiled=compiled), "redrawing": redrawing, "chunk": chunk}
        rows = np.concatenate(list(generate(sampler, denoiser, n, dim=1, seed=SEED, device=CPU, **way)))
        assert BLOCK < redrawing.count < n
        return rows

    rows = drawn(n)  # in one chunk
    assert max(calls) == BLOCK
    assert rows.min() >= -1
    np.testing.assert_allclose(drawn(BLOCK), rows, rtol=1e-12)


def test_the_number_of_evaluations_of_a_row_does_not_count_those_of_rows_drawn_again(model: DiffusionModel) -> None:
    drawings = [each.draw(500, seed=SEED, options=HASTY) for each in (model, replace(model, reach=None))]
    for drawing in drawings:
        pl.concat(drawing.chunks)
    assert [drawing.facts["redrawn"] > 0 for drawing in drawings] == [True, False]
    assert drawings[0].facts["network_evaluations"] == drawings[1].facts["network_evaluations"]


def test_the_record_says_how_many_rows_were_drawn_again(run: Run, tmp_path: Path) -> None:
    record = sample(run, n=500, output=tmp_path / "rows.csv", seed=SEED, options=HASTY, device="cpu")
    assert record["redrawn"] > 0
    assert pl.read_csv(tmp_path / "rows.csv").height == 500


def test_an_exported_file_draws_the_same_rows_again(run: Run, model: DiffusionModel, tmp_path: Path) -> None:
    words: dict[str, Any] = {"sampler": "annealed-langevin", "sample_steps": 10}
    record = export(run, output=tmp_path / "hasty.ts", device="cpu", **words)
    rows, redrawn = draw(model, 300)
    drawing = ExportedModel.open(record["output"], device="cpu", trust=True).draw(300, seed=SEED)
    file = next(iter(drawing.chunks)).to_numpy()  # the only chunk; who selects rows does not ask for the end either
    assert drawing.facts["redrawn"] == redrawn > 0
    np.testing.assert_allclose(file, rows, rtol=1e-3, atol=1e-2)


def test_a_model_that_always_misses_fails_with_a_sentence(model: DiffusionModel) -> None:
    elsewhere = replace(model, reach=Reach((1e6,) * 12, (1e6 + 1,) * 12))
    with pytest.raises(InputError, match="9 times") as caught:
        elsewhere.sample(20, seed=SEED)
    assert "--sample-steps" in caught.value.remedy
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("reach", [True, False])
def test_rows_that_are_not_finite_are_never_given(reach: bool, run: Run) -> None:
    broken = DiffusionModel.load(run, device=CPU)
    with torch.no_grad():
        next(broken.denoiser.parameters()).fill_(torch.nan)
    with pytest.raises(InputError, match="not finite"):
        (broken if reach else replace(broken, reach=None)).sample(20, seed=SEED)


def test_a_row_may_lie_two_ranges_of_a_feature_beyond_it_and_a_constant_feature_still_has_reach() -> None:
    reach = Reach.of(np.array([[0.0, 5.0], [4.0, 5.0]]))
    rows = np.array([[-7.9, 5.0], [11.9, 6.9], [12.1, 5.0], [-8.1, 5.0], [1.0, 7.1], [np.nan, 5.0], [np.inf, 5.0]])
    assert reach.holds(rows).tolist() == [True, True, False, False, False, False, False]


def test_a_reach_that_was_written_is_read_if_it_is_of_as_many_features() -> None:
    reach = Reach((0.0, 5.0), (4.0, 5.0))
    written = {"low": list(reach.low), "high": list(reach.high)}
    assert Reach.read(written, width=2) == reach
    assert Reach.read(None, width=2) is None
    for other, width in ((written, 3), ({**written, "low": [0.0]}, 2)):
        with pytest.raises(ValueError, match="number of features"):
            Reach.read(other, width=width)


def test_the_values_of_given_features_are_within_reach_and_no_others() -> None:
    reach = Reach.of(np.array([[0.0, 5.0], [4.0, 6.0]])).including(np.array([1000.0, -9.0]), np.array([True, False]))
    assert reach.holds(np.array([[1000.0, 5.5], [1000.0, -9.0]])).tolist() == [True, False]
