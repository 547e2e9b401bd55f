"""Schema files: TOML that says of which kind the columns of a table are.

    [columns]
    detector = "category"
    angle = "angle"
    id = "identifier"

Columns that the file does not name are of the kind that the data suggest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ..checked import read_toml
from ..config.registry import check_column_kind
from ..errors import InputError

__all__ = ["read_schema", "write_schema"]


def read_schema(path: str | Path) -> dict[str, str]:
    """Read the kinds of columns from a TOML file.

    Raises:
        InputError: the file cannot be read, is no schema, or names a kind that cannot be asked for.

    """
    try:
        content = read_toml(Path(path))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as a schema: {error}.", "Write one with `dualdiff columns`."
        ) from error
    columns = content.get("columns")
    if not isinstance(columns, dict):
        raise InputError(
            f"{path} has no table [columns] of names and kinds.", "Write a schema with `dualdiff columns` and edit it."
        )
    for name, kind in columns.items():
        if not isinstance(kind, str):
            raise InputError(
                f"{path} has for the column '{name}' the kind {kind!r}, which is no text.",
                f'Write a kind in quotes, such as {_quoted(name)} = "number".',
            )
    return {name: check_column_kind(kind) for name, kind in columns.items()}


def write_schema(kinds: Mapping[str, str]) -> str:
    """Give the text of a schema file."""
    lines = [f"{_quoted(name)} = {_quoted(kind)}" for name, kind in kinds.items()]
    return "\n".join(["[columns]", *lines, ""])


def _quoted(text: str) -> str:
    """Write the name of a column, or a kind, as a string of TOML."""
    # As in JSON, except for the character 127, which TOML does not take as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
