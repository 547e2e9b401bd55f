from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from painting import unpainted
from searching import full_search, small_search
from tiny import TINY, tiny

from dualdiff_cli.config.schema import RunConfig

__all__ = ["TINY", "tiny"]

gc.set_threshold(50_000)  # an export makes so many objects that collecting garbage would take a tenth of its time

SLOW = {"bench", "benchmarks", "cli", "docs", "exporting", "jobs", "paper"}
"""Folders whose tests train runs, compile, export or start processes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name in SLOW:
            item.add_marker(pytest.mark.slow)
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


@pytest.fixture(scope="session", autouse=True)
def _unpainted() -> Iterator[None]:
    """Trainings leave no pictures, unless a test lets them by `painting.painted`."""
    with unpainted():
        yield


@pytest.fixture(scope="session", autouse=True)
def _small_search() -> Iterator[None]:
    """Trainings try few mixtures of Gaussians, unless a test lets them try all by `searching.full_search`."""
    with small_search():
        yield


@pytest.fixture
def _full_search() -> Iterator[None]:
    with full_search():
        yield


@pytest.fixture
def tiny_config() -> RunConfig:
    """The paper's recipe in small."""
    return tiny("paper")


@pytest.fixture(params=["paper", "precise"])
def either_config(request: pytest.FixtureRequest) -> RunConfig:
    """Each recipe of a training without folds, in small."""
    return tiny(request.param)
