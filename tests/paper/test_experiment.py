"""One experiment: it is trained and scored once, and a failure is kept as a result until it is tried again."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from grids import experiment
from people import write_people

from dualdiff_cli.paper.experiment import Experiment, sampling_seed
from dualdiff_cli.store.run import Run


class Faulty(Experiment):
    """An experiment whose scoring has a fault of the program."""

    def _score(self, *_: object) -> None:
        _ = 1 / 0


def finished(runs: Path, **changes: object) -> Experiment:
    one = experiment(runs, **changes)
    one.measure()
    assert one.is_done(), one.result()
    return one


def modified(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_directory_is_named_by_what_was_asked_for(tmp_path: Path) -> None:
    plain = Experiment("dino", "paper", "diversity-loss", 2, settings=("objective.diversity=0.05",), runs=str(tmp_path))
    assert plain.path == tmp_path / "dino-paper-diversity-loss-objective.diversity=0.05-2"
    assert replace(plain, steps=50).path.name == "dino-paper-diversity-loss-50-objective.diversity=0.05-2"
    of_a_file = replace(plain, dataset="../a/b.csv", settings=()).path
    assert of_a_file.parent == tmp_path
    assert re.fullmatch(r"a-b\.csv-[0-9a-f]{8}-paper-diversity-loss-2", of_a_file.name)


def test_files_whose_paths_differ_in_a_slash_or_a_leading_dot_have_runs_of_their_own(tmp_path: Path) -> None:
    files = ["a/b.csv", "a-b.csv", ".a-b.csv", "../a/b.csv", "a\\b.csv"]
    assert len({experiment(tmp_path, dataset=file).path for file in files}) == len(files)


@pytest.mark.parametrize("file", ["a/" * 130 + "b.csv", "a" * 240 + ".csv", "ä" * 120 + ".csv"])
@pytest.mark.parametrize("settings", [(), ("data.points=200", "model.name='" + "ü" * 100 + "'")])
def test_a_long_path_leaves_a_name_that_a_file_system_takes(
    tmp_path: Path, file: str, settings: tuple[str, ...]
) -> None:
    one = experiment(tmp_path, dataset=file, settings=settings)
    one.path.mkdir()
    one.fail("No reason.")
    assert one.path.name.startswith(Path(file).stem[:20])
    others = (replace(one, dataset="x/" + file), replace(one, settings=("data.points=300",)), replace(one, seed=1))
    assert len({one.path, *(other.path for other in others)}) == 4


def test_a_name_that_fits_spells_the_path_and_the_settings(tmp_path: Path) -> None:
    """So that the runs of earlier calls are found again."""
    digest, settings = "[0-9a-f]{8}", ("data.points=200", "training.batch=16")
    name = experiment(tmp_path, dataset="a/" * 70 + "b.csv", steps=None, settings=settings).path.name
    assert re.fullmatch(f"{'a-' * 70}b\\.csv-{digest}-paper-baseline-{'-'.join(settings)}-0", name)


def test_results_of_one_file_are_not_those_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    write_people(Path("data/x.csv"))
    write_people(Path("data-x.csv"), seed=1)
    settings = (*experiment(tmp_path).settings, "data.standardise=always")
    finished(tmp_path / "runs", dataset="data/x.csv", settings=settings)
    assert not experiment(tmp_path / "runs", dataset="data-x.csv", settings=settings).is_done()


def test_many_settings_are_named_by_their_digest(tmp_path: Path) -> None:
    long = tuple(f"training.batch={n}" for n in range(20))
    first, second = experiment(tmp_path, settings=long), experiment(tmp_path, settings=long[1:])
    assert first.path != second.path
    assert len(first.path.name) < 100


def test_samples_have_a_seed_of_their_own_for_every_seed_of_a_run() -> None:
    seeds = [sampling_seed(seed) for seed in range(100)]
    assert len({*seeds, *range(100)}) == 200


def test_finished_experiment_has_the_record_of_the_training_and_the_scores_that_were_asked_for(tmp_path: Path) -> None:
    result = finished(tmp_path).result()
    assert result["train"]["steps"] == 5
    (evaluation,) = result["evaluations"]
    assert list(evaluation["metrics"]) == ["kl_published", "held_out_loss", "training_loss_published"]
    assert evaluation["n_generated"] == 300


def test_finished_experiment_writes_no_file_when_it_is_measured_again(tmp_path: Path) -> None:
    one = finished(tmp_path)
    before = modified(tmp_path)
    one.measure()
    assert modified(tmp_path) == before


def test_another_sampling_of_a_run_is_scored_without_training_again(tmp_path: Path) -> None:
    one = finished(tmp_path)
    weights = (one.path / "model.safetensors").stat().st_mtime_ns
    both = replace(one, samplings=(("ddim", 3), (None, None)))
    assert not both.is_done()
    both.measure()
    ddim, own = both.result()["evaluations"]
    assert (one.path / "model.safetensors").stat().st_mtime_ns == weights
    assert [(e["sampler"], e["sample_steps"]) for e in (ddim, own)] == [("ddim", 3), ("ancestral", 4)]
    assert [own] == one.result()["evaluations"]
    assert one.is_done()


def test_evaluation_answers_for_fewer_metrics_and_not_for_more_metrics_or_points(tmp_path: Path) -> None:
    one = finished(tmp_path, metrics=("kl_published", "sliced_wasserstein"))
    assert replace(one, metrics=("kl_published",)).is_done()
    assert not replace(one, metrics=("kl_published", "kl_real_generated")).is_done()
    assert not replace(one, metrics=None).is_done()
    assert not replace(one, generated=301).is_done()


def test_result_without_the_trained_model_does_not_count(tmp_path: Path) -> None:
    one = finished(tmp_path)
    (one.path / "model.safetensors").unlink()
    assert not one.is_done()
    assert "train" not in one.result()


def test_run_of_another_configuration_is_refused(tmp_path: Path) -> None:
    one = finished(tmp_path)
    config = one.path / "config.toml"
    config.write_text(config.read_text(encoding="utf-8").replace("batch = 16", "batch = 17"), encoding="utf-8")
    assert not one.is_done()
    one.measure()
    assert str(one.path) in one.result()["error"]
    assert "another folder" in one.result()["error"]


def test_failed_experiment_is_tried_again_once_its_failure_is_forgotten(tmp_path: Path) -> None:
    table = tmp_path / "points.csv"
    table.write_text("x,y\nno,numbers\n", encoding="utf-8")
    settings = (*experiment(tmp_path).settings, "data.standardise=always")
    one = experiment(tmp_path / "runs", dataset=str(table), settings=settings)
    one.measure()
    assert "points.csv" in one.result()["error"]
    assert one.result()["evaluations"] == []
    table.write_text("x,y\n" + "\n".join(f"{i % 17},{i % 13}.5" for i in range(200)), encoding="utf-8")
    one.forget_failure()
    one.measure()
    assert one.is_done()


def test_fault_of_the_program_is_kept_with_its_traceback(tmp_path: Path) -> None:
    one = experiment(tmp_path)
    Faulty(**vars(one)).measure()
    result = one.result()
    assert result["error"] == "ZeroDivisionError: division by zero"
    assert "Traceback" in result["traceback"]
    assert result["train"]["steps"] == 5
    one.forget_failure()
    one.measure()
    assert not {"error", "traceback"} & one.result().keys()


def test_warning_of_a_run_is_part_of_the_result(tmp_path: Path) -> None:
    settings = tuple(setting for setting in experiment(tmp_path).settings if not setting.startswith("schedule"))
    (warning,) = finished(tmp_path, settings=settings).result()["warnings"]
    assert "signal" in warning


def test_stopped_experiment_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole, parts = (experiment(tmp_path / folder, steps=12) for folder in ("whole", "parts"))
    whole.measure()
    asked = iter([False] * 5 + [True] * 100)
    parts.measure(lambda: next(asked))
    assert 0 < Run(parts.path).load_metrics()[-1]["step"] < 12
    assert not parts.is_done()
    parts.measure()
    assert (parts.path / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes()
