"""Every code block of README.md and of the pages in docs/, line by line and in its order, each page in a directory.

What would take minutes runs with the small settings of the tables below. A line that cannot run in a test stands in
`NOT_RUN`, and a page in `PAGES_NOT_RUN`, each with the reason. A key of a table that is in no block fails the test, so
that none of them is forgotten. A training that several pages ask for with the same words runs once, and the other pages
get a copy of its run.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from commands import dualdiff, settings

from dualdiff_cli import seeding
from dualdiff_cli.jobs.evaluate import evaluate

ROOT = Path(__file__).parents[2]
NETWORK = settings(
    *("model.width=8", "model.blocks=1", "model.gate_hidden=[8]", "objective.references=0", "sampling.steps=4"),
    *("folds.levels=4", "folds.bands=2"),
)
SIZES = settings("data.points=300", "data.held_out_points=300")
PRECISE = ["--recipe", "precise", "--steps", "9", *NETWORK]
"""The recipe that the many rows of a density get. The animals take it, too, because it makes small exports; the
penguins keep the recipe for few rows.
"""

PAGES_NOT_RUN = {
    "docs/reproduction.md": "Its three commands are the parts of the one that docs/tutorial-paper.md has.",
}
NOT_RUN = {
    "python -m pip install -c constraints.txt .": "The tests run in the environment that this line makes.",
    "dualdiff bench --output after.json": "It is the command before it, whose record is copied.",
    "python -m pip install nox && python -m nox": "These are the checks that this test is a part of.",
}
SMALLER: dict[str, list[str]] = {
    "dualdiff train circle": [*PRECISE, *SIZES],
    "dualdiff train moons": [*PRECISE, *SIZES],
    "dualdiff train animals.csv": PRECISE,
    "dualdiff train moons --recipe paper --model dual-expert --run-dir runs/by-the-paper": [
        *("--steps", "9"),
        *NETWORK,
        *SIZES,
        *settings("schedule.length=8", "sampling.steps=8"),
    ],
    "dualdiff train penguins.csv --columns bill_length_mm,flipper_length_mm,species": ["--steps", "9", *NETWORK],
    "dualdiff train penguins.csv --columns bill_length_mm,flipper_length_mm --run-dir runs/sizes": [
        *("--steps", "9"),
        *NETWORK,
    ],
    "dualdiff train --dataset penguins.csv --run-dir runs/penguins": ["--steps", "9", *NETWORK],
    "dualdiff evaluate runs/penguins --target species": ["-n", "200"],
    "dualdiff compare --dataset penguins.csv --model mixture --model dual-expert --set data.held_out_fraction=0.3 "
    "--run-dir comparison": ["-n", "200", "--steps", "9", *NETWORK],
    "dualdiff explore --given species=Gentoo -o gentoo": ["--points", "20", "--frames", "3"],
    "dualdiff sample -n 10k -o samples.parquet": ["-n", "500"],
    "dualdiff evaluate runs/by-the-paper --diagnose": ["-n", "200"],
    "dualdiff evaluate --from circle.onnx": ["-n", "200"],
    "dualdiff explore --dataset two-modes -o page": ["--points", "20", "--frames", "3"],
    "dualdiff explore -o moons": ["--points", "20", "--frames", "3"],
    "dualdiff animate --dataset two-modes -o two-modes.gif": ["--points", "20", "--frames", "3"],
    "dualdiff animate --sampler ddim -o moons.gif": ["--points", "20", "--frames", "3"],
    "dualdiff reproduce all --seeds 3 --jobs 2": [
        *("--seeds", "1", "--jobs", "1", "--steps", "5", "--dataset", "line"),
        *settings("model.width=8", "model.blocks=1", "model.gate_hidden=[8]", "schedule.length=8", "sampling.steps=8"),
        *SIZES,
    ],
    "dualdiff export -o circle.onnx": ["--sampler", "ddim", "--sample-steps", "4"],
    "dualdiff export -o animals.onnx": ["--sampler", "ddim", "--sample-steps", "4"],
    "dualdiff export -o animals.onnx --given": ["--sampler", "ddim", "--sample-steps", "4"],
    "dualdiff export -o small.onnx --sampler dpmpp-2m --sample-steps 20": ["--sample-steps", "4", "-o", "small.ts"],
    "dualdiff export -o denoiser.onnx --what denoiser": ["-o", "denoiser.ts"],
    "dualdiff bench --output before.json": [
        *("--dataset", "line", "--model", "baseline", "--task", "sample", "--backend", "eager", "-n", "100"),
        *("--repeats", "2", "--seconds", "0"),
        *settings("model.width=8", "model.blocks=1"),
        *SIZES,
    ],
}
"""The words that are added to a command to make it small; the last of two equal options counts."""
SMALLER_PYTHON = {
    "steps=1500": "steps=9, settings={'model.width': 8, 'folds.levels': 4, 'folds.bands': 2, 'sampling.steps': 4}",
    ".sample(1000)": ".sample(100)",
    ".evaluate()": ".evaluate(n=200)",
    '"training.steps=2000"': '"training.steps=9", "model.width=8", "data.points=300", "data.held_out_points=300"',
    "evaluate(run)": "evaluate(run, n=200)",
    "torch.randn(1000, 2)": "torch.zeros(3, 2)",
    '"simulation.onnx"': '"simulation.ts"',
}
"""What is written in place of parts of the Python blocks."""


def blocks(page: str) -> list[tuple[str, str]]:
    """Give the language and the text of every code block of a page."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)


PAGES = [
    page
    for page in ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
    if page not in PAGES_NOT_RUN and any(language in ("console", "python") for language, _ in blocks(page))
]


def lines(language: str) -> Iterator[str]:
    for page in PAGES:
        for found, text in blocks(page):
            if found == language:
                yield from text.splitlines()


def test_every_block_is_of_a_known_language() -> None:
    shown = {"math", "text"}
    assert {language for page in PAGES for language, _ in blocks(page)} <= {"console", "python", *shown}


def test_the_tables_of_this_test_name_what_is_in_the_blocks() -> None:
    assert NOT_RUN.keys() | SMALLER.keys() <= set(lines("console"))
    python = "\n".join(lines("python"))
    assert all(part in python for part in SMALLER_PYTHON)
    assert all(blocks(page) for page in PAGES_NOT_RUN)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the files that the pages name."""
    folder = tmp_path_factory.mktemp("pages") / "files"
    folder.mkdir()
    write_files(folder)
    return folder


@dataclass
class Trained:
    """The runs that lines of the pages have trained so far, copied into a folder."""

    folder: Path
    runs: dict[str, Path] = field(default_factory=dict)


@pytest.fixture(scope="session")
def trained_before(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw few rows for scores and pages."""
    for place in ("jobs.report.PICTURED", "paper.reproduce.POINTS"):
        monkeypatch.setattr(f"dualdiff_cli.{place}", 300)
    monkeypatch.setattr("dualdiff_cli.jobs.report.evaluate", partial(evaluate, n=300))
    monkeypatch.setattr("dualdiff_cli.jobs.explore.MODEL_CELLS", 8)


@pytest.mark.usefixtures("_cheap")
@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_runs(tmp_path: Path, page: str, files: Path, trained_before: Trained) -> None:
    for path in files.iterdir():
        (tmp_path / path.name).symlink_to(path)  # a run keeps the place of its file
    for language, text in blocks(page):
        if language == "python":
            run_python(text)
        elif language == "console":
            for line in text.splitlines():
                if line.startswith("dualdiff train "):
                    run_training(line, trained_before)
                else:
                    run_line(line)


def run_training(line: str, trained_before: Trained) -> None:
    """Run a training, or take its run from a page that has the same line."""
    if (before := trained_before.runs.get(line)) is not None:
        shutil.copytree(before, Path("runs", before.name), copy_function=shutil.copyfile)  # now it is the newest run
        return
    known = set(Path("runs").glob("*"))
    run_line(line)
    (made,) = set(Path("runs").glob("*")) - known
    trained_before.runs[line] = shutil.copytree(made, trained_before.folder / str(len(trained_before.runs)) / made.name)


def write_files(folder: Path) -> None:
    """Write the files that the pages name."""
    rng = seeding.stream(0, "simulation")
    columns = {"mass": rng.normal(size=300), "energy": rng.exponential(size=300), "hits": rng.integers(0, 9, 300)}
    pl.DataFrame(columns).write_csv(folder / "simulation.csv")
    weights = [None if i % 20 == 0 else float(w) for i, w in enumerate(rng.normal(10, 2, 300))]
    animals = {"animal": rng.choice(["cat", "dog"], 300), "weight": weights, "is_tame": rng.random(300) < 0.6}
    pl.DataFrame(animals).write_csv(folder / "animals.csv")
    species = rng.choice(["Adelie", "Chinstrap", "Gentoo"], 300)
    lengths = {"bill_length_mm": rng.normal(44, 5, 300), "flipper_length_mm": rng.integers(172, 232, 300)}
    penguins = pl.DataFrame({"species": species, **lengths}).with_columns(
        pl.when(pl.int_range(300) != 3).then(pl.col(name)).name.keep() for name in lengths
    )
    penguins.write_csv(folder / "penguins.csv", null_value="NA")
    shutil.copytree(ROOT / "examples", folder / "examples")


def run_python(text: str) -> None:
    for part, smaller in SMALLER_PYTHON.items():
        text = text.replace(part, smaller)
    exec(compile(text, "block", "exec"), {})


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
