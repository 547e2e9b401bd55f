"""Names of columns: those of a file, of which none is empty, repeated or too long to read, and those of an array."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["MAX_NAME_LENGTH", "column_names", "readable_names"]

MAX_NAME_LENGTH = 100
"""In characters."""


def column_names(d: int) -> tuple[str, ...]:
    """Name d unnamed columns: x and y in the plane, x1 … xd otherwise."""
    return ("x", "y") if d == 2 else tuple(f"x{i}" for i in range(1, d + 1))


def readable_names(header: Sequence[str]) -> tuple[list[str], list[str]]:
    """Make names that are unique, not empty and of bounded length.

    Returns:
        the names, and a sentence for each name that differs from the file's by more than blanks.

    """
    trimmed = [" ".join(name.split()) for name in header]
    taken, used = set(trimmed), set[str]()
    names: list[str] = []
    notes: list[str] = []
    for i, name in enumerate(trimmed):
        wanted = name or f"column_{i}"
        if len(wanted) > MAX_NAME_LENGTH:
            wanted = wanted[: MAX_NAME_LENGTH - 1] + "…"
        new = wanted
        if new in used or (new != name and new in taken):
            free = (f"{wanted}_{k}" for k in range(2, len(trimmed) + 3))
            new = next(n for n in free if n not in taken and n not in used)
        if new != name:
            why = "has no name" if not name else "repeats a name" if name in used else "has a very long name"
            notes.append(f"Column {i + 1} {why} and is called '{new}'.")
        names.append(new)
        used.add(new)
    return names, notes
