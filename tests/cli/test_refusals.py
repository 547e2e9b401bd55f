"""Requests that cannot be met: the input that is named, the word of the remedy, and the exit code."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from commands import SENTENCES, TINY_WORDS, answer, dualdiff, refused, settings
from people import write_people

from dualdiff_cli.exporting.metadata import FORMAT_VERSION
from dualdiff_cli.store.atomic import write_json

MOONS = ("--dataset", "moons")
PEOPLE = ("--dataset", "people.csv")


@pytest.mark.parametrize(
    ("words", "problem", "remedy"),
    [
        ((), "No data set", "dualdiff datasets"),
        (("--dataset", "moon"), "'moon'", "'moons'"),
        ((*MOONS, "--model", "dual-exprt"), "'dual-exprt'", "'dual-expert'"),
        ((*MOONS, "--recipe", "papre"), "'papre'", "'paper'"),
        ((*MOONS, "--device", "tpu"), "'tpu'", "cpu"),
        ((*MOONS, *settings("training.bach=3")), "'bach'", "'batch'"),
        ((*MOONS, *settings("training.batch=big")), "training.batch = 'big'", "integer"),
        ((*MOONS, *settings("schedule.name=learned")), "go together", "objective.weighting=likelihood"),
        ((*MOONS, *settings("data.kinds.x=angel")), "'angel'", "'angle'"),
        ((*MOONS, "--constraint", "a = b", "--constraint", "1 + c = a"), "'a = b' and '1 + c = a'", "another column"),
        ((*MOONS, *settings("training.batch")), "'training.batch'", "training.batch=512"),
        ((*MOONS, *settings("sampling.steps=9")), "9 steps were asked of a schedule with 8 times", "at most 8"),
        ((*MOONS, *settings("model=baseline")), "model = 'baseline'", "model.name"),
        ((*MOONS, *settings("model.match_parameters=2")), "model", "match_parameters"),
        (("--config", "named.toml"), "model = 'baseline'", "model.name"),
        ((*MOONS, "--config", "nowhere.toml"), "nowhere.toml", "--config"),
        ((*MOONS, "--columns", "x"), "--columns", "--dataset"),
        (("--dataset", "nowhere.csv"), "'nowhere.csv'", ".csv"),
        (PEOPLE, "'huge' has 1 infinite value", "--columns 'age (years),income,city,gap'"),
        ((*PEOPLE, "--columns", "incom"), "'incom'", "'income'"),
        ((*PEOPLE, "--columns", "income,gap", "--missing", "error"), "'gap' has 1 missing value", "--missing drop"),
        ((*PEOPLE, "--columns", "income,huge"), "'huge' has 1 infinite value", "Remove"),
        ((*MOONS, *settings("schedule.zero_terminal_snr=true")), "noise prediction", "prediction="),
        (("--dataset", "empty.csv"), "empty.csv", "rows"),
        (("--dataset", "zeros.csv"), "zeros.csv", "suffix"),
        (("--dataset", "folder.csv"), "folder.csv", ".csv"),
        ((*MOONS, "--run-dir", "folder.csv"), "folder.csv is not empty", "Use another one."),
        ((*MOONS, "--run-dir", "empty.csv/run"), "empty.csv/run: Not a directory", "another place"),
        (("--resume", "--steps", "9"), "--resume", "new run"),
        (("--resume",), "runs/", "Train"),
        (("--resume", "runs/nowhere"), "runs/nowhere", "`train`"),
        (("runs/nowhere",), "runs/nowhere", ".csv"),
        (("moons", *MOONS), "--dataset moons", "one data set"),
    ],
)
def test_a_request_to_train_that_cannot_be_met_is_refused_and_leaves_nothing(
    words: Sequence[str], problem: str, remedy: str, tmp_path: Path
) -> None:
    huge = [np.inf, *range(199)]
    write_people(tmp_path / "people.csv", city=["Rome"] * 200, gap=[None, *range(199)], huge=huge)
    (tmp_path / "empty.csv").touch()
    (tmp_path / "zeros.csv").write_bytes(bytes(100))
    (tmp_path / "named.toml").write_text('dataset = "moons"\nmodel = "baseline"\n', encoding="utf-8")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "folder.csv" / "something").touch()
    before = sorted(tmp_path.rglob("*"))
    extra = [] if {"--resume", "runs/nowhere"} & set(words) else TINY_WORDS
    assert_said(refused("train", *extra, *words), problem, remedy)
    assert sorted(tmp_path.rglob("*")) == before


def assert_said(stderr: str, problem: str, remedy: str) -> None:
    said = stderr.splitlines()
    assert problem in said[0]
    assert remedy in said[1]


@pytest.mark.parametrize(
    ("words", "problem", "remedy"),
    [
        (("sample", "RUN", "-o", "-", "--json"), "--json and --output -", "--output a file"),
        (("sample", "RUN", "-o", "points.docx"), "'points.docx'", ".csv"),
        (("sample", "RUN", "-o", "file/points.csv"), "file/points.csv", "another"),
        (("sample", "RUN", "--sampler", "ancestor"), "'ancestor'", "'ancestral'"),
        (("sample", "RUN", "--sample-steps", "9"), "9 steps were asked of a schedule with 8 times", "at most 8"),
        (("sample", "nowhere"), "nowhere is not a run", "`train`"),
        (("sample",), "runs/", "Train"),
        (("sample", "half"), "half has no trained model", "--resume half"),
        (("evaluate", "half"), "half has no trained model", "--resume half"),
        (("plot", "half"), "half has no trained model", "--resume half"),
        (("export", "half"), "half has no trained model", "--resume half"),
        (("export", "RUN", "--given"), "not learnt to draw some columns when others are given", "--given"),
        (("export", "RUN", "--given", "--what", "denoiser"), "--given is about samplers", "--what"),
        (("evaluate", "RUN", "--samples", "nowhere.csv"), "nowhere.csv", "path"),
        (("evaluate", "RUN", "--samples", "people.csv"), "people.csv has no column 'x'", "income"),
        (("evaluate", "RUN", "--samples", "people.csv", "--exact"), "--exact", "--samples"),
        (("evaluate", "RUN", "--samples", "people.csv", "--precision", "bfloat16"), "--precision", "Leave"),
        (("evaluate", "RUN", "--samples", "people.csv", "-n", "100"), "-n", "--samples"),
        (("train", "--reflow", "RUN", "--model", "kernel-density"), "'kernel-density' cannot take part", "--reflow"),
        (("report", "RUN", "-o", "file/page.html"), "file/page.html: Not a directory", "another place"),
        (("evaluate", "RUN", "--trust"), "--trust", "--from"),
        (("evaluate", "--samples", "people.csv", "--against", "people.csv", "--trust"), "--trust", "--from"),
        (("sample", "RUN", "--trust"), "--trust", "--from"),
        (("evaluate", "--samples", "gaps.csv", "--against", "gaps.csv"), "'gap' has 1 infinite value", "Mend"),
        (("evaluate", "RUN", "--samples", "gaps.csv", "--against", "gaps.csv"), "gaps.csv has no column 'x'", "gap"),
        (("plot", "nowhere"), "nowhere is not a run", "`train`"),
        (("sample", "broken"), "broken/config.toml is not TOML: Invalid value (at line 1", "Restore"),
        (("sample", "unknown"), "unknown/config.toml is damaged: There is no setting 'depth2'", "Restore"),
        (("evaluate", "newer"), "newer was written by a newer version", "Install"),
        (("evaluate", "--samples", "gaps.csv", "--against", "gaps.csv", "--exact"), "--exact", "--samples"),
        (("sample", "RUN", "--from", "model.onnx"), "model.onnx", "Leave one of them out"),
        (("evaluate", "RUN", "--from", "model.onnx"), "model.onnx", "Leave one of them out"),
        (("evaluate", "--from", "model.onnx", "--exact"), "--from", "--exact"),
        (("sample", "--from", "model.onnx"), "model.onnx", "`dualdiff export`"),
        (("export", "RUN", "--format", "onx"), "'onx'", "'onnx'"),
        (("export", "RUN", "--sampler", "adaptive"), "'adaptive'", "--sampler"),
        (("export", "RUN", "--format", "pt2", "--opset", "20"), "opset", "--opset"),
    ],
)
def test_a_request_of_a_run_that_cannot_be_met_is_refused(
    words: Sequence[str], problem: str, remedy: str, run: Path
) -> None:
    own = (run / "config.toml").read_text(encoding="utf-8")
    later = own.replace("[model]", "[model]\ndepth2 = 3")
    for name, text in (("half", own), ("broken", "x = = 1"), ("unknown", later), ("newer", later)):
        Path(name).mkdir()
        Path(name, "config.toml").write_text(text, encoding="utf-8")
    write_json(Path("newer", "model.json"), {"format_version": 99})
    Path("file").touch()
    Path("broken", "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    write_people(Path("people.csv"))
    Path("gaps.csv").write_text("gap,full\ninf,1\n" + "1,2\n2,3\n" * 20, encoding="utf-8")
    assert_said(refused(*(run if word == "RUN" else word for word in words)), problem, remedy)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("export",), "dual-expert"),
        (("evaluate", "--diagnose"), "--diagnose"),
        (("sample", "--sampler", "heun"), "--sampler"),
        (("sample", "--sample-steps", "4"), "--sample-steps"),
        (("evaluate", "--precision", "bfloat16"), "--precision"),
        (("train", "--dataset", "moons", "--model", "mixture", "--recipe", "paper"), "--recipe"),
        (("train", "--dataset", "moons", "--model", "mixture", "--experts", "3"), "--experts"),
        (("train", "--dataset", "moons", "--model", "mixture", "--steps", "3"), "--steps"),
    ],
)
def test_what_only_diffusion_models_can_do_is_refused_of_a_mixture(words: Sequence[str], named: str) -> None:
    small = settings("data.points=100", "data.held_out_points=100", "model.components=1")
    answer("train", "--dataset", "moons", "--model", "mixture", *small)
    assert named in refused(*words)


def test_options_of_the_network_are_refused_of_an_exported_file() -> None:
    kept = Path(__file__).parents[1] / "formats" / f"export-{FORMAT_VERSION}" / "sampler.onnx"
    file = shutil.copy(kept, "model.onnx")
    for option, value in (("--precision", "bfloat16"), ("--compile", "on")):
        said = refused("sample", "--from", file, option, value, "--device", "cpu")
        assert_said(said, f"{option} does not apply to the exported file model.onnx", f"Leave {option} out")
    assert_said(refused("sample", "--from", file, "--sampler", "heun", "--device", "cpu"), "model.onnx", "--sampler")


@pytest.mark.parametrize("command", ["train", "sample", "evaluate", "plot"])
def test_a_device_that_is_not_there_exits_with_4(
    command: str, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = MOONS if command == "train" else (run,)
    assert_said(refused(command, *words, "--device", "cuda", code=4), "'cuda'", "--device cpu")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ("animate", "--dataset", "moons"),
        ("explore", "--dataset", "moons"),
        ("evaluate", "--samples", "people.csv", "--against", "people.csv"),
        ("report", "compared.json"),
    ],
)
def test_a_device_that_is_not_there_is_refused_also_where_no_model_is_loaded(words: Sequence[str]) -> None:
    write_people(Path("people.csv"))
    Path("compared.json").touch()
    before = sorted(Path().iterdir())
    assert "cuda:99" in refused(*words, "--device", "cuda:99", code=4)
    assert "'nonsense'" in refused(*words, "--device", "nonsense")
    assert sorted(Path().iterdir()) == before


def test_a_device_that_is_not_there_for_the_comparison_of_an_export_exits_with_4(run: Path) -> None:
    words = ("export", run, "--what", "denoiser", "--format", "pt2", "--device", "cuda:99")
    assert "cuda:99" in refused(*words, code=4)


def test_debug_shows_where_an_error_arose_and_keeps_its_exit_code() -> None:
    result = dualdiff("train", "--dataset", "nowhere.csv", "--debug")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert "load_data" in result.stderr
    assert SENTENCES.search(result.stderr)
