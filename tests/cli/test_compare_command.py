"""`dualdiff compare` on the command line: streams, JSON keys and exit codes."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from dualdiff_cli.cli.app import app
from dualdiff_cli.models import peers
from dualdiff_cli.models.mixture import Mixture

pytestmark = pytest.mark.slow

ROWS = ("--set", "data.points=200", "--set", "data.held_out_points=100", "-n", "120", "--device", "cpu")
QUICK = (*ROWS, "--set", "model.components=1", "--set", "model.bandwidth=0.3")


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(peers.AdversarialForest, "package", "a_package_that_is_not_there")


def compare(*words: str) -> Result:
    return CliRunner().invoke(app, ["compare", *words], prog_name="dualdiff")


def test_json_is_one_object_with_the_keys_of_the_contract() -> None:
    result = compare("--dataset", "moons", "--model", "mixture", "--model", "arf", *QUICK, "--json")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    record = json.loads(result.stdout)
    assert {"dataset", "rows", "held_out", "models", "best"} <= set(record)
    assert {"metrics", "train_seconds", "sample_seconds"} <= set(record["models"]["mixture"])
    assert 'pip install "dualdiff-cli[peers]"' in record["models"]["arf"]["error"]
    assert record["best"] == "mixture"


def test_a_person_gets_one_table_that_fits_the_terminal() -> None:
    words = ("--dataset", "moons", "--model", "mixture", "--model", "kernel-density", "--model", "arf", *QUICK)
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["compare", *words])
    assert result.exit_code == 0, result.output
    for word in ("perfect samples", "mixture", "kernel-density", "arf", "best", "pip install"):
        assert word in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert not any(Path().iterdir())


def test_steps_are_those_of_the_diffusion_models() -> None:
    words = ("--set", "model.width=8", "--set", "model.blocks=1", "--set", "sampling.steps=3", "--steps", "7")
    names = ("--model", "baseline", "--model", "mixture")
    record = json.loads(compare("--dataset", "moons", *names, *QUICK, *words, "--json").stdout)
    assert record["models"]["baseline"]["steps"] == 7
    assert "metrics" in record["models"]["mixture"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--model", "mixture"), 2, "--dataset"),
        (("--dataset", "moons", "--model", "mixtures"), 2, "mixture"),
        (("--dataset", "moons", "--set", "model.sise=3"), 2, "sise"),
        (("--dataset", "moons", "--device", "cuda:99"), 4, "cuda:99"),
    ],
)
def test_a_request_that_cannot_be_met_has_its_exit_code(words: tuple[str, ...], code: int, said: str) -> None:
    result = compare(*words)
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert result.stdout == ""


def test_ctrl_c_ends_in_130_and_the_same_command_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--dataset", "moons", "--model", "mixture", "--model", "kernel-density", *QUICK, "--run-dir", "out")
    fit = Mixture.fit

    def interrupted_fit(*args: object, **kwargs: object) -> object:
        signal.raise_signal(signal.SIGINT)
        return fit(*args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Mixture, "fit", interrupted_fit)
        result = compare(*words)
    assert result.exit_code == 130
    assert "1 of 2" in result.stderr
    assert "out" in result.stderr
    assert [path.name for path in Path("out/scores").iterdir()] == ["mixture.json"]
    result = compare(*words, "--json")
    assert result.exit_code == 0
    assert set(json.loads(result.stdout)["models"]) == {"mixture", "kernel-density"}


def test_a_comparison_that_is_finished_is_shown_although_ctrl_c_came_during_its_last_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sample = Mixture.sample

    def interrupted_sample(*args: object, **kwargs: object) -> object:
        signal.raise_signal(signal.SIGINT)
        return sample(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Mixture, "sample", interrupted_sample)
    result = compare("--dataset", "moons", "--model", "mixture", *QUICK, "--json")
    assert result.exit_code == 130
    assert json.loads(result.stdout)["best"] == "mixture"


def test_a_setting_of_the_rows_has_an_effect_whatever_models_are_compared() -> None:
    result = compare("--dataset", "moons", "--model", "forest", *ROWS, "--set", "model.components=1")
    assert result.exit_code == 0
    assert "The setting model.components=1 changes nothing" in result.stderr
    assert "data." not in result.stderr


def test_steps_that_no_compared_model_makes_are_said_to_change_nothing() -> None:
    result = compare("--dataset", "moons", "--model", "mixture", *QUICK, "--steps", "7")
    assert result.exit_code == 0
    assert "The setting training.steps=7 changes nothing" in result.stderr
    assert "model.components" not in result.stderr
