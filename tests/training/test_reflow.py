from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from people import write_people
from tiny import tiny

from dualdiff_cli import seeding
from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.config.registry import SAMPLERS
from dualdiff_cli.config.schema import RunConfig
from dualdiff_cli.diffusion.samplers import Reach
from dualdiff_cli.diffusion.schedules.continuous import StraightLine
from dualdiff_cli.errors import InputError, Interrupted
from dualdiff_cli.jobs.evaluate import evaluate
from dualdiff_cli.jobs.export import export
from dualdiff_cli.jobs.sample import sample
from dualdiff_cli.jobs.train import Callbacks, resume, train
from dualdiff_cli.models import DrawingOptions
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.store.run import Run
from dualdiff_cli.training.batches import PlainBatches
from dualdiff_cli.training.reflow import Pairs, draw_pairs

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


def model_of(path: Path) -> DiffusionModel:
    return DiffusionModel.load(Run.open(path), device=CPU)


def pairs_of(teacher: Path, n: int, *, seed: int, reach: Reach | None = None) -> Pairs:
    model = model_of(teacher)
    reach = reach or model.reach
    assert reach is not None
    return draw_pairs(model.denoiser, model.encoding, n, reach=reach, seed=seed, device=CPU)


def stop_after(steps: int) -> Callable[[], bool]:
    asked = iter(range(1, 1000))
    return lambda: next(asked) == steps


def test_a_batch_of_pairs_keeps_each_point_with_its_noise() -> None:
    points = torch.arange(50.0).reshape(-1, 1)
    batches = PlainBatches(points, StraightLine(), noise=-points)
    batch = batches(64, seeding.torch_stream(0, "batch"))
    assert torch.equal(batch.epsilon, -batch.x)
    assert len(batch.x.unique()) > 20


def test_a_reflow_learns_its_teachers_data_along_straight_lines(teacher: Path) -> None:
    config, before = asked(teacher), Run.open(teacher).config
    assert (config.dataset, config.data, config.seed) == (before.dataset, before.data, before.seed)
    assert config.model.finest_frequency == before.model.finest_frequency
    assert (config.schedule.name, config.objective.prediction) == ("straight-line", "flow")
    assert config.objective.references == 0
    assert Path(config.objective.teacher or "").samefile(teacher)


def test_a_reflow_may_name_the_file_of_its_teacher_as_the_teacher_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_people(Path("people.csv"), n=100)
    train(tiny("precise", dataset="people.csv"), path="teacher", device="cpu")
    train(resolve(dataset="people.csv", teacher="teacher", settings=SMALL), path="run", device="cpu")
    assert Run.open("run").config.dataset == str(tmp_path.resolve() / "people.csv")
    with pytest.raises(InputError, match=r"people\.csv, not others\.csv"):
        resolve(dataset="others.csv", teacher="teacher")


def test_pairs_are_the_ends_of_the_teachers_flow(teacher: Path) -> None:
    denoiser, pairs = model_of(teacher).denoiser, pairs_of(teacher, 30, seed=5)
    finer = SAMPLERS["heun"](steps=200, grid="log-snr")(denoiser, pairs.noise)
    torch.testing.assert_close(pairs.points, finer.float(), rtol=0, atol=5e-3)
    x, z = pairs.held_out
    assert len(x) == 3
    torch.testing.assert_close(SAMPLERS["heun"](steps=50, grid="log-snr")(denoiser, z).float(), x)
    longer = pairs_of(teacher, 60, seed=5)
    assert torch.equal(longer.points[:30], pairs.points)


def test_a_point_that_no_teacher_should_give_is_not_learnt_and_a_teacher_of_many_is_refused(teacher: Path) -> None:
    whole = pairs_of(teacher, 200, seed=5)
    points = torch.cat([whole.points, whole.held_out[0]])

    def reach_up_to(share: float) -> Reach:
        """A range without length reaches ten units further: in the first feature, to this share of the points."""
        end = float(points[:, 0].double().quantile(share)) - 10
        return Reach((end, 0.0), (end, 0.0))

    some = pairs_of(teacher, 200, seed=5, reach=reach_up_to(0.97))
    good = whole.points[:, 0] <= points[:, 0].quantile(0.97)
    assert 190 < len(some.points) < 200
    assert torch.equal(some.points, whole.points[good])
    assert torch.equal(some.noise, whole.noise[good])
    with pytest.raises(InputError, match=r"of 220 points to which the teacher's flow leads"):
        pairs_of(teacher, 200, seed=5, reach=reach_up_to(0.8))


def test_a_teacher_of_absurd_points_is_refused_before_there_is_a_run(teacher: Path, tmp_path: Path) -> None:
    worse = shutil.copytree(teacher, tmp_path / "worse")
    model = model_of(worse)
    with torch.no_grad():
        for parameter in model.denoiser.network.parameters():
            parameter.add_(50.0)
    model.denoiser.limits = None
    model.save(Run.open(worse))
    with pytest.raises(InputError, match=r"of 1,100 points.*teacher"):
        train(asked(worse), path=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_run_keeps_its_pairs_and_the_encoding_of_its_teacher(student: Path, teacher: Path) -> None:
    pairs, again = Pairs.load(Run.open(student)), pairs_of(teacher, 200, seed=0)
    assert pairs is not None
    for kept, drawn in ((pairs.points, again.points), (pairs.noise, again.noise), (pairs.held_out, again.held_out)):
        assert torch.equal(kept, drawn)
    assert pairs.encoding == model_of(student).encoding == model_of(teacher).encoding


def test_a_run_that_is_no_reflow_has_no_pairs(teacher: Path) -> None:
    assert Pairs.load(Run.open(teacher)) is None


def test_a_reflow_is_resumed_to_the_same_bytes_without_its_teacher(
    student: Path, teacher: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "teacher"
    shutil.copytree(teacher, moved)
    with pytest.raises(Interrupted):
        train(asked(moved), path=tmp_path / "run", device="cpu", callbacks=Callbacks(should_stop=stop_after(7)))
    shutil.rmtree(moved)
    resume(tmp_path / "run", device="cpu")
    weights = [(path / "model.safetensors").read_bytes() for path in (tmp_path / "run", student)]
    assert weights[0] == weights[1]


def test_a_reflow_is_sampled_without_fresh_noise_only(student: Path, teacher: Path, tmp_path: Path) -> None:
    record = sample(student, n=20, output=tmp_path / "points.csv", device="cpu")
    assert (record["sampler"], record["network_evaluations"]) == ("euler", 5)
    fresh = DrawingOptions(sampler="ancestral")
    for refused in (
        lambda: sample(student, n=20, output=tmp_path / "others.csv", options=fresh, device="cpu"),
        lambda: export(student, sampler="ancestral", sample_steps=3),
        lambda: train(asked(teacher, "sampling.sampler=dpmpp-2m-sde"), path=tmp_path / "run"),
    ):
        with pytest.raises(InputError, match=r"draws fresh noise.*deterministic"):
            refused()
    assert [path.name for path in tmp_path.iterdir()] == ["points.csv"]


def test_the_held_out_loss_of_a_reflow_is_of_pairs(student: Path) -> None:
    record = evaluate(student, n=60, metrics=["sliced_wasserstein"], device="cpu")
    loss = record["metrics"]["held_out_loss"]
    assert loss["n_real"] == 20
    assert "training_loss_published" not in record["metrics"]


def test_a_reflow_has_no_diagnosis(student: Path) -> None:
    with pytest.raises(InputError, match="has learnt coupled noise"):
        evaluate(student, diagnosis=True, device="cpu")


@pytest.mark.parametrize(
    "other", ["data.held_out_fraction=0.3", "data.missing=drop", "seed=1", "a row more"], ids=lambda other: other
)
def test_a_reflow_never_holds_out_rows_that_its_teacher_has_learnt(other: str, tmp_path: Path) -> None:
    people = write_people(tmp_path / "people.csv", n=100, height=[None, *([1.5, 1.9, 1.7] * 33)])
    train(tiny("precise", dataset=str(people)), path=tmp_path / "teacher", device="cpu")
    settings = []
    if other == "a row more":
        with people.open("a", encoding="utf-8") as file:
            file.write("40,4.0,1.7\n")
    else:
        settings = [other]
    with pytest.raises(InputError, match=r"would be held out that the teacher .* has learnt"):
        train(asked(tmp_path / "teacher", *settings), path=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


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
    with pytest.raises(InputError, match=r"a teacher .*references=0"):
        asked(teacher, "objective.references=32")
