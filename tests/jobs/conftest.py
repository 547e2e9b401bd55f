from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conditions import quick_request, write_known_rows
from painting import painted
from people import write_people
from short_runs import QUICK, short, simple

from dualdiff_cli.jobs.train import train


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for the runs that several files of tests look at."""
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="session")
def trained(shared: Path) -> dict[str, Any]:
    """The record of a gated model of a density with known modes, with its pictures."""
    with painted():
        return train(short("eight-gaussians"), path=shared / "gated", device="cpu")


@pytest.fixture(scope="session")
def of_people(shared: Path) -> dict[str, Any]:
    """The record of a single network of a file with a column of whole numbers."""
    people = write_people(shared / "people.csv", n=300)
    with painted():
        return train(short(str(people), model="baseline"), path=shared / "people", device="cpu")


@pytest.fixture(scope="session", params=QUICK)
def simpler(request: pytest.FixtureRequest, shared: Path) -> dict[str, Any]:
    """The record of each model that is no diffusion model."""
    with painted():
        return train(simple(request.param), path=shared / request.param, device="cpu")


@pytest.fixture(scope="session")
def file_with_gaps(shared: Path) -> Path:
    """A file of rows with known conditional distributions, of which 5 % of the cells are missing."""
    return write_known_rows(shared / "known.csv", gaps=0.05)


@pytest.fixture(scope="session")
def of_gaps(file_with_gaps: Path, shared: Path) -> dict[str, Any]:
    """The record of a model of that file, which answers questions about any of its columns."""
    return train(quick_request(file_with_gaps), path=shared / "known", device="cpu")
