"""Whether trainings leave pictures, which take many times as long as a tiny training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dualdiff_cli.jobs.plot import draw_pictures

__all__ = ["painted", "unpainted"]

PLACE = "dualdiff_cli.jobs.train.draw_pictures"


@contextmanager
def painted() -> Iterator[None]:
    """Let trainings leave their pictures, as they do outside the tests, while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PLACE, draw_pictures)
        yield


@contextmanager
def unpainted() -> Iterator[None]:
    """Let trainings leave no pictures while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PLACE, lambda *_, **__: [])
        yield
