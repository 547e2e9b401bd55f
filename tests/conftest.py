from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from dualdiff_cli.config.recipes import RECIPES, resolve
from dualdiff_cli.config.schema import RunConfig


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny networks gain nothing from threads, and sums over a fixed number of them can be compared bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


TINY = {
    "data": {"points": 200, "held_out_points": 200},
    "model": {"width": 8, "blocks": 1, "gate_hidden": [8]},
    "training": {"steps": 12, "batch": 16, "log_every": 5, "checkpoint_every": 7, "ema_every": 5, "ema_warmup": 2},
    "sampling": {"steps": 4},
}
"""Two narrow experts that train and sample in a fraction of a second; no interval divides the steps evenly."""
SETTLED = [
    "schedule.sigma_min=0.02",
    "model.finest_frequency=50.0",
    "objective.references=32",
    "training.warmup=3",
    "training.ema_every=1",
]
"""What the precise recipe takes from data or from more steps than these."""


def tiny(recipe: str) -> RunConfig:
    return resolve(dataset="line", recipe=recipe, options=TINY, settings=SETTLED if recipe == "precise" else [])


@pytest.fixture
def tiny_config() -> RunConfig:
    """The paper's recipe in small."""
    return tiny("paper")


@pytest.fixture(params=RECIPES)
def either_config(request: pytest.FixtureRequest) -> RunConfig:
    """Each recipe in small."""
    return tiny(request.param)
