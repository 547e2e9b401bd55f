"""A small file of people: a column of whole numbers whose name has brackets, and one of numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from dualdiff_cli import seeding

__all__ = ["PEOPLE", "write_people"]

PEOPLE = ["age (years)", "income"]


def write_people(path: Path, *, n: int = 200, seed: int = 0, **more: Any) -> Path:
    """Write n people whose income rises with their age, and further columns."""
    rng = seeding.stream(seed, "people")
    age = rng.integers(18, 70, n)
    pl.DataFrame({PEOPLE[0]: age, PEOPLE[1]: 0.1 * age + rng.normal(size=n), **more}).write_csv(path)
    return path
