"""What an exported file says about itself: written here, read within limits, and checked before anything is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from ..checked import FilePart, check_schema, parse_json, refusing
from ..config.schema import DiffusionConfig
from ..config.sections import SamplingConfig
from ..data import TableEncoding
from ..diffusion.samplers.redrawing import Reach
from ..store.schemas import MOST_FEATURES, ReachFile
from .modules import ExportedDenoiser, ExportedSampler, ExportPrecision
from .program import Program

__all__ = [
    "FORMAT_VERSION",
    "METADATA_FILE",
    "check_metadata",
    "describe_export",
    "not_ours",
    "parse_extra_file",
    "parse_properties",
]

METADATA_FILE = "dualdiff.json"
"""The name of the file with the metadata in a TorchScript or a pt2 archive."""
FORMAT_VERSION = 2
"""The version of the metadata that exported files carry; see ``FORMAT`` in ``store/run.py``."""
MOST_CHARACTERS = 2**26
"""The largest length of a value: a column of a million categories takes a fifth of that."""
MOST_OUTPUTS = MOST_FEATURES + 2
"""The largest number of outputs: those of a column for each feature, the features and the samples."""
MOST_INPUTS = 4
"""The largest number of inputs: noise, step noise, given values, and which of them are given."""


class _Metadata(FilePart):
    format_version: int
    what: Literal["sampler", "denoiser"]
    config: dict[str, JsonValue]
    encoding: dict[str, JsonValue]
    sampling: dict[str, JsonValue]
    reach: ReachFile | None = None
    data: dict[str, JsonValue] = Field(default_factory=dict)
    dataset: str | None = None
    model: str | None = None
    recipe: str | None = None
    inputs: list[str] = Field(max_length=MOST_INPUTS, default_factory=list)
    outputs: Annotated[list[str], Field(min_length=1, max_length=MOST_OUTPUTS)]
    network_evaluations: Annotated[int, Field(ge=1, le=10**6)] = 1
    step_draws: Annotated[int, Field(ge=0, le=10**6)] = 0


def describe_export(
    module: ExportedSampler | ExportedDenoiser,
    program: Program | None,
    *,
    config: DiffusionConfig,
    encoding: TableEncoding,
    sampling: SamplingConfig,
    precision: ExportPrecision = "float32",
    reach: Reach | None = None,
    origin: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Give the metadata of a file: what it computes, and all that is needed to use it without the run.

    Strangers read the metadata, so these say little about the folders of the user; see `_for_strangers`.

    Args:
        module: what is exported.
        program: of a sampler; None for a denoiser.
        config, encoding: of the model.
        sampling: the method and its number of steps.
        precision: of the matrix products.
        reach: the range of the training rows; None where no row is drawn again.
        origin: which weights and rows the run behind the file has; None for a model without a run.

    """
    what, config = "denoiser" if program is None else "sampler", _for_strangers(config)
    calls = {"step_draws": program.step_draws, "network_evaluations": len(program.times)} if program else {}
    return {
        "format_version": FORMAT_VERSION,
        "dataset": Path(config.dataset).name,
        "model": config.model.name,
        "recipe": config.recipe,
        "encoding": encoding.model_dump(mode="json"),
        "spans": {name: [at.start, at.stop] for name, at in zip(encoding.names, encoding.spans, strict=True)},
        "reach": None if reach is None else asdict(reach),
        "sampling": sampling.model_dump(mode="json"),
        "schedule": config.schedule.model_dump(mode="json"),
        **(origin or {}),
        "config": config.model_dump(mode="json"),
        **calls,
        "description": _sentence(config, encoding, None if program is None else sampling),
        "what": what,
        "precision": precision,
        "inputs": module.input_names,
        "outputs": module.output_names,
    }


def _for_strangers(config: DiffusionConfig) -> DiffusionConfig:
    """Name a reflow's teacher without its folder, and data below the working directory relative to that directory.

    Other data keep their whole path, because `evaluate` reads them.
    """
    teacher, data, here = config.objective.teacher, Path(config.dataset), Path.cwd()
    objective = config.objective.model_copy(update={"teacher": teacher and Path(teacher).name})
    dataset = str(data.relative_to(here)) if data.is_relative_to(here) else config.dataset
    return config.model_copy(update={"dataset": dataset, "objective": objective})


def _sentence(config: DiffusionConfig, encoding: TableEncoding, sampling: SamplingConfig | None) -> str:
    """Say in a sentence what a file computes, for programs that show files of any origin; None is for a denoiser."""
    learnt = f"the model {config.model.name}, trained on {Path(config.dataset).name} by the recipe {config.recipe}"
    if sampling is None:
        return f"Estimates the clean features behind noisy ones at a time of the schedule; {learnt}."
    how = f"by the sampler {sampling.sampler} in {sampling.steps} steps"
    return f"Turns standard normal noise into rows with the columns {', '.join(encoding.names)}, {how}; {learnt}."


def check_metadata(metadata: Any) -> None:
    """Check the metadata against their schema.

    Raises:
        ValueError: a value is missing, of another type or out of bounds, or the version is another one.

    """
    check_schema(metadata, _Metadata)
    if metadata["what"] == "sampler" and not {"network_evaluations", "step_draws"} <= metadata.keys():
        raise ValueError("the numbers of evaluations and of draws are missing")


def parse_properties(properties: Mapping[str, str]) -> dict[str, Any]:
    """Parse the metadata properties of an ONNX file; those of another program give nothing."""
    try:
        return {key: _parse(value) for key, value in properties.items()}
    except ValueError:
        return {}


def parse_extra_file(path: Path, content: str | bytes) -> dict[str, Any]:
    """Parse the metadata in an archive.

    Raises:
        InputError: they are damaged.

    """
    with refusing(*not_ours(path)):
        found = _parse(content or "{}")
        if not isinstance(found, dict):
            raise ValueError("no object")
    return found


def not_ours(path: Path) -> tuple[str, str]:
    """Give the problem and the remedy of a file whose metadata cannot be used."""
    return (
        f"{path} does not say what it holds, or was exported by another version of dualdiff.",
        "Name a file that this version of `dualdiff export` wrote.",
    )


def _parse(content: str | bytes) -> Any:
    if len(content) > MOST_CHARACTERS:
        raise ValueError("too long")
    return parse_json(content)
