"""Every code block of README.md, line by line and in its order, in one empty directory with a data file.

What would take minutes runs with the small settings of the tables below. A line that cannot run in a test stands in
`NOT_RUN` with the reason; a key of a table that is in no block fails the test, so that none of them is forgotten.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from commands import dualdiff, settings

from dualdiff_cli import seeding

ROOT = Path(__file__).parents[2]
NETWORK = settings("model.width=8", "model.blocks=1", "model.gate_hidden=[8]", "objective.references=0")
SIZES = settings("data.points=300", "data.held_out_points=300")

NOT_RUN = {
    "python -m pip install -c constraints.txt .": "The tests run in the environment that this line makes.",
    "python -m pip install nox && python -m nox": "These are the checks that this test is a part of.",
}
SMALLER: dict[str, list[str]] = {
    "dualdiff train circle": ["--steps", "9", *NETWORK, *SIZES],
    "dualdiff train simulation.csv --columns mass,energy,hits": ["--steps", "9", *NETWORK],
    "dualdiff sample -n 100k -o samples.parquet": ["-n", "500"],
    "dualdiff evaluate": ["-n", "200"],
    "dualdiff reproduce all --seeds 3 --jobs 2": [
        *("--seeds", "1", "--jobs", "1", "--steps", "5", "--dataset", "line"),
        *settings("model.width=8", "model.blocks=1", "model.gate_hidden=[8]"),
        *SIZES,
    ],
    "dualdiff export -o circle.onnx": ["--sampler", "ddim", "--sample-steps", "4"],
    "dualdiff bench --output before.json": [
        *("--dataset", "line", "--model", "baseline", "--task", "sample", "--backend", "eager", "-n", "100"),
        *("--repeats", "2", "--seconds", "0"),
        *settings("model.width=8", "model.blocks=1"),
        *SIZES,
    ],
}
"""The words that are added to a command to make it small; the last of two equal options counts."""
SMALLER_PYTHON = {
    "steps=1500": "steps=9, settings={'model.width': 8, 'model.blocks': 1}",
    ".evaluate()": ".evaluate(n=200)",
    '"training.steps=2000"': '"training.steps=9", "model.width=8", "data.points=300", "data.held_out_points=300"',
    "evaluate(run)": "evaluate(run, n=200)",
}
"""What is written in place of parts of the Python blocks."""


def blocks() -> list[tuple[str, str]]:
    """Give the language and the text of every code block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)


def lines(language: str) -> Iterator[str]:
    for found, text in blocks():
        if found == language:
            yield from text.splitlines()


def test_every_block_is_of_a_language_that_is_run() -> None:
    assert {language for language, _ in blocks()} == {"console", "python"}


def test_the_tables_of_this_test_name_what_is_in_the_blocks() -> None:
    assert NOT_RUN.keys() | SMALLER.keys() <= set(lines("console"))
    python = "\n".join(lines("python"))
    assert all(part in python for part in SMALLER_PYTHON)


def test_every_block_runs(tmp_path: Path) -> None:
    rng = seeding.stream(0, "simulation")
    columns = {"mass": rng.normal(size=300), "energy": rng.exponential(size=300), "hits": rng.integers(0, 9, 300)}
    pl.DataFrame(columns).write_csv(tmp_path / "simulation.csv")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for language, text in blocks():
        if language == "python":
            run_python(text)
        else:
            for line in text.splitlines():
                run_line(line)


def run_python(text: str) -> None:
    for part, smaller in SMALLER_PYTHON.items():
        text = text.replace(part, smaller)
    exec(compile(text, "README.md", "exec"), {})


def run_line(line: str) -> None:
    if line in NOT_RUN:
        return
    words = [*shlex.split(line), *SMALLER.get(line, [])]
    if words[0] == "python":
        subprocess.run([sys.executable, *words[1:]], check=True)
        return
    assert words[0] == "dualdiff", line
    if words[1:3] == ["bench", "compare"]:
        shutil.copy("before.json", "after.json")
    result = dualdiff(*words[1:])
    assert result.exit_code == 0, f"{line}: {result.stderr}"


@pytest.mark.parametrize("line", [line for line in NOT_RUN if "pip install -c" in line])
def test_the_files_that_the_installation_names_are_there(line: str) -> None:
    assert (ROOT / shlex.split(line)[shlex.split(line).index("-c") + 1]).is_file()
    assert (ROOT / "pyproject.toml").is_file()
