from __future__ import annotations

from typing import Any

import pytest
from tiny import finished, narrow

from dualdiff_cli.exporting import FORMATS
from dualdiff_cli.jobs.export import WHATS, export
from dualdiff_cli.store.run import Run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of the moons with an untrained model; no test may change what the run holds but for its scores."""
    config = narrow(data={"points": 400, "held_out_points": 400})
    return finished(config, tmp_path_factory.mktemp("exporting") / "run")


@pytest.fixture(scope="session")
def records(run: Run) -> dict[tuple[str, str], dict[str, Any]]:
    """What `export` says of the run's sampler and denoiser in each format; nothing was asked for in the first one."""
    requests = [(what, format) for what in WHATS for format in FORMATS if (what, format) != ("sampler", "onnx")]
    first = {("sampler", "onnx"): export(str(run))}
    return first | {(what, format): export(run, what=what, format=format) for what, format in requests}
