"""A training that was stopped at any moment ends in the bytes of one that nothing stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from people import write_people
from short_runs import copy_of, short

from dualdiff_cli.errors import InputError, Interrupted
from dualdiff_cli.jobs.evaluate import evaluate
from dualdiff_cli.jobs.plot import plot
from dualdiff_cli.jobs.train import Callbacks, resume, train
from dualdiff_cli.store.run import Run
from dualdiff_cli.training.loop import Progress


class Killed(BaseException):
    """Stands for a process that is gone: nothing of the program catches it."""


@pytest.fixture(scope="module", params=["paper", "precise"])
def recipe(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def whole(recipe: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of the recipe that nothing stopped."""
    path = tmp_path_factory.mktemp("whole") / recipe
    train(short(recipe=recipe), path=path, device="cpu")
    judged = [line["step"] for line in Run(path).load_metrics() if "held_out" in line]
    assert judged == [10, 12]  # the first logged step after the checkpoint at 7, and the last step
    return Run(path)


def assert_same_run(run: Run, other: Run) -> None:
    for name in ("config.toml", "data.json", "metrics.jsonl", "model.safetensors", "model.json"):
        assert (run.path / name).read_bytes() == (other.path / name).read_bytes(), name


def stop_after(step: int) -> Callable[[], bool]:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == step

    return should_stop


@pytest.mark.parametrize("step", [1, 7, 10, 11])
def test_a_run_that_was_stopped_ends_in_the_same_bytes_as_one_that_was_not(step: int, recipe: str, whole: Run) -> None:
    with pytest.raises(Interrupted, match=rf"after {step} of 12 steps.*--resume runs/line-dual-expert-1`"):
        train(short(recipe=recipe), device="cpu", callbacks=Callbacks(should_stop=stop_after(step)))
    run = Run.open()
    state = run.load_state()
    assert state is not None
    assert state["trainer"]["step"] == step
    assert resume(run, device="cpu")["steps"] == 12
    assert_same_run(run, whole)


@pytest.mark.parametrize(("step", "saved"), [(5, None), (10, 7), (12, 7)])
def test_a_run_that_was_killed_ends_in_the_same_bytes_as_one_that_was_not(
    step: int, saved: int | None, recipe: str, whole: Run
) -> None:
    def die(progress: Progress) -> None:
        """After the log is written and before the state is."""
        if progress.step == step:
            raise Killed

    with pytest.raises(Killed):
        train(short(recipe=recipe), device="cpu", callbacks=Callbacks(on_progress=die))
    run = Run.open()
    state = run.load_state()
    assert (state and state["trainer"]["step"]) == saved
    with open(run.path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 3')  # a line that the kill cut short
    resume(run, device="cpu")
    assert_same_run(run, whole)


def test_resuming_a_finished_run_changes_nothing(whole: Run, tmp_path: Path) -> None:
    run = Run(shutil.copytree(whole.path, tmp_path / "again"))
    resume(run, device="cpu")
    assert_same_run(run, whole)
    assert (run.path / "state.pt").read_bytes() == (whole.path / "state.pt").read_bytes()


def test_resuming_a_finished_run_of_a_model_that_is_no_diffusion_model_gives_the_same_model(
    simpler: dict[str, Any], tmp_path: Path
) -> None:
    run = copy_of(simpler, tmp_path / "again")
    record = resume(run, device="cpu")
    assert record["held_out_loss"] == simpler["held_out_loss"]
    for name in ("config.toml", "data.json", "model.safetensors", "model.json"):
        assert (run.path / name).read_bytes() == Path(simpler["run"], name).read_bytes(), name


def test_a_data_file_that_changed_is_refused_wherever_its_split_matters(tmp_path: Path) -> None:
    write_people(tmp_path / "people.csv")
    train(short("people.csv", model="baseline"), path="run", device="cpu")
    write_people(tmp_path / "people.csv", seed=1)
    for job in (resume, evaluate, plot):
        with pytest.raises(InputError, match=r"people.csv has changed since the run run was begun"):
            job("run", device="cpu")
    write_people(tmp_path / "people.csv")
    assert resume("run", device="cpu")["steps"] == 12
    provenance = Run("run").load_data() or {}
    Run("run").save_data({**provenance, "train_rows": provenance["train_rows"] + 1}, None)
    with pytest.raises(InputError, match=r"reads another number of rows from people.csv.*the run run was begun"):
        evaluate("run", device="cpu")


def test_damage_to_what_a_run_resumes_from_is_a_bad_input(whole: Run, tmp_path: Path) -> None:
    run = Run(shutil.copytree(whole.path, tmp_path / "run"))
    (run.path / "data.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"data.json is damaged"):
        resume(run, device="cpu")
    shutil.copy(whole.path / "data.json", run.path)
    wider = (run.path / "config.toml").read_text(encoding="utf-8").replace("width = 8", "width = 9")
    (run.path / "config.toml").write_text(wider, encoding="utf-8")
    with pytest.raises(InputError, match=r"state of the run .* another configuration.*config.toml"):
        resume(run, device="cpu")
