"""Standard streams that are closed, that lack a sign, or that cannot be written to, such as a file on a full disk.

This module imports nothing heavy, because the program prepares its streams before it does anything else.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any

__all__ = ["LenientStream", "prepare_streams"]


class LenientStream:
    """A stream that drops what cannot be written.

    Args:
        stream: the stream, which answers everything else.

    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, if possible."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream, if possible."""
        with suppress(OSError):
            self._stream.flush()


def prepare_streams() -> None:
    """Put the null device in the place of closed standard streams, and let neither signs nor notes stop the work."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # Otherwise the next file that is opened would get the number of the stream, and what is printed to it.
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - of the process
        stream = getattr(sys, name)
        if name == "stdout" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a sign that the encoding lacks; rows are written as bytes
        if name == "stderr":
            setattr(sys, name, LenientStream(stream))
