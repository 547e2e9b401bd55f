"""What the commands load: a command imports only what it uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny import finished, tiny

from dualdiff_cli.store.run import FORMAT

EXPORT = {"onnx", "onnxruntime", "onnxscript"}
"""What only `export`, `bench` and --from need."""
SCORES = {"joblib", "sklearn"}
"""What scores, and models of scikit-learn, need."""
HEAVY = {*EXPORT, *SCORES, "matplotlib", "scipy", "torch", "polars", "numpy"}


def loaded(*arguments: str | Path, ends_in: int = 0) -> set[str]:
    """Run a command in a process of its own, and check the exit code; give those of HEAVY that it has loaded."""
    code = f"""
import atexit, sys
from dualdiff_cli.cli.app import app
heavy = {sorted(HEAVY)!r}
atexit.register(lambda: print("loaded", *(name for name in heavy if name in sys.modules), file=sys.stderr))
app()
"""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == ends_in, done.stderr
    *_, last = (line for line in done.stderr.splitlines() if line.startswith("loaded"))
    return set(last.split()[1:])


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """Everything that makes a training small."""
    path = tmp_path / "tiny.toml"
    path.write_text(tiny().to_toml(), encoding="utf-8")
    return path


def test_sampling_to_a_file_loads_nothing_of_exports_pictures_or_scores(tmp_path: Path) -> None:
    run = finished(tiny(), tmp_path / "run")
    used = loaded("sample", run, "-n", "3", "-o", tmp_path / "rows.csv")
    assert "torch" in used
    assert not used & {*EXPORT, *SCORES, "matplotlib"}


def test_sampling_from_a_model_of_scikit_learn_loads_nothing_of_exports_or_pictures(tmp_path: Path) -> None:
    run = Path(__file__).parent / "formats" / f"run-{FORMAT}" / "kernel-density"
    used = loaded("sample", run, "-n", "3", "-o", tmp_path / "rows.csv")
    assert used >= SCORES
    assert not used & {*EXPORT, "matplotlib"}


def test_training_loads_nothing_of_exports_or_scores(config_file: Path, tmp_path: Path) -> None:
    used = loaded("train", "--config", config_file, "--run-dir", tmp_path / "run")
    assert not used & {*EXPORT, *SCORES}
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_an_exported_file_needs_its_runtime(tmp_path: Path) -> None:
    """The other tests can fail: a module that is loaded is seen."""
    assert "onnxruntime" in loaded("sample", "--from", tmp_path / "none.onnx", ends_in=2)
