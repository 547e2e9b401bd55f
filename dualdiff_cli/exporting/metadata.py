"""What an exported file says about itself: read within limits, and checked before anything of it is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from ..checked import FilePart, check_schema, parse_json, refusing
from ..store.schemas import MOST_FEATURES, ReachFile

__all__ = ["FORMAT_VERSION", "check_metadata", "not_ours", "parse_extra_file", "parse_properties"]

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
