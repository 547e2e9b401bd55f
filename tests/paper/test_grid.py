"""A grid of runs: nothing twice, nothing lost, the same figures whatever spreads it and whatever stops it."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from grids import cell, few_points, scores

from dualdiff_cli.errors import InputError, Interrupted
from dualdiff_cli.paper.cells import Cell
from dualdiff_cli.paper.grid import GridProgress, _last_step, run_grid

__all__ = ["few_points"]


class Fatal(Cell):
    """A cell that ends its process."""

    def measure(self, *_: object) -> None:
        os._exit(1)


def test_directory_is_named_by_what_was_asked_for(tmp_path: Path) -> None:
    plain = Cell("dino", "paper", "diversity-loss", 2, settings=("objective.diversity=0.05",), runs=str(tmp_path))
    assert plain.path == tmp_path / "dino-paper-diversity-loss-objective.diversity=0.05-2"
    assert replace(plain, steps=50).path.name == "dino-paper-diversity-loss-50-objective.diversity=0.05-2"
    assert replace(plain, dataset="../a/b.csv", settings=()).path == tmp_path / "a-b.csv-paper-diversity-loss-2"


def test_many_settings_are_named_by_their_digest(tmp_path: Path) -> None:
    long = tuple(f"training.batch={n}" for n in range(20))
    first, second = cell(tmp_path, settings=long), cell(tmp_path, settings=long[1:])
    assert first.path != second.path
    assert len(first.path.name) < 100


@pytest.mark.usefixtures("few_points")
def test_cell_is_trained_and_scored_once(tmp_path: Path) -> None:
    one = cell(tmp_path)
    (first,) = run_grid([one], jobs=1)
    assert first["train"]["steps"] == 5
    assert list(first["evaluations"][0]["metrics"]) == ["kl_published", "held_out_loss", "training_loss_published"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert run_grid([one], jobs=1) == [first]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("few_points")
def test_another_sampling_of_a_run_is_scored_without_training_again(tmp_path: Path) -> None:
    one = cell(tmp_path)
    (first,) = run_grid([one], jobs=1)
    weights = (one.path / "model.safetensors").stat().st_mtime_ns
    both = replace(one, samplings=(("ddim", 3), (None, None)))
    assert one.is_done()
    assert not both.is_done()
    (second,) = run_grid([both], jobs=1)
    assert (one.path / "model.safetensors").stat().st_mtime_ns == weights
    assert [(e["sampler"], e["sample_steps"]) for e in second["evaluations"]] == [("ddim", 3), ("ancestral", 4)]
    assert second["evaluations"][1] == first["evaluations"][0]
    assert one.is_done()


@pytest.mark.usefixtures("few_points")
def test_evaluation_answers_for_fewer_metrics_and_not_for_more(tmp_path: Path) -> None:
    one = cell(tmp_path, metrics=("kl_published", "sliced_wasserstein"))
    run_grid([one], jobs=1)
    assert replace(one, metrics=("kl_published",)).is_done()
    assert not replace(one, metrics=("kl_published", "kl_real_generated")).is_done()
    assert not replace(one, metrics=None).is_done()


@pytest.mark.usefixtures("few_points")
def test_result_without_its_run_does_not_count(tmp_path: Path) -> None:
    one = cell(tmp_path)
    run_grid([one], jobs=1)
    (one.path / "model.safetensors").unlink()
    assert not one.is_done()
    assert "train" not in one.result()


@pytest.mark.usefixtures("few_points")
def test_cell_that_fails_is_marked_and_tried_again(tmp_path: Path) -> None:
    table = tmp_path / "points.csv"
    settings = (*cell(tmp_path).settings, "data.standardise=always")
    table.write_text("x,y\nno,numbers\n", encoding="utf-8")
    wrong = cell(tmp_path / "runs", dataset=str(table), settings=settings)
    good = cell(tmp_path / "runs")
    told: list[GridProgress] = []
    results = run_grid([wrong, good], jobs=1, on_progress=told.append)
    assert "points.csv" in results[0]["error"]
    assert results[0]["evaluations"] == []
    assert len(results[1]["evaluations"]) == 1
    assert (told[-1].done, told[-1].failed, told[-1].runs) == (1, 1, 2)

    table.write_text("x,y\n" + "\n".join(f"{i % 17},{i % 13}.5" for i in range(200)), encoding="utf-8")
    results = run_grid([wrong, good], jobs=1)
    assert "error" not in results[0]
    assert wrong.is_done()


@pytest.mark.usefixtures("few_points")
def test_fault_of_the_program_is_a_marked_cell_with_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dualdiff_cli.paper.cells.evaluate", lambda *_, **__: 1 / 0)
    (result,) = run_grid([cell(tmp_path)], jobs=1)
    assert result["error"] == "ZeroDivisionError: division by zero"
    assert "Traceback" in result["traceback"]
    assert result["train"]["steps"] == 5
    monkeypatch.undo()
    (result,) = run_grid([cell(tmp_path)], jobs=1)
    assert "error" not in result
    assert "traceback" not in result


@pytest.mark.usefixtures("few_points")
def test_warning_of_a_run_is_part_of_its_result(tmp_path: Path) -> None:
    settings = tuple(setting for setting in cell(tmp_path).settings if not setting.startswith("schedule"))
    (result,) = run_grid([cell(tmp_path, settings=settings)], jobs=1)
    assert any(text.startswith("At its noisiest") for text in result["warnings"])


def test_bad_request_fails_before_anything_is_begun(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dual-exprt"):
        run_grid([cell(tmp_path / "runs"), cell(tmp_path / "runs", model="dual-exprt")], jobs=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("few_points")
def test_run_of_another_configuration_is_refused(tmp_path: Path) -> None:
    one = cell(tmp_path)
    run_grid([one], jobs=1)
    config = one.path / "config.toml"
    config.write_text(config.read_text(encoding="utf-8").replace("batch = 16", "batch = 17"), encoding="utf-8")
    assert not one.is_done()
    (result,) = run_grid([one], jobs=1)
    assert "another configuration" in result["error"]


@pytest.mark.usefixtures("few_points")
def test_stopped_grid_ends_in_the_figures_of_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def grid(folder: str) -> list[Cell]:
        return [cell(tmp_path / folder, model=model, steps=300) for model in ("dual-expert", "baseline")]

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


def test_processes_give_the_figures_of_one_process(tmp_path: Path) -> None:
    here = run_grid([cell(tmp_path / "here", seed=seed) for seed in range(2)], jobs=1)
    there = run_grid([cell(tmp_path / "there", seed=seed) for seed in range(2)], jobs=2)
    assert list(map(scores, here)) == list(map(scores, there))


def test_lost_process_marks_what_it_left_undone_and_nothing_else(tmp_path: Path) -> None:
    good = cell(tmp_path)
    run_grid([good], jobs=1)
    fatal = Fatal(**{**good.__dict__, "seed": 1})
    results = run_grid([good, fatal, replace(good, seed=2)], jobs=2)
    assert "error" not in results[0]
    assert "process was lost" in results[1]["error"]
    assert "error" not in run_grid([good, replace(good, seed=2)], jobs=1)[1]


def test_ray_workers_give_the_figures_of_joblib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    here = run_grid([cell(tmp_path / "here", seed=seed) for seed in range(2)], jobs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
        try:
            there = run_grid([cell(tmp_path / "there", seed=seed) for seed in range(2)], jobs=2, engine="ray")
        finally:
            ray.shutdown()
    assert list(map(scores, here)) == list(map(scores, there))


def test_last_step_of_a_log_that_is_being_written(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    assert _last_step(log) == 0
    lines = [json.dumps({"step": step, "loss": 0.5, "learning_rate": 1e-4}) for step in range(100, 5000, 100)]
    log.write_text("\n".join(lines) + '\n{"step"', encoding="utf-8")
    assert _last_step(log) == 4900


def test_two_cells_of_one_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="share a run"):
        run_grid([cell(tmp_path), cell(tmp_path, metrics=None)])
