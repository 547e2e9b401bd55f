"""How often the verdict of `evaluate` is right: of perfect rows, of rows that ignore a dependence, and of copies.

    python benchmarks/verdicts.py

The rows of a truth, four dependent columns of numbers and a category, are split as `train` splits them. Three kinds of
rows are then scored against the held-out rows, as those of a model are:

- *fresh*: other rows of the truth, as a perfect model would give. A verdict other than good is wrong.
- *independent*: the same rows, with each column shuffled by itself. No single column shows that they are wrong.
- *copies*: the training rows again. Only the scores of memorisation show that they are wrong.
"""

from __future__ import annotations

import argparse
import collections
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from dualdiff_cli import seeding
from dualdiff_cli.data import load_data
from dualdiff_cli.jobs.truth import Truth
from dualdiff_cli.metrics import overall_verdict, verdict
from dualdiff_cli.present.tables import Column, Table

LEVELS = ("good", "unknown", "not yet", "bad")
MIXING = np.array([[1.0, 0.5, 0.0, 0.0], [0.0, 1.0, 0.3, 0.0], [0.0, 0.0, 1.0, 0.6], [0.0, 0.0, 0.0, 1.0]])


def truth(n: int, seed: int, role: str) -> pl.DataFrame:
    """Draw n rows: four correlated numbers whose mean depends on a category of three values."""
    rng = seeding.stream(seed, role)
    category = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    x = rng.standard_normal((n, 4)) @ MIXING + category[:, None]
    return pl.DataFrame(x, schema=["a", "b", "c", "d"]).with_columns(kind=pl.Series(np.array(list("xyz"))[category]))


def shuffled(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Shuffle each column by itself."""
    return rows.with_columns(rows[name].shuffle(seed=seed + k) for k, name in enumerate(rows.columns))


def main() -> None:
    """Count the verdicts and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1200, help="rows of a table, a tenth of which is held out")
    parser.add_argument("--generated", type=int, default=1000, help="rows that are scored")
    parser.add_argument("--trials", type=int, default=40)
    asked = parser.parse_args()
    counts = {kind: collections.Counter[str]() for kind in ("fresh", "independent", "copies")}
    blamed = {kind: collections.Counter[str]() for kind in counts}
    for seed in range(asked.trials):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "rows.parquet")
            truth(asked.rows, seed, "table").write_parquet(path)
            data = load_data(str(path), seed=seed)
        against = Truth(data, data.held_out, asked.generated, seed=seed)
        kinds: dict[str, Callable[[], pl.DataFrame]] = {
            "fresh": lambda seed=seed: truth(asked.generated, seed, "fresh"),
            "independent": lambda seed=seed: shuffled(truth(asked.generated, seed, "fresh"), seed),
            "copies": lambda data=data, seed=seed: data.train.sample(
                asked.generated, seed=seed, with_replacement=asked.generated > data.train.height
            ),
        }
        for kind, rows in kinds.items():
            scores = {name: score.to_dict() for name, score in against.score(rows()).items()}
            level = overall_verdict(scores).level
            counts[kind][level] += 1
            blamed[kind].update(name for name in scores if verdict(name, scores[name]).level in ("not yet", "bad"))
    heads = (Column("rows"), *(Column(level, ".0f") for level in LEVELS), Column("scores that tell"))
    tell = {kind: ", ".join(f"{name} {n}" for name, n in found.most_common()) for kind, found in blamed.items()}
    body = [(kind, *(found[level] for level in LEVELS), tell[kind]) for kind, found in counts.items()]
    title = f"verdicts in {asked.trials} trials of {asked.rows:,} rows and {asked.generated:,} generated rows"
    print(Table(title, heads, tuple(body)).to_markdown())


if __name__ == "__main__":
    main()
