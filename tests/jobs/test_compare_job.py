"""Several models on the same rows: the record, failures as rows, and a comparison that goes on where it stopped."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from people import write_people

from dualdiff_cli.errors import InputError, Interrupted
from dualdiff_cli.jobs.compare import COMPARED, compare
from dualdiff_cli.jobs.evaluate import evaluate
from dualdiff_cli.models.peers import VineCopula
from dualdiff_cli.store.lock import sole_use
from dualdiff_cli.store.run import Run

pytestmark = pytest.mark.slow

SETTINGS = (
    "data.points=300",
    "data.held_out_points=200",
    "training.steps=12",
    "training.batch=16",
    "objective.references=32",
    "sampling.steps=4",
    "folds.number=2",
    "folds.levels=4",
    "folds.bands=2",
    "model.width=8",
    "model.blocks=1",
    "model.components=2",
    "model.covariance=full",
    "model.hidden=[8]",
    "model.steps=12",
    "model.bandwidth=0.2",
)
HOUSE = ("dual-expert", "kernel-density", "mixture", "spline-flow")


def tiny_comparison(dataset: str = "moons", **changes: Any) -> dict[str, Any]:
    request = {"n": 150, "seed": 3, "device": "cpu", "settings": SETTINGS, **changes}
    return compare(dataset, **request)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VineCopula, "package", "a_package_that_is_not_there")
        return tiny_comparison(models=[*HOUSE, "vine-copula"], path=tmp_path_factory.mktemp("comparison"))


def test_the_record_has_the_keys_of_the_contract(compared: dict[str, Any]) -> None:
    assert (compared["dataset"], compared["rows"], compared["held_out"]) == ("moons", 300, 200)
    assert list(compared["models"]) == [*HOUSE, "vine-copula"]
    for name in HOUSE:
        row = compared["models"][name]
        assert {"kl_real_generated", "kl_generated_real", "classifier_auc", "memorisation"} <= set(row["metrics"])
        assert math.isfinite(row["train_seconds"])
        assert math.isfinite(row["sample_seconds"])
        assert row["parameters"] >= 1
    assert compared["best"] in HOUSE
    assert compared["best"] not in compared["as_good"]
    json.dumps(compared, allow_nan=False)


def test_the_seconds_of_a_training_begin_before_the_rows_are_encoded(compared: dict[str, Any]) -> None:
    for name in HOUSE:
        fitting = Run.open(Path(compared["run_dir"], "runs", name)).load_training()
        assert fitting is not None
        assert compared["models"][name]["train_seconds"] > fitting["train_seconds"] + fitting.get("compile_seconds", 0)


def test_all_models_are_scored_against_the_same_floors(compared: dict[str, Any]) -> None:
    for metric in ("kl_real_generated", "kl_generated_real", "sliced_wasserstein", "copies"):
        floors = {compared["models"][name]["metrics"][metric]["floor"] for name in HOUSE}
        assert len(floors) == 1
        assert None not in floors


def test_a_setting_reaches_the_models_that_have_it(compared: dict[str, Any]) -> None:
    rows = compared["models"]
    assert (rows["dual-expert"]["steps"], rows["spline-flow"]["steps"]) == (12, 12)
    assert rows["mixture"]["components"] == 2
    assert rows["kernel-density"]["bandwidth"] == 0.2


def test_a_peer_that_is_not_installed_is_a_row_that_says_how_to_get_it(compared: dict[str, Any]) -> None:
    row = compared["models"]["vine-copula"]
    assert set(row) == {"error"}
    assert 'pip install "dualdiff-cli[peers]"' in row["error"]


def test_a_simpler_model_is_named_where_it_is_as_good(compared: dict[str, Any]) -> None:
    """Twelve steps do not train a diffusion model, and two Gaussians are not far from two moons."""
    assert compared["simpler"] == {"model": "mixture", "components": 2, "instead_of": "dual-expert"}


def test_the_scores_are_those_of_evaluate(compared: dict[str, Any]) -> None:
    run = Run.open(Path(compared["run_dir"], "runs", "mixture"))
    record = evaluate(run, n=150, seed=3, device="cpu")
    assert record["metrics"] == compared["models"]["mixture"]["metrics"]


def test_the_same_folder_goes_on_and_takes_further_models(compared: dict[str, Any]) -> None:
    folder = Path(compared["run_dir"])
    weights = (folder / "runs/dual-expert/model.safetensors").stat().st_mtime_ns
    again = tiny_comparison(models=["mixture", "dual-expert"], path=folder)
    assert again["models"] == {name: compared["models"][name] for name in ("mixture", "dual-expert")}
    assert (folder / "runs/dual-expert/model.safetensors").stat().st_mtime_ns == weights


@pytest.mark.parametrize("change", [{"seed": 4}, {"n": 160}, {"settings": SETTINGS[:-1]}, {"dataset": "circle"}])
def test_a_folder_of_another_comparison_is_refused(compared: dict[str, Any], change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=str(compared["run_dir"])) as caught:
        tiny_comparison(models=["mixture"], path=compared["run_dir"], **change)
    assert "--run-dir" in caught.value.remedy


def test_a_stopped_comparison_keeps_what_is_finished_and_ends_in_the_same_scores(
    compared: dict[str, Any], tmp_path: Path
) -> None:
    asked: list[str] = []

    def in_the_second_training() -> bool:
        return (tmp_path / "scores/mixture.json").exists() and (tmp_path / "runs/dual-expert/config.toml").exists()

    with pytest.raises(Interrupted, match="1 of 2") as caught:
        tiny_comparison(
            models=["mixture", "dual-expert"], path=tmp_path, should_stop=in_the_second_training, announce=asked.append
        )
    assert caught.value.exit_code == 130
    assert str(tmp_path) in caught.value.remedy
    assert not (tmp_path / "scores/dual-expert.json").exists()
    finished = tiny_comparison(models=["mixture", "dual-expert"], path=tmp_path)
    for name in ("mixture", "dual-expert"):
        assert finished["models"][name]["metrics"] == compared["models"][name]["metrics"]


def test_without_a_folder_nothing_is_left_behind(tmp_path: Path) -> None:
    with pytest.raises(Interrupted) as caught:
        tiny_comparison(models=["mixture"], should_stop=lambda: True)
    assert "--run-dir" in caught.value.remedy
    assert tiny_comparison(models=["mixture"])["run_dir"] is None
    assert list(tmp_path.iterdir()) == []  # the tests of the jobs run in this directory


def test_a_second_comparison_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        tiny_comparison(models=["mixture"], path=tmp_path, should_stop=lambda: True)
    with sole_use(tmp_path), pytest.raises(InputError, match=f"{tmp_path} is in use"):
        tiny_comparison(models=["mixture"], path=tmp_path)


def test_of_two_first_comparisons_in_a_folder_the_second_neither_writes_nor_reads_a_request(tmp_path: Path) -> None:
    """The first one has the folder, and has not written its request yet."""
    with sole_use(tmp_path), pytest.raises(InputError, match=f"{tmp_path} is in use"):
        tiny_comparison(models=["mixture"], path=tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "own").touch()
    with pytest.raises(InputError, match="does not hold a comparison"):
        tiny_comparison(models=["mixture"], path=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_what_fails_is_a_row_with_its_reason_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(features: Any, seed: int) -> Any:
        raise ArithmeticError("a matrix is singular")

    monkeypatch.setattr(VineCopula, "package", "json")
    monkeypatch.setattr(VineCopula, "_fit", staticmethod(fail))
    path = write_people(tmp_path / "people.csv", n=60)
    settings = ["model.learning_rate=1e12", "model.components=1"]
    names = ["spline-flow", "vine-copula", "mixture"]
    record = compare(str(path), models=names, n=100, device="cpu", settings=settings, path=tmp_path / "out")
    rows = record["models"]
    assert "learning_rate" in rows["spline-flow"]["error"]
    assert "ArithmeticError: a matrix is singular" in rows["vine-copula"]["error"]
    assert "metrics" in rows["mixture"]
    assert record["dataset"] == str(path)
    assert [kept.name for kept in (tmp_path / "out/scores").iterdir()] == ["mixture.json"]


def test_rows_that_cannot_be_scored_are_a_reason_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pl.DataFrame({"age (years)": [1, 2], "income": [math.nan, 0.0]})
    monkeypatch.setattr(VineCopula, "package", "json")
    monkeypatch.setattr(VineCopula, "_fit", staticmethod(lambda features, seed: None))
    monkeypatch.setattr(VineCopula, "sample", lambda self, n, *, seed: pl.concat([rows] * 50))
    record = compare(str(write_people(tmp_path / "p.csv", n=60)), models=["vine-copula"], n=100, device="cpu")
    assert "NaN" in record["models"]["vine-copula"]["error"]
    assert record["best"] is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"models": ["mixtur"]}, "mixture"),
        ({"models": ["mixture"], "settings": ["model.stepz=5"]}, "stepz"),
        ({"models": ["mixture"], "settings": ["model.name=spline-flow"]}, "--set"),
        ({"models": ["mixture"], "settings": ["data.points=few"]}, "data.points"),
        ({"dataset": "nowhere.csv"}, "nowhere.csv"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_before_anything_is_trained(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        tiny_comparison(path=tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_too_few_rows_to_score_are_refused_and_the_remedy_holds(tmp_path: Path) -> None:
    path = write_people(tmp_path / "few.csv", n=30)
    with pytest.raises(InputError, match="3 held-out rows are too few to compare models") as caught:
        compare(str(path), models=["mixture"], n=60, device="cpu", path=tmp_path / "out")
    assert caught.value.exit_code == 2
    assert not (tmp_path / "out").exists()
    settings = [caught.value.remedy.split()[-1].rstrip("."), "model.components=1"]
    record = compare(str(path), models=["mixture"], n=60, device="cpu", settings=settings)
    assert record["held_out"] == 6
    assert record["models"]["mixture"]["metrics"]["memorisation"]["value"] is not None


def test_by_default_all_four_models_and_all_peers_are_compared() -> None:
    assert (*HOUSE, "vine-copula", "forest", "arf") == COMPARED
