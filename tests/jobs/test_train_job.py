from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from short_runs import run_of, short, simple
from tiny import tiny

from dualdiff_cli.errors import InputError
from dualdiff_cli.jobs.train import Callbacks, train
from dualdiff_cli.store.run import RUNS, Run


def test_the_record_of_a_training_says_what_was_trained(trained: dict[str, Any]) -> None:
    weights = load_file(Path(trained["run"], "model.safetensors"))
    expected = {
        "dataset": "eight-gaussians",
        "model": "dual-expert",
        "recipe": "paper",
        "seed": 0,
        "steps": 12,
        "parameters": sum(weight.numel() for weight in weights.values()),
        "device": "cpu",
    }
    assert {key: trained[key] for key in expected} == expected
    assert Path(trained["run"], "config.toml").is_file()
    assert 0 < trained["train_seconds"] < 60
    assert 0 < trained["held_out_loss"] < 1.5
    assert trained["held_out_loss_unit"] == "mean squared error of the noise"
    assert sum(trained["expert_usage"]) == pytest.approx(1)
    assert trained["verdict"]["level"] in ("not yet", "bad")  # 12 steps are too few
    assert "sliced_wasserstein" in trained["verdict"]["sentence"]
    assert json.loads(json.dumps(trained, allow_nan=False)) == trained


def test_a_model_that_is_no_diffusion_model_has_the_same_record(simpler: dict[str, Any]) -> None:
    keys = {"run", "dataset", "model", "recipe", "steps", "parameters", "train_seconds", "held_out_loss", "device"}
    assert keys <= set(simpler)
    assert (simpler["dataset"], simpler["recipe"]) == ("moons", "plain")
    assert (simpler["steps"] is None) == (simpler["model"] in ("mixture", "kernel-density"))
    assert simpler["model"] == Path(simpler["run"]).name
    assert simpler["parameters"] >= 1
    assert 2.2 < simpler["held_out_loss"] < 4.5  # the entropy is 2.249 bits
    assert simpler["held_out_loss_unit"] == "bits a row"
    assert json.loads(json.dumps(simpler, allow_nan=False)) == simpler


def test_a_run_holds_everything_about_its_training(of_people: dict[str, Any], shared: Path) -> None:
    path = Path(of_people["run"])
    assert {entry.name for entry in path.iterdir()} - {"samples", "evaluation.json"} == {
        "config.toml",
        "data.json",
        "environment.json",
        "figures",
        "held_out_rows.npy",
        "metrics.jsonl",
        "model.json",
        "model.safetensors",
        "state.pt",
        "training.json",
    }
    assert [record["step"] for record in run_of(of_people).load_metrics()] == [5, 10, 12]
    environment = json.loads((path / "environment.json").read_text(encoding="utf-8"))
    assert environment["device"] == "cpu"
    assert environment["versions"]["torch"]
    data = json.loads((path / "data.json").read_text(encoding="utf-8"))
    assert data["sha256"] == hashlib.sha256((shared / "people.csv").read_bytes()).hexdigest()
    assert (data["train_rows"], data["held_out_rows"]) == (270, 30)
    rows = np.load(path / "held_out_rows.npy")
    assert len(set(rows.tolist())) == 30
    assert 0 <= rows.min() <= rows.max() < 300


def test_a_picture_that_fails_takes_nothing_of_the_training_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("a picture")

    monkeypatch.setattr("dualdiff_cli.jobs.train.draw_pictures", fail)
    with pytest.raises(ZeroDivisionError, match="a picture"):
        train(simple("mixture"), path="run", device="cpu")
    kept = Run("run").load_training()
    assert kept is not None
    assert kept["verdict"]


def test_callbacks_hear_the_start_and_every_logged_step() -> None:
    heard: list[Any] = []
    callbacks = Callbacks(
        on_start=lambda run, steps, how: heard.append((str(run), steps, how.split()[0])),
        on_progress=lambda progress: heard.append(progress.step),
    )
    train(short(model="baseline"), device="cpu", callbacks=callbacks)
    assert heard == [("runs/line-baseline-1", 12, "float32"), 5, 10, 12]


def test_what_is_wrong_with_a_request_is_found_before_a_directory_is_made(tmp_path: Path) -> None:
    Path("bad.csv").write_text("a,b\n" + "1,inf\n" * 30, encoding="utf-8")
    for config, path, complaint in (
        (short("bad.csv"), None, "bad.csv column 'b' has 30 infinite values"),
        (short("bad.csv"), Path("mine"), "bad.csv column 'b' has 30 infinite values"),
        (short("nowhere.csv"), None, "'nowhere.csv' is neither a density nor a file"),
        (short(settings=("sampling.steps=9",)), None, "9 steps were asked of a schedule with 8 times"),
    ):
        with pytest.raises(InputError, match=complaint):
            train(config, path=path, device="cpu")
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.csv"]


def test_a_schedule_that_keeps_signal_is_reported_with_its_alpha_bar() -> None:
    with pytest.warns(UserWarning, match=r"36 % of the signal's power \(ᾱ_T = 0\.364\)"):
        record = train(tiny("paper"), device="cpu")
    assert record["terminal_alpha_bar"] == pytest.approx(0.3636, abs=1e-3)


def test_a_loss_that_is_no_number_ends_the_training_with_the_setting_to_change() -> None:
    exploding = short(model="baseline", settings=("training.learning_rate=1e12",))
    with pytest.raises(InputError, match=r"no longer a number .*training.learning_rate"):
        train(exploding, device="cpu")
    run = Run.open(RUNS / "line-baseline-1")
    assert all(np.isfinite(record["loss"]) for record in run.load_metrics())
