"""Seeded damage to files, for tests and for `nox -s fuzz`: flipped bytes, lost and foreign values, absurd numbers."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["damaged_bytes", "damaged_tree", "damaged_values", "places"]

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


Damage = Callable[[bytes, random.Random], bytes]
