"""Whether trainings leave pictures and score as many rows as these show, which takes longer than a tiny training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dualdiff_cli.jobs.plot import PICTURED, draw_pictures

__all__ = ["painted", "unpainted"]

PLACE = "dualdiff_cli.jobs.train"
FEW = 300
"""So many rows are drawn and scored at the end of a training without pictures."""


@contextmanager
def painted() -> Iterator[None]:
    """Let trainings leave their pictures and scores, as they do outside the tests, while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{PLACE}.draw_pictures", draw_pictures)
        patch.setattr(f"{PLACE}.PICTURED", PICTURED)
        yield


@contextmanager
def unpainted() -> Iterator[None]:
    """Let trainings leave no pictures, and scores of few rows, while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{PLACE}.draw_pictures", lambda *_, **__: [])
        patch.setattr(f"{PLACE}.PICTURED", FEW)
        yield
