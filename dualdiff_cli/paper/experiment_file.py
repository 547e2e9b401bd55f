"""What the results of an experiment of `reproduce` must hold when they are read back."""

from __future__ import annotations

from pydantic import Field, JsonValue

from ..checked import FilePart
from ..store.schemas import ScoreFile, Seconds, Size, StepNumber

__all__ = ["ExperimentFile"]


class _Asked(FilePart):
    sampling: list[JsonValue]
    generated: Size
    metrics: list[str] | None


class _Evaluated(FilePart):
    asked: _Asked
    metrics: dict[str, ScoreFile]
    evaluate_seconds: Seconds


class _Trained(FilePart):
    steps: StepNumber
    train_seconds: Seconds
    seconds_around: Seconds


class ExperimentFile(FilePart):
    """The whole file."""

    train: _Trained | None = None
    evaluations: list[_Evaluated] = Field(default_factory=list)
    error: str | None = None
    traceback: str | None = None
    warnings: list[str] = Field(default_factory=list)
