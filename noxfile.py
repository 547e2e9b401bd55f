"""The project's checks: `nox` runs the default ones, `nox -s NAME` any other; pyproject.toml says what they need."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True

PROJECT = nox.project.load_toml("pyproject.toml")
PINNED = ("-c", "constraints.txt")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
"""A process that shares the cores with others takes one thread and compiles by itself: more would wait."""
ALL_CORES = ("-n", "auto", "--dist", "worksteal")
"""A worker that has run out of tests takes the last ones of another: tests of one file mostly stay together."""
DATA_OF_A_RUN = """
import sys
from pathlib import Path
from dualdiff_cli import Run
from dualdiff_cli.data import write_chunks
from dualdiff_cli.jobs.inputs import load_run_data
data = load_run_data(Run.open(Path(sys.argv[1])).config)
rows = data.held_out[:3000]
write_chunks(sys.argv[2], [rows], rows=rows.height)
"""


def group(name: str) -> list[str]:
    return nox.project.dependency_groups(PROJECT, name)


def _find_browser(session: nox.Session) -> None:
    """See that there are a Chromium, which is installed if possible, and npm."""
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        if not shutil.which("apt-get") or os.geteuid() != 0:
            session.error("Install a Chromium (Debian: apt-get install chromium) and try again.")
        session.run("apt-get", "install", "-y", "--no-install-recommends", "chromium", external=True)
    if not shutil.which("npm"):
        session.error("Install Node.js with npm (Debian: apt-get install npm) and try again.")


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
    """The suite on all cores: `nox -s tests -- -k name` for a part of it."""
    session.install(*PINNED, "-e", ".", *group("test"))
    whole = () if session.posargs else ALL_CORES
    session.run("pytest", *whole, *session.posargs, env=ONE_THREAD)


@nox.session(default=False)
def coverage(session: nox.Session) -> None:
    """The suite with branch coverage, which has to be 90 % and takes half as long again."""
    session.install(*PINNED, "-e", ".", *group("test"))
    session.run("pytest", *ALL_CORES, "--cov", "--cov-report=term", *session.posargs, env=ONE_THREAD)


@nox.session(default=False)
def quick(session: nox.Session) -> None:
    """Style, types, and the tests of what needs no training run: an answer in about a minute."""
    session.install(*PINNED, "-e", ".", *group("lint"), *group("typecheck"), *group("test"))
    session.run("ruff", "check")
    session.run("mypy")
    session.run("pytest", *ALL_CORES, "-m", "not slow", "-q", *session.posargs, env=ONE_THREAD)


@nox.session(default=False)
def gpu(session: nox.Session) -> None:
    """The tests that need a CUDA device; install a torch that has it through constraints of your own."""
    session.install("-e", ".", *group("test"))
    session.run("pytest", "-m", "gpu", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """The fidelity benchmark in full; minutes to hours."""
    session.install(*PINNED, ".")
    session.run("python", "benchmarks/fidelity.py", *session.posargs)


@nox.session(default=False)
def web(session: nox.Session) -> None:
    """The example page in a headless Chromium: `nox -s web -- RUN` for a run of your own, a short one if left out."""
    _find_browser(session)
    session.install(*PINNED, ".")
    page = Path(session.create_tmp(), "web")
    shutil.rmtree(page, ignore_errors=True)
    shutil.copytree("examples/web", page, ignore=shutil.ignore_patterns("node_modules"))
    run = Path(session.posargs[0]) if session.posargs else page.with_name("run")
    if not run.exists():
        session.run("dualdiff", "train", "--dataset", "dino", "--steps", "300", "--run-dir", str(run))
    session.run("dualdiff", "export", str(run), "-o", str(page / "sampler.onnx"))
    session.run("python", "-c", DATA_OF_A_RUN, str(run), str(page / "data.csv"))
    with session.chdir(page):
        session.run("npm", "install", "--no-audit", "--no-fund", external=True)
        command = [sys.executable, "-m", "http.server", "8765", "--bind", "127.0.0.1"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                session.run("node", "check.mjs", "http://127.0.0.1:8765/", "points.csv", "page.png", external=True)
            finally:
                server.terminate()
    session.run("dualdiff", "evaluate", str(run), "--samples", str(page / "points.csv"))
    session.log(f"What the page showed is in {page / 'page.png'}.")


@nox.session(default=False)
def minimums(session: nox.Session) -> None:
    """The suite against the lowest versions that pyproject.toml allows of each direct dependency."""
    lowest = [re.sub(r">=", "==", requirement, count=1) for requirement in PROJECT["project"]["dependencies"]]
    session.install(*lowest, "-e", ".", *group("test"))
    # The lowest versions meet the newest versions of what they need themselves, which warn of them.
    session.run("pytest", "-W", "default", *session.posargs)


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Damaged files and made-up requests: `nox -s fuzz -- 20000 7` for 20,000 inputs a kind and seed 7."""
    session.install(*PINNED, "-e", ".", *group("test"))
    inputs, seed, *_ = [*session.posargs, "2000", "0"] if len(session.posargs) != 1 else [*session.posargs, "0"]
    chosen = {"DUALDIFF_FUZZ": inputs, "DUALDIFF_FUZZ_SEED": seed, "DUALDIFF_EXAMPLES": inputs}
    tests = ("tests/test_fuzz.py", "tests/test_fuzz_requests.py", f"--hypothesis-seed={seed}")
    session.run("pytest", "-q", *tests, env=ONE_THREAD | chosen)


@nox.session(default=False)
def audit(session: nox.Session) -> None:
    """Known vulnerabilities of the pinned dependencies, which pip-audit asks a public database about."""
    session.install("pip-audit")
    session.run("pip-audit", "-r", "constraints.txt", "--no-deps", "--disable-pip", *session.posargs)


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """Kills and signals at random moments of the real program: `nox -s faults -- --kills 1000`."""
    session.install(*PINNED, "-e", ".")
    session.run("python", "benchmarks/faults.py", *session.posargs)


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Wheel and source distribution, checked, and the wheel's command run."""
    shutil.rmtree("dist", ignore_errors=True)
    session.install("build", "twine")
    session.run("python", "-m", "build")
    session.run("twine", "check", "--strict", "dist/*")
    session.install(*PINNED, *(str(wheel) for wheel in Path("dist").glob("*.whl")))
    session.run("dualdiff", "--version")


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """The documentation in `site/`, whose index.html opens without a server; a warning is an error."""
    session.install(*PINNED, "-e", ".", *group("docs"))
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session(default=False)
def looks(session: nox.Session) -> None:
    """Pages in a headless Chromium, light and dark, wide and phone; the pictures are kept in `looks/`."""
    _find_browser(session)
    session.install(*PINNED, ".")
    scripts = Path(session.create_tmp(), "looks")
    shutil.rmtree(scripts, ignore_errors=True)
    shutil.copytree("tests/looks", scripts, ignore=shutil.ignore_patterns("node_modules"))
    run, kept = scripts / "run", Path("looks").resolve()
    session.run("dualdiff", "train", "--dataset", "moons", "--steps", "300", "--run-dir", str(run))
    session.run("dualdiff", "report", str(run))
    session.run("dualdiff", "explore", str(run), "-o", str(scripts / "of-run"))
    session.run("dualdiff", "explore", "--dataset", "two-modes", "-o", str(scripts / "two-modes"))
    table, conditional = scripts / "flowers.csv", scripts / "conditional"
    session.run("python", str(scripts / "flowers.py"), str(table))
    session.run("dualdiff", "train", str(table), "--steps", "300", "--run-dir", str(conditional))
    session.run("dualdiff", "explore", str(conditional), "--given", "kind=tall", "-o", str(scripts / "given"))
    with session.chdir(scripts):
        session.run("npm", "install", "--no-audit", "--no-fund", external=True)
        session.run("node", "report.mjs", "run/report.html", str(kept), external=True)
        for page in ("of-run", "two-modes", "given"):
            session.run("node", "explorer.mjs", page, str(kept / f"explorer-{page}"), external=True)
