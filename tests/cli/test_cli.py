"""The command line's contract: what goes to which stream, the JSON keys, the exit codes, and runs that are stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import Result
from safetensors.torch import load_file
from typer.testing import CliRunner

from dualdiff_cli import __version__
from dualdiff_cli.cli.app import app
from dualdiff_cli.store.run import Run

SETTINGS = (
    "model.width=8",
    "model.blocks=1",
    "model.gate_hidden=[8]",
    "schedule.length=8",
    "schedule.beta_max=0.9",
    "objective.references=0",
    "sampling.steps=8",
    "data.points=400",
    "data.held_out_points=400",
    "training.batch=16",
)
SMALL = ["--device", "cpu", "--steps", "30", *(word for setting in SETTINGS for word in ("--set", setting))]
TINY = ["--recipe", "paper", *SMALL]
COMMANDS = [str(command.callback.__name__) for command in app.registered_commands if command.callback]
COMMANDS += [str(group.name) for group in app.registered_groups]
HEAVY = {"torch", "polars", "pydantic", "matplotlib", "scipy", "sklearn", "onnxruntime", "numpy"}
SENTENCES = re.compile(r"Error: [^\n]+[.!?]\n[^\n]+[.?]\n")


def dualdiff(*words: str | Path) -> Result:
    """Run a command in this process."""
    result = CliRunner().invoke(app, [str(word) for word in words], prog_name="dualdiff")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def answer(*words: str | Path) -> dict[str, Any]:
    """Run a command with --json; give its one object."""
    result = dualdiff(*words, "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def start(*words: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """Start the program as a user does, with as many threads as the commands in this process."""
    command = [sys.executable, "-m", "dualdiff_cli", *(str(word) for word in words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )


def refused(*words: str | Path, code: int = 2) -> str:
    """Run a command that has to fail with two sentences and nothing else; give them."""
    result = dualdiff(*words)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert SENTENCES.fullmatch(result.stderr), result.stderr
    return result.stderr


def write_people(path: Path, **more: Any) -> Path:
    rng = np.random.default_rng(0)
    age = rng.integers(18, 70, 200)
    columns = {"age (years)": age, "income": 0.1 * age + rng.normal(size=200), **more}
    pl.DataFrame(columns).write_csv(path)
    return path


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def trained(shared: Path) -> dict[str, Any]:
    """What `train --json` says of a gated model of a density."""
    return answer("train", "--dataset", "moons", *TINY, "--run-dir", shared / "moons")


@pytest.fixture(scope="module")
def run(trained: dict[str, Any]) -> Path:
    return Path(trained["run"])


# Help


def imported_by(*words: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "dualdiff_cli", *words], capture_output=True, text=True, check=True
    )
    return {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_imports_nothing_heavy(word: str) -> None:
    imported = imported_by(word)
    assert {"typer", "rich", "dualdiff_cli.cli.train"} <= imported
    assert imported.isdisjoint(HEAVY)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_imports_nothing_heavy(command: str) -> None:
    imported = imported_by(command, "--help")
    assert "dualdiff_cli.cli.train" in imported
    assert imported.isdisjoint(HEAVY - {"pydantic"})  # Typer itself looks for it when it parses an option
    assert "dualdiff_cli.config" not in imported


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_takes_json_quiet_and_debug(command: str) -> None:
    result = dualdiff(command, "--help")
    assert result.exit_code == 0
    assert f"dualdiff {command}" in result.stdout
    for option in ("--json", "--quiet", "--debug"):
        assert option in result.stdout


def test_the_commands_of_the_contract_are_there_and_help_lists_them() -> None:
    assert {"train", "sample", "evaluate", "compare", "export", "plot", "bench", "info", "datasets"} <= set(COMMANDS)
    assert len(set(COMMANDS)) == len(COMMANDS)
    shown = dualdiff("--help").stdout
    assert all(re.search(rf"^\W*{command} ", shown, re.MULTILINE) for command in COMMANDS)


def test_the_version_is_the_packages() -> None:
    assert dualdiff("--version").stdout == f"dualdiff {__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        ("frobnicate",),
        ("train", "--datset", "moons"),
        ("train", "--steps", "0"),
        ("train", "--steps", "many"),
        ("train", "--seed", "-1"),
        ("sample", "-n", "0"),
        ("sample", "--seed", str(2**63)),
        ("evaluate", "-n", "99"),
        ("datasets", "extra"),
    ],
)
def test_bad_usage_exits_with_2_and_shows_the_usage_on_stderr(words: tuple[str, ...]) -> None:
    result = dualdiff(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: dualdiff" in result.stderr


# What the commands answer


def test_train_answers_with_the_keys_of_the_contract(trained: dict[str, Any], shared: Path) -> None:
    weights = load_file(shared / "moons" / "model.safetensors")
    assert trained["run"] == str(shared / "moons")
    assert (trained["dataset"], trained["model"], trained["recipe"]) == ("moons", "dual-expert", "paper")
    assert (trained["steps"], trained["device"]) == (30, "cpu")
    assert trained["parameters"] == sum(weight.numel() for weight in weights.values())
    assert trained["train_seconds"] > 0
    assert 0 < trained["held_out_loss"] < 2


def test_without_more_than_a_data_set_two_experts_are_trained_by_the_precise_recipe() -> None:
    record = answer("train", "--dataset", "line", *SMALL)
    assert (record["run"], record["model"], record["recipe"]) == ("runs/line-dual-expert-1", "dual-expert", "precise")
    again = Path(answer("train", "--config", "runs/line-dual-expert-1/config.toml", "--device", "cpu")["run"])
    for name in ("config.toml", "model.safetensors", "metrics.jsonl"):
        assert (again / name).read_bytes() == Path("runs/line-dual-expert-1", name).read_bytes(), name


def test_sample_answers_with_the_keys_of_the_contract(run: Path) -> None:
    record = answer("sample", run, "-n", "50", "-o", "points.csv", "--sample-steps", "6")
    assert record["run"] == str(run)
    assert (record["n"], record["columns"], record["output"]) == (50, ["x", "y"], "points.csv")
    assert (record["sampler"], record["sample_steps"], record["network_evaluations"]) == ("ancestral", 6, 6)
    assert record["seconds"] > 0
    assert pl.read_csv("points.csv").shape == (50, 2)


def test_evaluate_answers_with_the_metrics_of_the_contract_and_leaves_them_in_the_run(run: Path) -> None:
    record = answer("evaluate", run, "-n", "200", "--device", "cpu")
    assert (record["run"], record["dataset"]) == (str(run), "moons")
    assert (record["n_real"], record["n_generated"]) == (400, 200)
    metrics = record["metrics"]
    assert {"kl_real_generated", "kl_generated_real", "sliced_wasserstein", "classifier_two_sample"} <= set(metrics)
    assert {"value", "unit", "ci95", "floor"} <= set.intersection(*(set(score) for score in metrics.values()))
    assert metrics["kl_real_generated"]["unit"] == metrics["kl_generated_real"]["unit"] == "bits"
    assert json.loads((run / "evaluation.json").read_text(encoding="utf-8")) == record


def test_evaluate_adds_the_exact_likelihood_and_the_diagnosis_where_they_are_asked_for(run: Path) -> None:
    record = answer("evaluate", run, "-n", "100", "--sample-steps", "4", "--exact", "--diagnose", "--device", "cpu")
    assert {"nll_held_out", "nll_excess", "kl_real_model"} <= set(record["metrics"])
    assert {"floor", "schedule_and_sampler", "network", "total"} == set(record["diagnosis"]["kl_real_generated"])
    shown = dualdiff("evaluate", run, "-n", "100", "--sample-steps", "4", "--diagnose", "--device", "cpu").stdout
    assert "schedule and sampler" in shown
    assert "nll_held_out" not in shown


def test_evaluate_scores_files_without_a_run_and_shows_a_table() -> None:
    write_people(Path("a.csv"))
    write_people(Path("b.csv"))
    result = dualdiff("evaluate", "--samples", "a.csv", "--against", "b.csv")
    assert result.exit_code == 0
    assert "a.csv against b.csv" in result.stdout
    assert "sliced_wasserstein" in result.stdout
    assert answer("evaluate", "--samples", "a.csv", "--against", "b.csv")["run"] is None
    assert not Path("runs").exists()


def test_plot_answers_with_the_pictures(run: Path) -> None:
    record = answer("plot", run, "--device", "cpu")
    assert record["run"] == str(run)
    names = [Path(path).name for path in record["figures"]]
    assert names == ["samples.png", "loss.png", "gate-scatter.png", "gate-histogram.png", "gate-profile.png"]
    assert all(Path(path).is_file() for path in record["figures"])


def test_export_answers_with_the_keys_of_the_contract_and_its_file_serves_alone(run: Path) -> None:
    record = answer("export", run, "--format", "torchscript", "-o", "model.ts", "--device", "cpu")
    contract = {"run", "format", "what", "output", "bytes", "max_abs_error", "tolerance", "opset"}
    assert contract <= set(record)
    assert (record["run"], record["format"], record["what"]) == (str(run), "torchscript", "sampler")
    assert (record["output"], record["bytes"]) == ("model.ts", Path("model.ts").stat().st_size)
    assert record["max_abs_error"] <= record["tolerance"]
    assert record["opset"] is None
    drawn = answer("sample", "--from", "model.ts", "-n", "50", "-o", "a.csv", "--device", "cpu")
    assert (drawn["run"], drawn["from"], drawn["n"], drawn["columns"]) == (None, "model.ts", 50, ["x", "y"])
    answer("sample", run, "-n", "50", "-o", "b.csv", "--device", "cpu")
    np.testing.assert_allclose(pl.read_csv("a.csv"), pl.read_csv("b.csv"), rtol=0, atol=record["tolerance"])
    scored = dualdiff("evaluate", "--from", "model.ts", "-n", "100", "--device", "cpu").stdout
    assert "model.ts against held-out moons" in scored
    shown = dualdiff("export", run, "--what", "denoiser", "--device", "cpu").stdout
    assert re.search(r"^output +\S+denoiser.onnx *$", shown, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--format", "onx"), 2, "There is no format 'onx'"),
        (("--sampler", "adaptive"), 2, "it chooses its steps while it runs"),
        (("--format", "pt2", "--opset", "20"), 2, "has no opset"),
        (("--what", "denoiser", "--format", "pt2", "--device", "cuda:99"), 4, "cuda:99"),
    ],
)
def test_export_says_what_it_cannot_do(words: tuple[str, ...], code: int, said: str, run: Path) -> None:
    assert said in refused("export", run, *words, code=code)


def test_a_run_and_an_exported_file_are_not_both_meant(run: Path) -> None:
    assert "both named" in refused("sample", run, "--from", "model.onnx")
    assert "--from scores" in refused("evaluate", run, "--from", "model.onnx")
    assert "precision is its own" in refused("sample", "--from", "model.onnx", "--precision", "bfloat16")
    assert "that a run draws" in refused("sample", "--from", "model.onnx", "--compile", "on")
    assert "that a run draws" in refused("evaluate", run, "--samples", "points.csv", "--precision", "bfloat16")
    assert "There is no file model.onnx" in refused("sample", "--from", "model.onnx")


def test_info_answers_with_versions_devices_and_what_would_be_used() -> None:
    record = answer("info")
    assert record["dualdiff"] == __version__
    assert record["versions"]["torch"]
    assert record["device"]
    assert record["reason"]
    assert "CPUExecutionProvider" in record["providers"]
    shown = dualdiff("info").stdout
    assert record["versions"]["numpy"] in shown


def test_datasets_answers_with_densities_and_kinds_of_files() -> None:
    record = answer("datasets")
    densities = {density["name"]: density for density in record["densities"]}
    assert {"circle", "dino", "line", "moons"} <= set(densities)
    assert densities["line"]["entropy_bits"] == pytest.approx(5)  # log2 of the area, 4 × 8
    assert densities["line"]["columns"] == ["x", "y"]
    assert {".csv", ".tsv", ".parquet", ".ndjson", ".npy"} <= set(record["files"])
    shown = dualdiff("datasets").stdout
    assert all(name in shown for name in densities)


def assert_told_of_training(stderr: str, run: str) -> None:
    into, how = stderr.splitlines()
    assert into == f"Training into {run}"
    assert re.fullmatch(r"float32 on \d+ threads?, not compiled \(too little work to repay compiling\)", how)


def test_a_person_gets_results_on_stdout_and_notes_on_stderr() -> None:
    result = dualdiff("train", "--dataset", "line", "--model", "baseline", *TINY)
    assert result.exit_code == 0
    assert_told_of_training(result.stderr, "runs/line-baseline-1")
    assert re.search(r"^run +runs/line-baseline-1 *$", result.stdout, re.MULTILINE)
    assert re.search(r"^parameters +[\d,]+ *$", result.stdout, re.MULTILINE)


def test_quiet_is_silent_except_for_json(run: Path) -> None:
    words = ("train", "--dataset", "line", "--model", "baseline", *TINY)
    for command in (words, ("sample", run, "-n", "5"), ("plot", run), ("datasets",), ("info",)):
        result = dualdiff(*command, "--quiet")
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", ""), command
    result = dualdiff(*words, "--quiet", "--json")
    assert json.loads(result.stdout)["run"] == "runs/line-baseline-2"
    assert result.stderr == ""


def test_the_program_itself_keeps_json_on_stdout_and_notes_on_stderr(tmp_path: Path) -> None:
    out, err = start("train", "--dataset", "line", *TINY, "--json", cwd=tmp_path).communicate(timeout=120)
    assert json.loads(out)["run"] == "runs/line-dual-expert-1"
    assert out.count("\n") == 1
    assert_told_of_training(err, "runs/line-dual-expert-1")


def test_points_for_a_pipe_are_csv_and_nothing_else(run: Path) -> None:
    result = dualdiff("sample", run, "-n", "20", "-o", "-")
    assert (result.exit_code, result.stderr) == (0, "")
    dualdiff("sample", run, "-n", "20", "-o", "points.csv")
    assert result.stdout == Path("points.csv").read_text(encoding="utf-8")
    assert result.stdout.startswith("x,y\n")
    assert result.stdout.count("\n") == 21


def test_a_reader_that_has_had_enough_is_no_error(run: Path, tmp_path: Path) -> None:
    with start("sample", run, "-n", "200000", "--sample-steps", "1", "-o", "-", cwd=tmp_path) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert program.stdout.readline() == "x,y\n"
        program.stdout.close()
        assert program.stderr.read() == ""
        assert program.wait(timeout=60) == 0


# Requests


def test_runs_are_numbered_and_the_newest_is_the_one_meant() -> None:
    words = ("train", "--dataset", "line", "--model", "baseline", *TINY)
    assert answer(*words)["run"] == "runs/line-baseline-1"
    Path("runs/line-baseline-8").mkdir()
    newest = answer(*words)["run"]
    assert newest == "runs/line-baseline-9"
    os.utime("runs/line-baseline-1/config.toml", (1, 1))
    assert answer("sample", "-n", "5", "-o", "x.csv")["run"] == newest
    assert answer("train", "--resume")["run"] == newest


def test_a_runs_own_configuration_gives_the_same_weights_again(run: Path) -> None:
    again = Path(answer("train", "--config", run / "config.toml", "--device", "cpu")["run"])
    assert again == Path("runs/moons-dual-expert-1")
    for name in ("config.toml", "model.safetensors", "metrics.jsonl"):
        assert (again / name).read_bytes() == (run / name).read_bytes(), name


def test_a_seed_of_its_own_gives_other_weights(run: Path) -> None:
    other = Path(answer("train", "--config", run / "config.toml", "--seed", "1", "--device", "cpu")["run"])
    assert (other / "model.safetensors").read_bytes() != (run / "model.safetensors").read_bytes()


def test_columns_of_a_file_come_out_as_they_went_in(tmp_path: Path) -> None:
    write_people(tmp_path / "people.csv", city=["Rome"] * 200, gap=[None, *range(199)])
    chosen = ("--columns", "income,gap,age (years)", "--missing", "drop")
    record = answer("train", "--dataset", "people.csv", "--model", "baseline", *chosen, *TINY)
    assert record["run"] == "runs/people-baseline-1"
    assert json.loads(Path(record["run"], "data.json").read_text(encoding="utf-8"))["dropped_rows"] == 1
    for name in ("people.out.csv", "people.out.parquet"):
        answer("sample", "-n", "30", "-o", name)
    for frame in (pl.read_csv("people.out.csv"), pl.read_parquet("people.out.parquet")):
        assert frame.columns == ["income", "gap", "age (years)"]
        assert frame.dtypes == [pl.Float64, pl.Int64, pl.Int64]
        assert frame.height == 30
    answer("sample", "-n", "30", "-o", "people.out.npy")
    assert np.array_equal(np.load("people.out.npy"), pl.read_csv("people.out.csv").to_numpy())


# Requests that are refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "No data set was named"),
        (("--dataset", "moon"), "Did you mean 'moons'?"),
        (("--dataset", "moons", "--model", "dual-exprt"), "Did you mean 'dual-expert'?"),
        (("--dataset", "moons", "--recipe", "papre"), "There is no recipe 'papre'."),
        (("--dataset", "moons", "--device", "tpu"), "There is no device 'tpu'."),
        (("--dataset", "moons", "--set", "training.bach=3"), "Did you mean 'batch'?"),
        (("--dataset", "moons", "--set", "training.batch=big"), "The setting training.batch = 'big' is not allowed."),
        (("--dataset", "moons", "--set", "schedule.name=learned"), "These settings do not go together."),
        (("--dataset", "moons", "--set", "training.batch"), "not of the form key=value"),
        (("--dataset", "moons", "--set", "sampling.steps=9"), "9 steps were asked of a schedule with 8 times"),
        (("--dataset", "moons", "--set", "model=baseline"), "A model's name goes into model.name."),
        (("--dataset", "moons", "--set", "model.match_parameters=2"), "not allowed.\nmatch_parameters takes 2 or more"),
        (("--config", "named.toml"), "The setting model = 'baseline' is not allowed."),
        (("--dataset", "moons", "--config", "nowhere.toml"), "nowhere.toml cannot be read"),
        (("--dataset", "moons", "--columns", "x"), "--columns and --missing are for files"),
        (("--dataset", "nowhere.csv"), "neither a density nor a file"),
        (("--dataset", "people.csv"), "column 'city' is text in 200 rows"),
        (("--dataset", "people.csv", "--columns", "incom"), "Did you mean 'income'?"),
        (("--dataset", "people.csv", "--columns", "income,gap"), "column 'gap' has 1 missing value in 200 rows"),
        (("--dataset", "people.csv", "--columns", "income,flat"), "column 'flat' has the same value 7 in all 200 rows"),
        (("--dataset", "people.csv", "--columns", "income,huge"), "column 'huge' has 1 infinite value in 200 rows"),
        (("--dataset", "moons", "--set", "schedule.zero_terminal_snr=true"), "A noise prediction says nothing about x"),
        (("--dataset", "empty.csv"), "empty.csv is empty"),
        (("--dataset", "latin.csv"), "The column names of latin.csv are not UTF-8."),
        (("--dataset", "folder.csv"), "folder.csv is not a kind of file"),
        (("--dataset", "moons", "--run-dir", "folder.csv"), "folder.csv is not empty"),
        (("--dataset", "moons", "--run-dir", "empty.csv/run"), "empty.csv/run: Not a directory."),
        (("--resume", "--steps", "9"), "--resume keeps the run's own configuration"),
        (("--resume",), "There is no run under runs/"),
        (("--resume", "runs/nowhere"), "runs/nowhere is not a run"),
        (("runs/nowhere",), "Add --resume to finish it"),
    ],
)
def test_a_request_to_train_that_cannot_be_met_is_refused_and_leaves_nothing(
    words: Sequence[str], said: str, tmp_path: Path
) -> None:
    huge = [np.inf, *range(199)]
    write_people(tmp_path / "people.csv", city=["Rome"] * 200, flat=[7] * 200, gap=[None, *range(199)], huge=huge)
    (tmp_path / "empty.csv").touch()
    (tmp_path / "latin.csv").write_bytes("größe\n".encode("latin-1") + b"1\n2\n" * 20)
    (tmp_path / "named.toml").write_text('dataset = "moons"\nmodel = "baseline"\n', encoding="utf-8")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "folder.csv" / "something").touch()
    before = sorted(tmp_path.rglob("*"))
    extra = [] if {"--resume", "runs/nowhere"} & set(words) else TINY
    assert said in refused("train", *extra, *words)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sample", "RUN", "-o", "-", "--json"), "--json and --output - both want standard output."),
        (("sample", "RUN", "-o", "points.xlsx"), "'points.xlsx' is not a kind of file that can be written"),
        (("sample", "RUN", "-o", "file/points.csv"), "file/points.csv cannot be written"),
        (("sample", "RUN", "--sampler", "ancestor"), "The setting sampler = 'ancestor' is not allowed"),
        (("sample", "RUN", "--sample-steps", "9"), "9 steps were asked of a schedule with 8 times"),
        (("sample", "nowhere"), "nowhere is not a run"),
        (("sample",), "There is no run under runs/"),
        (("sample", "half"), "Finish it with `dualdiff train --resume half`."),
        (("evaluate", "half"), "Finish it with `dualdiff train --resume half`."),
        (("plot", "half"), "Finish it with `dualdiff train --resume half`."),
        (("evaluate", "RUN", "--samples", "nowhere.csv"), "There is no file nowhere.csv."),
        (("evaluate", "RUN", "--samples", "people.csv"), "people.csv has no column 'x'."),
        (("evaluate", "RUN", "--samples", "people.csv", "--exact"), "not about points in a file."),
        (("plot", "nowhere"), "nowhere is not a run"),
        (("sample", "broken"), "broken/config.toml is not TOML"),
    ],
)
def test_a_request_of_a_run_that_cannot_be_met_is_refused(words: Sequence[str], said: str, run: Path) -> None:
    for name, text in (("half", (run / "config.toml").read_text(encoding="utf-8")), ("broken", "x = = 1")):
        Path(name).mkdir()
        Path(name, "config.toml").write_text(text, encoding="utf-8")
    Path("file").touch()
    Path("broken", "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    write_people(Path("people.csv"))
    assert said in refused(*(run if word == "RUN" else word for word in words))


@pytest.mark.parametrize("command", ["train", "sample", "evaluate", "plot"])
def test_a_device_that_is_not_there_exits_with_4(
    command: str, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = ("--dataset", "moons") if command == "train" else (run,)
    assert "Device 'cuda' is not available" in refused(command, *words, "--device", "cuda", code=4)
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_an_error_arose_and_keeps_its_exit_code() -> None:
    result = dualdiff("train", "--dataset", "nowhere.csv", "--debug")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert "load_data" in result.stderr
    assert SENTENCES.search(result.stderr)


# Runs that are stopped

LONG = [
    *("--dataset", "eight-gaussians", *TINY, "--steps", "1500"),
    *("--set", "training.log_every=25", "--set", "training.checkpoint_every=100"),
]


@pytest.fixture(scope="module")
def whole(shared: Path) -> Path:
    return Path(answer("train", *LONG, "--run-dir", shared / "whole")["run"])


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start a training of its own process and wait until it has written a file of its run."""
    programs = []

    def start_and_wait(name: str) -> subprocess.Popen[str]:
        programs.append(program := start("train", *LONG, "--run-dir", "run", cwd=tmp_path))
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / name).exists() or not (tmp_path / "run" / name).stat().st_size:
            assert program.poll() is None, program.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        return program

    yield start_and_wait
    for program in programs:
        program.kill()
        program.communicate()


def assert_finishes_like(whole: Path, run: Path) -> None:
    assert answer("train", "--resume", run, "--device", "cpu")["steps"] == 1500
    for name in ("config.toml", "model.safetensors", "metrics.jsonl"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name


def test_ctrl_c_saves_the_state_and_resume_ends_in_the_bytes_of_a_run_that_was_not_stopped(
    running: Callable[[str], subprocess.Popen[str]], whole: Path
) -> None:
    program = running("metrics.jsonl")
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert program.returncode == 130
    assert out == ""
    stopped = re.search(r"^Error: Stopped after (\d+) of 1500 steps\.\n(.+)$", err, re.MULTILINE)
    assert stopped
    assert stopped[2] == "Everything is saved: go on with `dualdiff train --resume run`."
    assert "Traceback" not in err
    state = Run(Path("run")).load_state()
    assert state is not None
    assert state["trainer"]["step"] == int(stopped[1])
    assert 25 <= int(stopped[1]) < 1500
    assert refused("sample", "run") == (
        "Error: The run run has no trained model yet.\nFinish it with `dualdiff train --resume run`.\n"
    )
    assert_finishes_like(whole, Path("run"))


def test_a_killed_run_resumes_from_its_checkpoint_to_the_bytes_of_a_run_that_was_not(
    running: Callable[[str], subprocess.Popen[str]], whole: Path
) -> None:
    program = running("state.pt")
    program.kill()
    program.communicate(timeout=60)
    assert program.returncode == -signal.SIGKILL
    state = Run(Path("run")).load_state()
    assert state is not None
    assert 100 <= state["trainer"]["step"] < 1500
    assert_finishes_like(whole, Path("run"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_between_two_steps_and_its_handler_is_gone_afterwards(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, handler = Run.append_metrics, signal.getsignal(number)

    def append_and_signal(self: Run, records: Any) -> None:
        append(self, records)
        monkeypatch.setattr(Run, "append_metrics", append)
        signal.raise_signal(number)

    monkeypatch.setattr(Run, "append_metrics", append_and_signal)
    result = dualdiff("train", "--dataset", "line", *TINY, "--set", "training.log_every=10")
    assert (result.exit_code, result.stdout) == (130, "")
    assert "Stopping after this step" in result.stderr
    assert "Stopped after 10 of 30 steps.\n" in result.stderr
    assert signal.getsignal(number) is handler


def test_a_second_ctrl_c_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def signal_twice(self: Run, records: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Run, "append_metrics", signal_twice)
    result = dualdiff("train", "--dataset", "line", *TINY, "--set", "training.log_every=10")
    assert (result.exit_code, result.stdout) == (130, "")
    assert "Error: Interrupted.\n" in result.stderr


def test_a_data_file_that_changed_is_refused_at_resume(tmp_path: Path) -> None:
    write_people(tmp_path / "people.csv")
    answer("train", "--dataset", "people.csv", "--model", "baseline", *TINY)
    write_people(tmp_path / "people.csv", more=list(range(200)))
    said = "The file people.csv has changed since the run runs/people-baseline-1 was begun."
    assert said in refused("train", "--resume")
