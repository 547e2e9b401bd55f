"""What a record of ``dualdiff bench`` holds: the tasks, the labels that identify a row, and the schema of the file."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import ConfigDict, Field, JsonValue, model_validator

from ..checked import FilePart

__all__ = ["KEY", "TASKS", "RecordFile"]

Task = Literal["train", "sample", "latency"]
"""All steps of a training; the drawing of many points; one call that draws one point."""
TASKS: tuple[Task, ...] = get_args(Task)
KEY = ("dataset", "model", "recipe", "task", "backend")
"""The labels that identify a row."""

Label = Annotated[str, Field(max_length=1_000)]
Measured = Annotated[float, Field(ge=0, le=1e15)]
PositiveAmount = Annotated[float, Field(gt=0, le=1e15)]
Whole = Annotated[int, Field(ge=0, le=10**15)]


class _Part(FilePart):
    model_config = ConfigDict(allow_inf_nan=False)


class _Ratio(_Part):
    value: float
    low: float
    high: float


class _Row(_Part):
    dataset: Label
    model: Label
    recipe: Label
    task: Task
    backend: Label
    device: Label
    provider: Label | None
    requested_provider: Label | None
    failure: str | None
    whole: PositiveAmount
    block: Measured
    extrapolated: bool
    raw_s: Annotated[list[PositiveAmount], Field(max_length=1_000_000)]
    median_s: Measured | None
    iqr_s: Measured | None
    p95_s: Measured | None
    unstable: bool | None
    prepare_s: Measured | None
    memory_bytes: Whole | None
    parameters: Whole | None
    per_second: Measured | None
    paper_s: Measured | None
    paper_ratio_to_baseline: Measured | None
    ratio_to_baseline: _Ratio | None
    ratio_to_published: _Ratio | None

    @model_validator(mode="after")
    def _has_a_block_where_it_has_times(self) -> Self:
        """Times are of blocks; a competitor that failed before its first block has neither."""
        if self.raw_s and not self.block:
            raise ValueError("a row with times has blocks of at least one unit")
        return self


class _Environment(_Part):
    versions: dict[str, str | None]
    device: Label
    gpus: JsonValue
    processor_mhz: list[float] | None
    load_average: list[float] | None
    processor: str | None
    cores: int | None
    threads: int


class RecordFile(_Part):
    """The whole record."""

    environment: _Environment
    samples: Whole
    settings: list[str] | None = None
    rows: list[_Row]
