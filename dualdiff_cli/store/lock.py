"""The sole use of a directory: while a process works in a directory, a small file there names this process.

The file appears with its whole content or not at all, and of two processes that ask at once one gets the directory. The
process removes the file when its work ends, also when it is interrupted. After a kill the file stays. The next process
takes the directory over if the process that the file names ran on the same host and is gone. Nobody can see the
processes of another host, so a file that names another host is always respected, and the error says which file to
remove by hand.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..checked import read_object
from ..errors import InputError
from .atomic import create_text, passing
from .schemas import HolderFile

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOCK", "in_use", "sole_use"]

LOCK = "lock.json"
"""The name of the file that names the process."""
SAME_BIRTH = 1.0
"""Two times at which a process began, in seconds, are the same if they differ by less."""


@contextmanager
def sole_use(directory: Path) -> Iterator[None]:
    """Keep other processes that ask for the same directory out of it while the block runs.

    Args:
        directory: an existing directory.

    Raises:
        InputError: another process, or another thread of this process, uses the directory.
        OSError: the directory cannot be written to.

    """
    path = directory / LOCK
    text = json.dumps(_myself())
    try:
        while not create_text(path, text):
            _make_way(path)
        with passing(path):
            yield
    finally:
        with suppress(OSError):
            if path.read_bytes() == text.encode():  # otherwise somebody removed the file by hand
                path.unlink()


def in_use(directory: Path) -> bool:
    """Say whether a living process, or a process of another host, uses a directory."""
    holder = _read(directory / LOCK)
    return holder is not None and _lives(holder)


def _make_way(path: Path) -> None:
    """Remove the file of a process that is gone.

    Raises:
        InputError: the process lives, or may live, or the file is damaged.

    """
    with suppress(FileNotFoundError):
        if fcntl is None:
            _remove(path)
            return
        with open(path, "rb") as file:
            # Of several processes that find the same old file, one removes it, and none removes the file that follows.
            with suppress(OSError):  # a file system without such locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                _remove(path)


def _remove(path: Path) -> None:
    holder = _read(path)
    if holder is None:
        return  # The holder has just removed the file. What lies there by now may name the next holder.
    if _lives(holder):
        raise _refusal(path, holder)
    path.unlink()


def _refusal(path: Path, holder: dict[str, Any]) -> InputError:
    since = datetime.fromtimestamp(holder["since"]).isoformat(" ", "seconds")
    is_here = holder["host"] == socket.gethostname()
    return InputError(
        f"{path.parent} is in use: process {holder['process']} of the host {holder['host']} has worked in it "
        f"since {since}.",
        "Wait until that process ends, or stop it."
        if is_here
        else f"Wait until that process ends; if it is gone, remove {path}.",
    )


def _read(path: Path) -> dict[str, Any] | None:
    """Read who uses a directory; None where the file is gone.

    Raises:
        InputError: the file is damaged.

    """
    try:
        return read_object(path, HolderFile, f"If no process works in {path.parent}, remove this file.")
    except InputError:
        if path.exists():
            raise
        return None


def _myself() -> dict[str, Any]:
    number = os.getpid()
    return {
        "process": number,
        "host": socket.gethostname(),
        "birth": _birth(number),
        "since": time.time(),
        # All else may be equal in two threads, and the one that is refused must not remove the file of the other.
        "token": uuid4().hex,
    }


def _lives(holder: dict[str, Any]) -> bool:
    """Say whether a process lives, or may live because it cannot be seen."""
    import psutil

    if holder["host"] != socket.gethostname():
        return True
    try:
        return bool(abs(_birth(holder["process"]) - holder["birth"]) < SAME_BIRTH)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _birth(number: int) -> float:
    """Give the time at which a process began, in seconds after the machine was started.

    This time tells a process from an earlier one with the same number, and does not change when the clock is set.

    Raises:
        psutil.NoSuchProcess: the process is gone, or has ended and its parent has not asked for its exit code yet.
        psutil.AccessDenied: the process belongs to somebody else, and the system does not tell.

    """
    import psutil

    process = psutil.Process(number)
    if process.status() == psutil.STATUS_ZOMBIE:
        raise psutil.ZombieProcess(number)
    return float(process.create_time() - psutil.boot_time())
