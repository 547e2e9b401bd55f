"""Files that earlier versions wrote: they are read as they were, or refused with a sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kept import answers_of_file, answers_of_model
from numpy.testing import assert_allclose

from dualdiff_cli.errors import InputError
from dualdiff_cli.exporting.metadata import FORMAT_VERSION
from dualdiff_cli.exporting.runtime import ExportedModel
from dualdiff_cli.jobs.train import resume
from dualdiff_cli.models import load_model
from dualdiff_cli.store.run import FORMAT, OLDEST, Run

pytestmark = pytest.mark.slow

KEPT = Path(__file__).parent / "formats"
RUNS = sorted(path.parent for path in KEPT.glob("run-*/*/model.json"))
STOPPED = sorted(KEPT.glob("run-*/stopped"))
EXPORTS = sorted(KEPT.glob("export-*/*.onnx"))
CPU = torch.device("cpu")


def version(path: Path) -> int:
    return int(path.parent.name.partition("-")[2])


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def read(load: Callable[[], Any], version: int, oldest: int) -> Any:
    """Read a file of a version that is read, and one of an earlier version unless it is refused, which is None."""
    if version >= oldest:
        return load()
    try:
        return load()
    except InputError as error:
        refusal = error
    assert "version" in refusal.problem
    return None


def kept_answers(path: Path) -> Any:
    return json.loads((path.parent / "answers.json").read_text(encoding="utf-8"))


def test_files_of_the_current_versions_are_kept() -> None:
    assert {path.name for path in KEPT.iterdir() if path.is_dir()} >= {f"run-{FORMAT}", f"export-{FORMAT_VERSION}"}
    assert {path.name for path in RUNS if version(path) == FORMAT} == {
        *("paper", "precise", "few-rows", "mixture", "kernel-density", "spline-flow", "tabddpm")
    }
    assert STOPPED
    assert EXPORTS


@pytest.mark.parametrize("path", RUNS, ids=name)
def test_a_run_is_the_model_that_it_was_or_is_refused_with_what_to_do(path: Path) -> None:
    if model := read(lambda: load_model(Run.open(path), device=CPU), version(path), OLDEST):
        assert_allclose(answers_of_model(model), kept_answers(path)[path.name], rtol=1e-4, atol=1e-4)
        for file in Run(path).load_data(), Run(path).load_training(), Run(path).load_metrics():
            assert file is not None


@pytest.mark.parametrize("path", STOPPED, ids=name)
def test_a_training_goes_on_where_it_was_stopped_or_is_refused_with_what_to_do(path: Path, tmp_path: Path) -> None:
    run = Run(shutil.copytree(path, tmp_path / "run"))
    if state := read(run.load_state, version(path), OLDEST):
        assert 0 < state["trainer"]["step"] < run.config.training.steps
        assert resume(run, device="cpu")["steps"] == run.config.training.steps


@pytest.mark.parametrize("path", EXPORTS, ids=name)
def test_an_exported_file_does_what_it_did_or_is_refused_with_what_to_do(path: Path) -> None:
    if model := read(lambda: ExportedModel.open(path, device="cpu"), version(path), FORMAT_VERSION):
        assert_allclose(answers_of_file(model), kept_answers(path), rtol=1e-4, atol=1e-4)
