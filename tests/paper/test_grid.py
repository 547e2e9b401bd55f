"""A grid of experiments: nothing is done twice or lost, and neither processes nor a stop change a score."""

from __future__ import annotations

import os
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from grids import TINY, experiment, scores

from dualdiff_cli.errors import InputError, Interrupted
from dualdiff_cli.paper.experiment import Experiment
from dualdiff_cli.paper.grid import GridProgress, run_grid
from dualdiff_cli.store.lock import sole_use


class Fatal(Experiment):
    """An experiment that ends its process."""

    def measure(self, *_: object) -> None:
        os._exit(1)


class Idle(Experiment):
    """An experiment that ends early and says nothing."""

    def measure(self, *_: object) -> None:
        pass


def two_seeds(runs: Path) -> list[Experiment]:
    return [experiment(runs, seed=seed) for seed in range(2)]


def test_finished_grid_is_not_computed_again(tmp_path: Path) -> None:
    first = run_grid([experiment(tmp_path)], jobs=1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert run_grid([experiment(tmp_path)], jobs=1) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_failed_experiment_is_counted_and_tried_again_and_the_others_are_not_affected(tmp_path: Path) -> None:
    table = tmp_path / "points.csv"
    table.write_text("x,y\nno,numbers\n", encoding="utf-8")
    wrong, good = experiment(tmp_path / "runs", dataset=str(table)), experiment(tmp_path / "runs")
    reports: list[GridProgress] = []
    results = run_grid([wrong, good], jobs=1, on_progress=reports.append)
    assert "points.csv" in results[0]["error"]
    assert len(results[1]["evaluations"]) == 1
    assert reports[-1] == GridProgress(runs=2, done=1, failed=1, steps=10, steps_done=5)
    assert (reports[0].seconds_left, reports[-1].seconds_left) == (None, 0.0)
    table.write_text("x,y\n" + "\n".join(f"{i % 17},{i % 13}.5" for i in range(200)), encoding="utf-8")
    assert "error" not in run_grid([wrong, good], jobs=1)[0]


def test_an_experiment_that_ends_early_without_a_stop_has_failed(tmp_path: Path) -> None:
    (result,) = run_grid([Idle(**vars(experiment(tmp_path)))], jobs=1)
    assert "before it was finished" in result["error"]
    assert "error" not in run_grid([experiment(tmp_path)], jobs=1)[0]


def test_the_time_left_has_training_sampling_scoring_and_what_is_around_them(tmp_path: Path) -> None:
    first, second, third = (experiment(tmp_path, seed=seed) for seed in range(3))
    (result,) = run_grid([first], jobs=1)
    reports: list[GridProgress] = []
    run_grid([first, second, third], jobs=2, on_progress=reports.append)
    one = result["train"]["train_seconds"] + result["train"]["seconds_around"]
    one += sum(record["evaluate_seconds"] for record in result["evaluations"])
    assert reports[0].seconds_left == pytest.approx(one)  # two of them, side by side


def test_bad_request_fails_before_anything_is_begun(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dual-exprt"):
        run_grid([experiment(tmp_path / "runs"), experiment(tmp_path / "runs", model="dual-exprt")], jobs=1)
    assert list(tmp_path.iterdir()) == []


def test_a_second_grid_in_the_same_folder_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with sole_use(tmp_path), pytest.raises(InputError, match=f"{tmp_path} is in use"):
        run_grid([experiment(tmp_path)], jobs=1)
    assert list(tmp_path.iterdir()) == []


def test_a_grid_waits_for_the_workers_of_a_grid_that_was_killed(tmp_path: Path) -> None:
    run = experiment(tmp_path).path
    run.mkdir()
    worker = threading.Event()

    def work() -> None:
        with sole_use(run):
            worker.set()
            time.sleep(0.7)

    thread = threading.Thread(target=work)
    thread.start()
    worker.wait()
    (result,) = run_grid([experiment(tmp_path)], jobs=1)
    thread.join()
    assert "error" not in result


def test_two_experiments_of_one_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="share a run"):
        run_grid([experiment(tmp_path), experiment(tmp_path, metrics=None)])


def test_stopped_grid_ends_in_the_scores_of_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def grid(folder: str) -> list[Experiment]:
        changes = {"steps": 300, "settings": (*TINY, "training.checkpoint_every=100")}
        return [experiment(tmp_path / folder, model=model, **changes) for model in ("dual-expert", "baseline")]

    monkeypatch.setattr("dualdiff_cli.paper.grid.POLL_SECONDS", 0.01)
    whole = run_grid(grid("whole"), jobs=1)
    steps: list[int] = []
    with pytest.raises(Interrupted, match="0 of 2 runs"):
        run_grid(
            grid("parts"), jobs=1, on_progress=lambda p: steps.append(p.steps_done), should_stop=lambda: steps[-1] > 0
        )
    assert 0 < steps[-1] < 300
    assert not list(tmp_path.glob("parts/.stop*"))
    parts = run_grid(grid("parts"), jobs=1)
    assert list(map(scores, parts)) == list(map(scores, whole))
    for a, b in zip(grid("whole"), grid("parts"), strict=True):
        assert (a.path / "model.safetensors").read_bytes() == (b.path / "model.safetensors").read_bytes()


def test_processes_give_the_scores_of_one_process_and_a_lost_process_fails_only_what_it_left_undone(
    tmp_path: Path,
) -> None:
    here = run_grid(two_seeds(tmp_path / "here"), jobs=1)
    there = two_seeds(tmp_path / "there")
    assert list(map(scores, run_grid(there, jobs=2))) == list(map(scores, here))
    fatal = Fatal(**{**vars(there[0]), "seed": 2})
    results = run_grid([*there, fatal], jobs=2)
    assert [result.get("error") for result in results[:2]] == [None, None]
    assert "was lost" in results[2]["error"]
    again = replace(there[0], seed=2)
    assert "error" not in run_grid([again], jobs=1)[0]


def test_a_ray_worker_gives_the_scores_of_joblib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One experiment, so that only one of two workers imports torch; several work side by side in joblib's tests."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    here = run_grid([experiment(tmp_path / "here")], jobs=1)

    def measure(*_: object) -> None:
        raise AssertionError("this process works, and no worker")

    monkeypatch.setattr(Experiment, "measure", measure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
        try:
            there = run_grid([experiment(tmp_path / "there")], jobs=2, engine="ray")
        finally:
            ray.shutdown()
    assert list(map(scores, here)) == list(map(scores, there))
