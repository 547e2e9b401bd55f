"""What a shell completes, and that no completion waits for torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dualdiff_cli.cli import completion
from dualdiff_cli.config.registry import SAMPLERS


def made(*runs: str) -> None:
    for i, run in enumerate(runs):
        Path(run).mkdir(parents=True)
        config = Path(run, "config.toml")
        config.touch()
        os.utime(config, (i, i))


def test_names_are_completed_from_their_beginning() -> None:
    assert completion.complete_samplers("dpmpp") == ["dpmpp-2m", "dpmpp-2m-sde", "dpmpp-3m"]
    assert completion.complete_samplers("") == list(SAMPLERS)
    assert completion.complete_models("MIX") == ["mixture"]
    assert completion.complete_models_and_peers("vine") == ["vine-copula"]
    assert completion.complete_recipes("few") == ["few-rows"]
    assert completion.complete_tables("fig") == ["figures"]


def test_runs_are_completed_with_the_newest_first() -> None:
    made("runs/moons-1", "runs/line-1", "runs/moons-2", "elsewhere/moons-3")
    assert completion.complete_runs("") == ["runs/moons-2", "runs/line-1", "runs/moons-1"]
    assert completion.complete_runs("runs/mo") == ["runs/moons-2", "runs/moons-1"]
    assert completion.complete_runs("elsewhere/") == ["elsewhere/moons-3"]
    assert completion.complete_runs("x") == []


def test_data_sets_are_densities_files_that_can_be_read_and_folders() -> None:
    Path("data").mkdir()
    for name in ("moon.csv", "moon.txt~", ".moon.csv", "data/more.parquet"):
        Path(name).touch()
    assert completion.complete_datasets("mo") == ["moons", "moon.csv"]
    assert completion.complete_datasets("da") == ["data/"]
    assert completion.complete_datasets("data/") == ["data/more.parquet"]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("dualdiff train moo", "moons"),
        ("dualdiff train --model kern", "kernel-density"),
        ("dualdiff sample ru", "runs/moons-1"),
        ("dualdiff sample --sampler dd", "ddim"),
        ("dualdiff compare --dataset moo", "moons"),
        ("dualdiff reproduce table", "table2"),
    ],
)
def test_the_program_answers_a_shell_without_torch(words: str, offered: str) -> None:
    made("runs/moons-1")
    environment = {
        **os.environ,
        "_DUALDIFF_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    code = (
        "import atexit, sys; from dualdiff_cli.__main__ import main; sys.argv = ['dualdiff']; "
        "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); main()"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert offered in done.stdout.split()
    assert done.stderr == "False\n"
