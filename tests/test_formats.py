"""Files that earlier versions wrote: they are read as they were, or refused with a sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from dualdiff_cli.errors import InputError
from dualdiff_cli.exporting.metadata import FORMAT_VERSION
from dualdiff_cli.exporting.runtime import ExportedModel
from dualdiff_cli.jobs.train import resume
from dualdiff_cli.models import Model, load_model
from dualdiff_cli.store.run import FORMAT, Run

KEPT = Path(__file__).parent / "formats"
RUNS = sorted(path.parent for path in KEPT.glob("run-*/*/model.json"))
STOPPED = sorted(KEPT.glob("run-*/stopped"))
EXPORTS = sorted(KEPT.glob("export-*/*.onnx"))
CPU = torch.device("cpu")


def version(path: Path) -> int:
    return int(path.parent.name.partition("-")[2])


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def read(load: Callable[[], Any], version: int, current: int) -> Any:
    """Read a file of the current version, and one of an earlier version unless it is refused; None stands for that."""
    if version == current:
        return load()
    try:
        return load()
    except InputError as error:
        refusal = error
    assert "version" in refusal.problem
    return None


def assert_draws(model: Model, expected: dict[str, list[float]]) -> None:
    rows = model.sample(len(next(iter(expected.values()))), seed=0)
    assert_frame_equal(rows, pl.DataFrame(expected), rel_tol=1e-3, abs_tol=1e-3)


def test_files_of_the_current_versions_are_kept() -> None:
    assert {path.name for path in KEPT.iterdir() if path.is_dir()} >= {f"run-{FORMAT}", f"export-{FORMAT_VERSION}"}
    assert {path.name for path in RUNS if version(path) == FORMAT} == {
        *("paper", "precise", "few-rows", "mixture", "kernel-density", "spline-flow")
    }
    assert STOPPED
    assert EXPORTS


@pytest.mark.parametrize("path", RUNS, ids=name)
def test_a_run_draws_the_rows_that_it_drew_or_is_refused_with_what_to_do(path: Path) -> None:
    if model := read(lambda: load_model(Run.open(path), device=CPU), version(path), FORMAT):
        assert_draws(model, json.loads((path.parent / "rows.json").read_text(encoding="utf-8"))[path.name])
        for file in Run(path).load_data(), Run(path).load_training(), Run(path).load_metrics():
            assert file is not None


@pytest.mark.parametrize("path", STOPPED, ids=name)
def test_a_training_goes_on_where_it_was_stopped_or_is_refused_with_what_to_do(path: Path, tmp_path: Path) -> None:
    run = Run(shutil.copytree(path, tmp_path / "run"))
    if state := read(run.load_state, version(path), FORMAT):
        assert 0 < state["trainer"]["step"] < run.config.training.steps
        assert resume(run, device="cpu")["steps"] == run.config.training.steps


@pytest.mark.parametrize("path", EXPORTS, ids=name)
def test_an_exported_file_draws_the_rows_that_it_drew_or_is_refused_with_what_to_do(path: Path) -> None:
    if model := read(lambda: ExportedModel.open(path, device="cpu"), version(path), FORMAT_VERSION):
        assert_draws(model, json.loads((path.parent / "rows.json").read_text(encoding="utf-8")))
