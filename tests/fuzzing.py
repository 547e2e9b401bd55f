"""Seeded damage to files, for tests and for `nox -s fuzz`: flipped bytes, lost and foreign values, absurd numbers."""

from __future__ import annotations

import copy
import gzip
import json
import math
import random
import signal
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

__all__ = [
    "STRANGE",
    "Damage",
    "Target",
    "damaged_bytes",
    "damaged_cells",
    "damaged_toml",
    "damaged_tree",
    "damaged_values",
    "packed",
    "places",
    "within",
]

Damage = Callable[[bytes, random.Random], bytes]
"""Makes damaged bytes of the good ones."""


@dataclass(frozen=True)
class Target:
    """A file, the code that reads it, and the ways in which it is damaged.

    Attributes:
        path: of the file, which holds a good example.
        use: reads the file and uses what it says.
        damages: each makes other bytes of the good ones.
        share: the part of the inputs that this target gets; slow ones get fewer.

    """

    path: Path
    use: Callable[[], object]
    damages: tuple[Damage, ...]
    share: float = 1.0


class TooSlow(BaseException):
    """An input has taken too long; no subclass of Exception, because the code that reads files catches those."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise TooSlow when this block takes longer; on Windows it may take as long as it likes."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise TooSlow(f"more than {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


CELLS = (
    *(
        "",
        " ",
        '"',
        '""',
        "nan",
        "-inf",
        "1e999",
        "1e308",
        "-1e-320",
        "0x10",
        "1_000",
        "1,5",
        "1;5",
        "١٢",
        "NA",
        "null",
    ),
    *("9223372036854775808", "-1", "1" * 400, "true", "2024-02-30", "0001-01-01", "9999-12-31T23:59:60", "12:00"),
    *("=1+1", "[red]", "a\nb", "\x00", "\ufeff", "é", "x" * 70_000, "\r", "\t", "#", "a" * 10),
)
"""What a cell of a text file may hold instead of what it should."""

STRANGE: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**31, 2**63, 10**30, -(10**30), 1e308, -1e308, 5e-324, 0.5, math.nan, math.inf, -math.inf),
    *("", "x", "\0", "../../etc/passwd", "[red]", "=1+1", "a" * 10_000, "\ud7ff", [], [None], {}, {"": {}}),
)
"""Values of other types and sizes than any file should hold."""


def damaged_bytes(whole: bytes, draws: random.Random) -> bytes:
    """Flip bits, cut the end off, or put a block of other bytes in place."""
    content = bytearray(whole)
    for _ in range(draws.choice((1, 1, 2, 8))):
        if not content:
            break
        place = draws.randrange(len(content))
        how = draws.random()
        if how < 0.6:
            content[place] ^= 1 << draws.randrange(8)
        elif how < 0.7:
            del content[place:]
        elif how < 0.85:
            content[place : place + 16] = draws.randbytes(16)
        else:
            content[place:place] = content[: draws.randrange(64)]
    return bytes(content)


def places(tree: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the places of all values in nested lists and mappings, as the keys that lead there."""
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    for key, value in children:
        yield (*place, key)
        yield from places(value, (*place, key))


def damaged_tree(tree: Any, draws: random.Random, strange: tuple[Any, ...] = STRANGE) -> Any:
    """Delete a value, put a strange one in its place, repeat it many times, or bury it deep in lists."""
    tree = copy.deepcopy(tree)
    for _ in range(draws.choice((1, 1, 1, 2))):
        found = list(places(tree))
        if not found:
            return draws.choice(strange)
        *way, last = draws.choice(found)
        parent = tree
        for key in way:
            parent = parent[key]
        if isinstance(parent, tuple):
            continue
        how = draws.random()
        if how < 0.25:
            del parent[last]
        elif how < 0.85:
            parent[last] = copy.deepcopy(draws.choice(strange))
        elif how < 0.92:
            parent[last] = [parent[last]] * draws.choice((2, 1000))
        else:
            for _ in range(draws.choice((5, 100))):
                parent[last] = [parent[last]]
    return tree


def damaged_values(content: bytes, draws: random.Random) -> bytes:
    """Damage the values of a JSON file; a file of lines of JSON is damaged in one line."""
    lines = content.splitlines() if content.count(b"\n{") else [content]
    number = draws.randrange(len(lines))
    if draws.random() < 0.02:
        lines[number] = b"[" * 100_000
    else:
        lines[number] = json.dumps(damaged_tree(json.loads(lines[number]), draws)).encode()
    return b"\n".join(lines) + b"\n"


def damaged_toml(content: bytes, draws: random.Random) -> bytes:
    """Damage the values of a TOML file."""
    if draws.random() < 0.05:
        return b"a = " + b"[" * 10_000
    strange = tuple(value for value in STRANGE if value is not None and value != [None] and value != "\ud7ff")
    with suppress(AttributeError, TypeError):
        return tomli_w.dumps(damaged_tree(tomllib.loads(content.decode()), draws, strange)).encode()
    return content


def damaged_cells(content: bytes, draws: random.Random) -> bytes:
    """Put strange cells into a text file, lose or repeat cells and lines, or change the separator or the encoding."""
    mark = "\t" if b"\t" in content else ","
    lines = [line.split(mark) for line in content.decode().splitlines()]
    for _ in range(draws.choice((1, 1, 2, 5, 30))):
        line = draws.choice(lines)
        how, place = draws.random(), draws.randrange(len(line) or 1)
        if how < 0.5 and line:
            line[place] = draws.choice(CELLS)
        elif how < 0.6:
            del line[place:]
        elif how < 0.7:
            line.insert(place, draws.choice(CELLS))
        elif how < 0.8:
            for each in lines[1:]:  # a whole column
                each[place : place + 1] = [draws.choice(CELLS)]
        elif how < 0.9:
            lines.insert(draws.randrange(len(lines)), draws.choice(lines))
        elif len(lines) > 1:
            lines.remove(line)
    mark = draws.choice((*[mark] * 8, ";", "|"))
    end = draws.choice((*["\n"] * 8, "\r\n", "\r"))
    text = end.join(mark.join(line) for line in lines)
    return text.encode(draws.choice((*["utf-8"] * 8, "latin-1", "utf-16", "utf-8-sig")), errors="replace")


def packed(damage: Damage) -> Damage:
    """Make damage to what is inside a gzip file."""
    return lambda content, draws: gzip.compress(damage(gzip.decompress(content), draws), 1)
