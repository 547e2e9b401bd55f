from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commands import TINY_WORDS, answer


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
