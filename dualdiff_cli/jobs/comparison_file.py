"""What the files of a comparison must hold when they are read back: the scores of each model, and the record."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from ..checked import FilePart
from ..store.schemas import Finite, ScoreFile, Seconds, Size

__all__ = ["ComparisonFile", "KeptScores"]


class _Excess(FilePart):
    value: Finite
    unit: Literal["bits", "AUC"]
    ci95: Annotated[list[Finite], Field(min_length=2, max_length=2)] | None


class KeptScores(FilePart):
    """``scores/MODEL.json``: what one model got."""

    metrics: dict[str, ScoreFile]
    excess: _Excess | None
    train_seconds: Seconds
    sample_seconds: Seconds


class _Failed(FilePart):
    error: str


class ComparisonFile(FilePart):
    """What `compare --json` wrote."""

    dataset: str
    rows: Size
    held_out: Size
    n_generated: Size
    models: dict[str, KeptScores | _Failed]
    best: str | None
    as_good: list[str]
    best_by_metric: dict[str, Annotated[list[str], Field(min_length=1)]]
    simpler: dict[str, JsonValue] | None
