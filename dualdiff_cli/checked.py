"""Files that somebody else may have written or damaged: read within limits and checked before anything is used.

Every file that the program reads back passes through here. Its size is known before it is read, its nesting is limited,
and its content meets a schema. Whatever fails becomes one `InputError`, which names the file and says what to do.
"""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

from .errors import InputError

__all__ = [
    "LARGEST_TEXT",
    "MIB",
    "FilePart",
    "check_nesting",
    "check_object",
    "check_schema",
    "check_version",
    "parse_json",
    "read_bytes",
    "read_object",
    "read_toml",
    "refusing",
]

MIB = 2**20
LARGEST_TEXT = 256 * MIB
"""The largest size of a text file that is read, in bytes: the scores of 10,000 columns take a tenth of that."""
LARGEST_CONFIG = 4 * MIB
"""The largest size of a TOML file, in bytes."""
DEEPEST = 32
"""The largest depth of lists and objects in each other; what the program writes has a depth of at most ten."""


class FilePart(BaseModel):
    """An object in a file: its values are never converted, and a newer version may have added further ones."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, JsonValue]


@contextmanager
def refusing(problem: str, remedy: str) -> Iterator[None]:
    """Turn every failure of this block, which interprets the content of a file, into one `InputError`.

    Args:
        problem, remedy: the sentences of the error; the failure itself is its cause, which --debug shows.

    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a hostile file can raise anything
        raise InputError(problem, remedy) from error


def read_bytes(path: Path, *, limit: int) -> bytes:
    """Read a regular file of at most so many bytes.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is larger, or no regular file, such as a pipe that never ends.

    """
    # Opening a pipe would otherwise wait for somebody who writes to it.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("no regular file")
        if facts.st_size > limit:
            raise ValueError(f"larger than {limit:,} bytes")
        return file.read(facts.st_size)  # Python reserves as many bytes as it is asked to read


def parse_json(content: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: the content is no JSON, or nested too deeply.

    """
    try:
        value = json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    check_nesting(value)
    return value


def check_nesting(value: Any) -> None:
    """Check the depth of lists and objects in each other.

    Raises:
        ValueError: it is larger than `DEEPEST`.

    """
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, Mapping | list | tuple)]:
        depth += 1
        if depth > DEEPEST:
            raise ValueError("nested too deeply")
        inner = (item.values() if isinstance(item, Mapping) else item for item in level)
        level = [child for children in inner for child in children]


@cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    return TypeAdapter(schema)


def check_schema(value: Any, schema: Any) -> None:
    """Check plain values against a schema, without converting anything.

    Raises:
        ValueError: a value is missing, of another type or out of bounds.

    """
    _adapter(schema).validate_python(value, strict=True)


def check_version(found: Any, own: int, what: str, remedy: str, *, oldest: int | None = None) -> None:
    """Refuse a file of a version of its format that this program does not read.

    Args:
        found: the version that the file names.
        own: the version that this program writes, and the newest that it reads.
        what: the subject of the error, such as a path.
        remedy: what to do about a file of an older version, or of none.
        oldest: the oldest version that this program reads; None for its own.

    Raises:
        InputError: the version is another one.

    """
    if type(found) is int and found > own:
        raise InputError(
            f"{what} was written by a newer version of dualdiff: its format is {found}, and this version reads {own}.",
            "Install the newest version of dualdiff.",
        )
    if type(found) is not int or found < (own if oldest is None else oldest):
        raise InputError(f"{what} was written by another version of dualdiff.", remedy)


def read_object(path: Path, schema: Any, remedy: str, *, limit: int = LARGEST_TEXT) -> dict[str, Any] | None:
    """Read a JSON object; None where there is no file.

    Args:
        path: of the file.
        schema: a type that pydantic checks, such as a subclass of BaseModel.
        remedy: what to do about a damaged file.
        limit: the largest size, in bytes.

    Raises:
        InputError: the file is damaged.

    """
    if not path.exists():
        return None
    try:
        found: dict[str, Any] = parse_json(read_bytes(path, limit=limit))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged.", remedy) from error
    check_object(path, found, schema, remedy)
    return found


def check_object(path: Path, value: Any, schema: Any, remedy: str) -> None:
    """Check what a file holds against a schema; for `path`, `schema` and `remedy` see `read_object`.

    Raises:
        InputError: the file is damaged; the error names the first wrong value.

    """
    try:
        check_schema(value, schema)
    except ValidationError as error:
        raise InputError(f"{path} is damaged{_place(error)}.", remedy) from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the content is no TOML, or too large, or nested too deeply.

    """
    try:
        value = tomllib.loads(read_bytes(path, limit=LARGEST_CONFIG).decode())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    check_nesting(value)
    return value


def _place(error: ValidationError) -> str:
    """Name the first value that is wrong."""
    place = ".".join(str(part) for part in error.errors(include_url=False, include_input=False)[0]["loc"])
    return f" at {place}" if place else ""
