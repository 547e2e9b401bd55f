"""What the files of a run must hold; further entries are allowed, because a newer version may have added them.

Bounds keep out numbers that no machine can hold. They are far from what the program writes.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from ..checked import FilePart
from ..config.sections import MOST_STEPS

__all__ = [
    "MOST_FEATURES",
    "EvaluationFile",
    "Finite",
    "HolderFile",
    "LoggedStep",
    "MachineFile",
    "ModelFile",
    "ProvenanceFile",
    "ReachFile",
    "ScoreFile",
    "Seconds",
    "Size",
    "StateFile",
    "StepNumber",
    "TrainingFile",
]

MOST_FEATURES = 100_000
"""The largest number of features of a row."""
MOST_THREADS = 4_096

Finite = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Size = Annotated[int, Field(ge=0, le=2**53)]
StepNumber = Annotated[int, Field(ge=0, le=MOST_STEPS)]
Checksum = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class HolderFile(FilePart):
    """``lock.json``: the process that works in a directory; see ``store.lock``."""

    process: Annotated[int, Field(ge=1, lt=2**32)]
    host: Annotated[str, Field(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]
    birth: Seconds
    since: Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]


class ProvenanceFile(FilePart):
    """``data.json``: where the rows came from, and how they were split."""

    source: str
    name: str | None = None
    path: str | None = None
    sha256: Checksum | None = None
    columns: list[str] | None = None
    rows: Size | None = None
    dropped_rows: Size | None = None
    train_rows: Size | None = None
    held_out_rows: Size | None = None
    seed: Annotated[int, Field(ge=0, lt=2**64)] | None = None


class ReachFile(FilePart):
    """The range of the training rows in features."""

    low: Annotated[list[Finite], Field(max_length=MOST_FEATURES)]
    high: Annotated[list[Finite], Field(max_length=MOST_FEATURES)]


class ModelFile(FilePart):
    """``model.json``: the kind of the model, its encoding, and the checksum of the weights."""

    format_version: int
    sha256: Checksum
    kind: str
    encoding: dict[str, JsonValue]
    reach: ReachFile | None = None


class _Carried(BaseModel):
    """How a training is carried out; see ``compute.execution.Execution``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)]
    precision: Annotated[str, Field(pattern="^(float32|tf32|bfloat16)$")]
    compiled: bool
    graphed: bool
    required: bool
    why: dict[str, str]


class StateFile(BaseModel):
    """``state.pt``: what a training resumes from; the trainer checks its own part."""

    model_config = ConfigDict(extra="allow", strict=True)

    format_version: int
    trainer: dict[str, Any]
    seconds: Seconds
    compile_seconds: Seconds
    execution: _Carried
    device: str


class LoggedStep(FilePart):
    """A line of ``metrics.jsonl``."""

    step: StepNumber
    loss: Finite
    learning_rate: Finite | None = None
    held_out: Finite | None = None


class MachineExecution(FilePart):
    """How the training was carried out, as the report shows it."""

    precision: str | None = None


class MachineFile(FilePart):
    """``environment.json``: the machine that trained."""

    device: str | None = None
    processor: str | None = None
    cores: int | None = None
    threads: int | None = None
    versions: dict[str, str | None] = Field(default_factory=dict)
    gpus: list[JsonValue] = Field(default_factory=list)
    execution: MachineExecution = Field(default_factory=lambda: MachineExecution.model_validate({}))


class TrainingFile(FilePart):
    """``training.json``: what `train` answered."""

    parameters: Size | None = None
    steps: StepNumber | None = None
    train_seconds: Seconds | None = None
    device: str | None = None


class ScoreFile(FilePart):
    """One score; see ``metrics.score.Score.to_dict``."""

    value: Finite | None
    unit: str
    ci95: Annotated[list[Finite | None], Field(min_length=2, max_length=2)] | None
    floor: Finite | None
    floor_spread: Finite | None = None
    n_real: Size
    n_generated: Size
    counts: dict[str, Size] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


class EvaluationFile(FilePart):
    """``evaluation.json``: the last scores."""

    model_sha256: Checksum | None
    metrics: dict[str, ScoreFile]
    n_real: Size
    n_generated: Size
    seed: Annotated[int, Field(ge=0, lt=2**64)] | None = None
    sampler: str | None = None
    sample_steps: StepNumber | None = None
