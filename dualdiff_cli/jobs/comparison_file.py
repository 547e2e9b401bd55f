"""What the files of a comparison must hold when they are read back: the scores of each model, and the record."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

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

    @model_validator(mode="after")
    def _has_no_scores(self) -> Self:
        if set(KeptScores.model_fields) & set(self.__pydantic_extra__):
            raise ValueError("the scores are damaged")
        return self


class _Simpler(FilePart):
    model: str
    components: Size
    instead_of: str


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
    simpler: _Simpler | None

    @model_validator(mode="after")
    def _best_has_scores(self) -> Self:
        """Refuse a best model without scores, and one that is as good and is none of the models."""
        if self.best is not None and not isinstance(self.models.get(self.best), KeptScores):
            raise ValueError("the best model has no scores")
        if not set(self.as_good) <= set(self.models):
            raise ValueError("a model that is as good is none of the models")
        return self
