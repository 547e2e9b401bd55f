from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from tiny import finished, narrow

from dualdiff_cli.jobs.export import export
from dualdiff_cli.store.run import Run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of the moons with an untrained model; no test may change what the run holds but for its scores."""
    config = narrow(data={"points": 400, "held_out_points": 400})
    return finished(config, tmp_path_factory.mktemp("exporting") / "run")


@pytest.fixture(scope="session")
def record_of(run: Run) -> Callable[[str, str], dict[str, Any]]:
    """What `export` says of the run's sampler or denoiser in a format; each file is written once, when it is needed."""

    @functools.cache
    def record_of(what: str, format: str) -> dict[str, Any]:
        return export(str(run)) if (what, format) == ("sampler", "onnx") else export(run, what=what, format=format)

    return record_of
