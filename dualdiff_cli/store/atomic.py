"""Files that are either the old one or the new one, never a part: written beside their name and renamed into place."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..checked import LARGEST_TEXT, parse_json, read_bytes

__all__ = ["abandon", "read_json", "replaced", "write_json", "write_text"]

_open: set[Path] = set()
"""The temporary files that are being written."""


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to.

    When the block ends, the temporary file takes the place of ``path``; when the block raises, the file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last, because writers choose their format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    _open.add(temporary)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        _open.discard(temporary)


def abandon() -> None:
    """Remove the temporary files that are being written, before the process ends at once."""
    for temporary in tuple(_open):
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text."""
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; None if there is no such file, or if the file does not hold JSON that the program may have written."""
    try:
        return parse_json(read_bytes(path, limit=LARGEST_TEXT))
    except (OSError, ValueError):
        return None
