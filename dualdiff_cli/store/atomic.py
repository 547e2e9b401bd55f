"""Files that are either the old one or the new one, never a part: written beside their name and renamed into place."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..checked import LARGEST_TEXT, parse_json, read_bytes
from ..errors import InputError

__all__ = [
    "abandon",
    "create_text",
    "naming",
    "passing",
    "read_json",
    "replaced",
    "require_writable",
    "write_json",
    "write_text",
]

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

    When the block ends, the temporary file takes the place of ``path``; when the block raises, the file is removed. A
    link stays, and the file that it leads to is replaced.

    Raises:
        InputError: there is something else than a regular file, such as a directory or a device.
        OSError: the file cannot be written; the error names ``path``.

    """
    target = _regular(path)
    temporary = _beside(target)
    with passing(temporary), naming(path, temporary):
        try:
            yield temporary
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path, written: Path) -> Iterator[None]:
    """Let an error of the system about a file, or about no file, name the path that the user knows.

    Args:
        path: what the error names.
        written: the file that the block writes.

    """
    try:
        yield
    except OSError as error:
        if error.strerror and error.filename in (None, written, str(written)):  # a full disk has no name
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def require_writable(path: Path) -> None:
    """Refuse a path where no file can be put, before the work whose result the file is to hold; nothing is made.

    Raises:
        InputError, OSError: as for `replaced`, so far as one can tell beforehand.

    """
    folder = next(each for each in _regular(path).absolute().parents if each.exists())
    if not folder.is_dir():
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _regular(path: Path) -> Path:
    """Give the path of the file itself, at the end of all links.

    Raises:
        InputError: there is something else than a regular file.

    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no regular file, so no file can take its place.", "Name another file.")
    return path.resolve() if path.is_symlink() else path


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
    with passing(temporary), naming(path, temporary):
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
