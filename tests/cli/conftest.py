from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import TINY_WORDS, Start, answer, start


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for the runs that several tests look at."""
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="session")
def trained(elsewhere: Path) -> dict[str, Any]:
    """What `train --json` says of a gated model of a density."""
    return answer("train", "--dataset", "moons", *TINY_WORDS, "--run-dir", elsewhere / "moons")


@pytest.fixture(scope="session")
def run(trained: dict[str, Any]) -> Path:
    return Path(trained["run"])


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Start]:
    """Start the program in the directory of the test, and wait until something is true."""
    programs = []

    def run(*words: str | Path, until: Callable[[subprocess.Popen[str]], bool]) -> subprocess.Popen[str]:
        programs.append(program := start(*words, cwd=tmp_path))
        deadline = time.monotonic() + 120
        while not until(program):
            assert program.poll() is None, program.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return program

    yield run
    for program in programs:
        program.kill()
        program.communicate()
