"""Write a table of two numbers and of a category on which they depend: python flowers.py FILE.csv."""

from __future__ import annotations

import sys

import polars as pl

from dualdiff_cli import seeding

N = 1500
rng = seeding.stream(0, "flowers")
tall = rng.random(N) < 0.4
length, width = rng.normal([[4.0], [2.0]], 0.6, (2, N)) + tall * [[1.5], [0.8]]
kinds = ["tall" if is_tall else "low" for is_tall in tall]
pl.DataFrame({"length": length, "width": width, "kind": kinds}).write_csv(sys.argv[1])
