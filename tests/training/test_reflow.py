from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import tiny
from dualdiff_cli.jobs.reflow import draw_pairs, kept_pairs

from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.config.registry import SAMPLERS
from dualdiff_cli.config.schema import RunConfig
from dualdiff_cli.diffusion.schedules.continuous import StraightLine
from dualdiff_cli.errors import InputError, Interrupted
from dualdiff_cli.jobs import Callbacks, evaluate, export, resume, sample, train
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.store.run import Run
from dualdiff_cli.training.batches import PlainBatches

CPU = torch.device("cpu")
SMALL = ["model.width=8", "model.blocks=1", "training.steps=12", "training.batch=16", "training.log_every=5"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "run"
    train(tiny("precise"), path=path, device="cpu")
    return path


@pytest.fixture(scope="module")
def student(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("student") / "run"
    train(asked(teacher), path=path, device="cpu")
    return path


def asked(teacher: Path, *settings: str) -> RunConfig:
    return resolve(teacher=teacher, settings=[*SMALL, *settings])


def stop_after(steps: int) -> Callable[[], bool]:
    asked = iter(range(1, 1000))
    return lambda: next(asked) == steps


def test_a_batch_of_pairs_keeps_each_point_with_its_noise() -> None:
    points = torch.arange(50.0).reshape(-1, 1)
    batches = PlainBatches(points, StraightLine(), noise=-points)
    batch = batches(64, torch.Generator().manual_seed(0))
    assert torch.equal(batch.epsilon, -batch.x)
    assert len(batch.x.unique()) > 20


def test_a_reflow_learns_its_teachers_data_along_straight_lines(teacher: Path) -> None:
    config, before = asked(teacher), Run.open(teacher).config
    assert (config.dataset, config.data, config.seed) == (before.dataset, before.data, before.seed)
    assert config.model.finest_frequency == before.model.finest_frequency
    assert (config.schedule.name, config.objective.prediction) == ("straight-line", "flow")
    assert config.objective.references == 0
    assert Path(config.objective.teacher or "").samefile(teacher)


def test_pairs_are_the_ends_of_the_teachers_flow(teacher: Path) -> None:
    model = DiffusionModel.load(Run.open(teacher), CPU)
    pairs = draw_pairs(model, 30, seed=5)
    finer = SAMPLERS["heun"](steps=200, grid="log-snr")(model.denoiser, pairs.noise)
    torch.testing.assert_close(pairs.points, finer.float(), rtol=0, atol=5e-3)
    x, z = pairs.held_out
    assert len(x) == 3
    torch.testing.assert_close(SAMPLERS["heun"](steps=50, grid="log-snr")(model.denoiser, z).float(), x)
    longer = draw_pairs(model, 60, seed=5)
    assert torch.equal(longer.points[:30], pairs.points)


def test_a_run_keeps_its_pairs_and_its_teachers_scaler(student: Path, teacher: Path) -> None:
    pairs = kept_pairs(Run.open(student))
    assert pairs is not None
    again = draw_pairs(DiffusionModel.load(Run.open(teacher), CPU), 200, seed=0)
    assert torch.equal(pairs.points, again.points)
    assert torch.equal(pairs.noise, again.noise)
    assert DiffusionModel.load(Run.open(student), CPU).scaler.to_dict() == again.scaler.to_dict()


def test_a_reflow_is_resumed_to_the_same_bytes_without_its_teacher(
    student: Path, teacher: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "teacher"
    shutil.copytree(teacher, moved)
    with pytest.raises(Interrupted):
        train(asked(moved), path=tmp_path / "run", device="cpu", callbacks=Callbacks(should_stop=stop_after(7)))
    shutil.rmtree(moved)
    resume(Run.open(tmp_path / "run"), device="cpu")
    weights = [(path / "model.safetensors").read_bytes() for path in (tmp_path / "run", student)]
    assert weights[0] == weights[1]


def test_a_reflow_is_sampled_without_fresh_noise_only(student: Path, tmp_path: Path) -> None:
    run = Run.open(student)
    record = sample(run, n=20, output=str(tmp_path / "points.csv"), device="cpu")
    assert (record["sampler"], record["network_evaluations"]) == ("euler", 5)
    for refused in (
        lambda: sample(run, n=20, output=str(tmp_path / "others.csv"), sampler="ancestral", device="cpu"),
        lambda: export(run, sampler="ancestral", sample_steps=3),
        lambda: train(asked(Path(run.config.objective.teacher or ""), "sampling.sampler=dpmpp-2m-sde")),
    ):
        with pytest.raises(InputError, match=r"draws fresh noise.*deterministic"):
            refused()


def test_the_held_out_loss_of_a_reflow_is_of_pairs(student: Path) -> None:
    record = evaluate(Run.open(student), n=60, device="cpu")
    loss = record["metrics"]["held_out_loss"]
    assert loss["n_real"] == 20
    assert "training_loss_published" not in record["metrics"]


def test_a_reflow_has_no_diagnosis(student: Path) -> None:
    with pytest.raises(InputError, match="has learnt coupled noise"):
        evaluate(Run.open(student), diagnosis=True, device="cpu")


def test_a_teacher_of_other_data_is_refused(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has learnt line, not moons"):
        resolve(dataset="moons", teacher=teacher)
    with pytest.raises(InputError, match="not a run"):
        resolve(teacher=tmp_path)
    config = resolve(
        dataset="moons",
        settings=[*SMALL, f"objective.teacher={teacher}", "objective.references=0", "sampling.sampler=euler"],
    )
    with pytest.raises(InputError, match="is of the data line, not of moons"):
        train(config, path=tmp_path / "run", device="cpu")
    with pytest.raises(InputError, match="which noise meets which point"):
        asked(teacher, "objective.references=32")
