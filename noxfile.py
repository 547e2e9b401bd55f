"""The project's checks: `nox` runs the default ones, `nox -s NAME` any other; pyproject.toml says what they need."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True

PROJECT = nox.project.load_toml("pyproject.toml")
PINNED = ("-c", "constraints.txt")


def group(name: str) -> list[str]:
    return nox.project.dependency_groups(PROJECT, name)


@nox.session
def lint(session: nox.Session) -> None:
    """Style: ruff's rules and formatting."""
    session.install(*PINNED, *group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Types: mypy, strict on the package."""
    session.install(*PINNED, ".", *group("typecheck"))
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """The suite with branch coverage: `nox -s tests -- -k name` for a part of it."""
    session.install(*PINNED, "-e", ".", *group("test"))
    coverage = [] if session.posargs else ["--cov", "--cov-report=term"]
    session.run("pytest", *coverage, *session.posargs)


@nox.session(default=False)
def gpu(session: nox.Session) -> None:
    """The tests that need a CUDA device; install a torch that has it through constraints of your own."""
    session.install("-e", ".", *group("test"))
    session.run("pytest", "-m", "gpu", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """The fidelity benchmark in full; minutes to hours."""
    session.install(*PINNED, ".")
    session.run("python", "benchmarks/published.py", *session.posargs)


@nox.session(default=False)
def minimums(session: nox.Session) -> None:
    """The suite against the lowest versions that pyproject.toml allows of each direct dependency."""
    lowest = [re.sub(r">=", "==", requirement, count=1) for requirement in PROJECT["project"]["dependencies"]]
    session.install(*lowest, "-e", ".", *group("test"))
    session.run("pytest", *session.posargs)


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Wheel and source distribution, checked, and the wheel's command run."""
    shutil.rmtree("dist", ignore_errors=True)
    session.install("build", "twine")
    session.run("python", "-m", "build")
    session.run("twine", "check", "--strict", "dist/*")
    session.install(*PINNED, *(str(wheel) for wheel in Path("dist").glob("*.whl")))
    session.run("dualdiff", "--version")
