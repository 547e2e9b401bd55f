"""Files that are either the old one or the new one, never a part: written beside their name and renamed into place."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..checked import LARGEST_TEXT, parse_json, read_bytes

__all__ = ["abandon", "create_text", "passing", "read_json", "replaced", "write_json", "write_text"]

LONGEST_STEM = 50
"""The number of characters that a temporary name takes from the name of its file."""

_passing: set[Path] = set()
"""The files that exist only while this process works."""


@contextmanager
def passing(path: Path) -> Iterator[None]:
    """Let `abandon` remove a file while the block runs."""
    _passing.add(path)
    try:
        yield
    finally:
        _passing.discard(path)


def abandon() -> None:
    """Remove the files that exist only while this process works, before the process ends at once."""
    for path in tuple(_passing):
        with suppress(OSError):
            path.unlink(missing_ok=True)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to.

    When the block ends, the temporary file takes the place of ``path``; when the block raises, the file is removed.
    """
    temporary = _beside(path)
    with passing(temporary):
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """Give the path of a temporary file whose name no other file has; the directory is made if it does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Threads share the number of their process, and containers may have equal numbers: only a random name is one's own.
    # The stem is cut so that a long name stays within what a file system allows; the suffix stays last, because writers
    # choose their format by it.
    return path.with_name(f".{path.stem[:LONGEST_STEM]}.{uuid4().hex}{path.suffix}")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text."""
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def create_text(path: Path, text: str) -> bool:
    """Write UTF-8 text to a file that must not exist yet; of several processes that ask at once, one makes the file.

    Returns:
        Whether the file was made; False where there is one already.

    """
    temporary = _beside(path)
    with passing(temporary):
        try:
            temporary.write_text(text, encoding="utf-8")
            try:
                os.link(temporary, path)
            except FileExistsError:
                raise
            except OSError:  # a file system without hard links, where another process may see a part of the text
                with open(path, "x", encoding="utf-8") as file:
                    file.write(text)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
    return True


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; None if there is no such file, or if the file does not hold JSON that the program may have written."""
    try:
        return parse_json(read_bytes(path, limit=LARGEST_TEXT))
    except (OSError, ValueError):
        return None
