"""Seconds and peak memory of `dualdiff train` on a large table with every kind of column and one of many categories.

    python benchmarks/big_table.py                      # 1,000,000 rows, a category of 50,000 values
    python benchmarks/big_table.py --rows 100000 -- --steps 200

The script makes the table as a Parquet file, runs the real command on it as a user would, in a process of its own, and
prints how long the command took, the processor time of its threads and the largest memory that it held. What stands
behind ``--`` is handed to the command. On a machine that does other work as well, the seconds of the clock say what the
command had to wait for, too: processor time divided by the number of cores is what an idle machine could reach.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from dualdiff_cli import seeding
from dualdiff_cli.compute.machine import describe_machine
from dualdiff_cli.present.tables import Column, Table

ROWS, VALUES = 1_000_000, 50_000
START = dt.datetime(2022, 1, 3)


def big_table(n: int, values: int) -> pl.DataFrame:
    """Make n rows of a shop's orders: every kind of column, some of which depend on others, and a tenth of gaps.

    Args:
        n: the number of rows.
        values: the number of different products, whose frequencies fall like those of words; n at most.

    """
    rng = seeding.stream(0, "big table")
    shares = 1 / np.arange(1, values + 1) ** 0.8
    product = np.concatenate([np.arange(values), rng.choice(values, n - values, p=shares / shares.sum())])
    rng.shuffle(product)
    price = np.round(np.exp(rng.normal(3, 0.8, values)), 2)[product]
    count = 1 + rng.poisson(1.5, n)
    second = rng.integers(0, 2 * 365 * 86_400, n)
    region = rng.choice(["north", "south", "east", "west"], n, p=[0.4, 0.3, 0.2, 0.1])
    weight = rng.lognormal(0, 0.5, n) * count
    returned = np.where(rng.random(n) < 0.85, 0.0, np.where(rng.random(n) < 0.3, 1.0, rng.beta(2, 2, n)))
    microseconds = pl.Series(second) * 1_000_000
    rows = pl.DataFrame(
        {
            "product": "P" + pl.Series(product).cast(pl.String).str.zfill(5),
            "region": region,
            "express": rng.random(n) < np.where(region == "north", 0.5, 0.2),
            "count": count,
            "price": price,
            "weight": weight,
            "temperature": rng.normal(15, 8, n) + 10 * np.sin(second / 86_400 / 365 * 2 * np.pi),
            "returned": returned,
            "direction": rng.uniform(0, 360, n),
            "ordered": microseconds.cast(pl.Duration("us")) + START,
            "day": (pl.Series(second // 86_400).cast(pl.Int32) + 18_995).cast(pl.Date),
            "score": np.round(2 * rng.normal(5, 1.5, n)) / 2,
            "currency": np.full(n, "EUR"),
        }
    )
    gaps = pl.Series(rng.random(n) < 0.1)
    return rows.with_columns(pl.when(~gaps).then(pl.col(name)).alias(name) for name in ("temperature", "region"))


def measured(command: list[str]) -> tuple[float, float, float]:
    """Run a command, and give the seconds of the clock, the seconds of processor time and the peak of memory in GiB."""
    started = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


def main(words: list[str] | None = None) -> None:
    """Make the table, train on it, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--values", type=int, default=VALUES, help="the number of values of the large category")
    parser.add_argument("options", nargs="*", help="options of `dualdiff train`, behind --")
    asked = parser.parse_args(words)
    values = min(asked.values, asked.rows)
    load = os.getloadavg()[2]  # afterwards it would be that of the training
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "orders.parquet")
        big_table(asked.rows, values).write_parquet(file)
        train = [sys.executable, "-m", "dualdiff_cli", "train", str(file), "--run-dir", str(Path(folder, "run"))]
        seconds, processor, memory = measured([*train, *asked.options])
    facts = {
        "rows": f"{asked.rows:,}",
        "values of the large category": f"{values:,}",
        "seconds": f"{seconds:.0f}",
        "seconds of processor time": f"{processor:.0f}",
        "peak memory, GiB": f"{memory:.2f}",
        "cores": describe_machine()["cores"],
        "load before, in processes": f"{load:.1f}",
    }
    print(Table("dualdiff train", (Column(""), Column("")), tuple(facts.items())).to_markdown())


if __name__ == "__main__":
    main()
