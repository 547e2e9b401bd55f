"""How much fits into the memory of this machine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

from ..errors import InputError

__all__ = ["require_memory"]

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says how much memory a container may have."""
ROW_BYTES = 4 * 8
"""Bytes that a value of a row takes at least: the value, its feature, and a copy of each."""


def require_memory(rows: int, values: int) -> None:
    """Refuse rows that no memory of this machine can hold at once.

    Args:
        rows: the number of rows.
        values: the number of values in a row.

    Raises:
        InputError: the rows need more memory than the machine has.

    """
    needed, there = rows * max(values, 1) * ROW_BYTES, _total_bytes()
    if needed > there:
        raise InputError(
            f"{rows:,} rows need at least {needed / 1e9:,.0f} GB of memory at once, and this machine has "
            f"{there / 1e9:,.0f} GB.",
            "Ask for fewer rows.",
        )


def _total_bytes() -> int:
    """Give the memory that this process may have, in bytes."""
    total = int(psutil.virtual_memory().total)
    for path in LIMITS:
        with suppress(OSError, ValueError):
            total = min(total, int(Path(path).read_text(encoding="ascii")))
    return total
