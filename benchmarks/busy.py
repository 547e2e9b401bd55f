"""Training beside another program: how long threads that wait for each other keep their cores.

    python benchmarks/busy.py --output benchmarks/results/busy.json
    python benchmarks/busy.py --output benchmarks/results/busy.json --show

The threads of a matrix product wait for the slowest of them. GNU's OpenMP lets them wait in a loop, of 300,000 turns
unless GOMP_SPINCOUNT says otherwise, which is good on a quiet machine. If another program uses one of the cores, the
loop keeps that core from the thread that is being waited for. Each time is that of `dualdiff train` on 300 rows; the
other programs are loops that never end.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import polars as pl

from dualdiff_cli import seeding
from dualdiff_cli.__main__ import SPINS
from dualdiff_cli.compute.machine import describe_machine
from dualdiff_cli.present.tables import Column, Table
from dualdiff_cli.store.atomic import write_json

OWN = 300_000
"""The turns of GNU's OpenMP where the environment says nothing."""
STEPS = 100


def seconds(rows: Path, spins: int, others: int) -> float:
    """Train beside so many other programs, and give the seconds of the training."""
    with ExitStack() as running:
        for _ in range(others):
            loop = running.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            running.callback(loop.kill)
        words = ["train", "--dataset", rows, "--device", "cpu", "--steps", STEPS, "--run-dir", rows.with_name("run")]
        finished = subprocess.run(
            [sys.executable, "-m", "dualdiff_cli", *map(str, words), "--json"],
            env={**os.environ, "GOMP_SPINCOUNT": str(spins)},
            check=True,
            capture_output=True,
            text=True,
            cwd=rows.parent,
        )
    return float(json.loads(finished.stdout)["train_seconds"])


def table(results: list[dict[str, Any]]) -> Table:
    """Lay out the median and the range of the times."""
    columns = (Column("other programs"), Column("turns"), Column("median, s", ".3g"), Column("range, s"))
    body = tuple(
        (
            r["others"],
            r["spins"],
            statistics.median(r["seconds"]),
            f"{min(r['seconds']):.1f} to {max(r['seconds']):.1f}",
        )
        for r in results
    )
    return Table(f"{STEPS} steps and the end of a training of 300 rows", columns, body)


def main() -> None:
    """Time every combination in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("busy.json"))
    parser.add_argument("--show", action="store_true", help="print the table of what is there, and run nothing")
    args = parser.parse_args()
    if args.show:
        print(table(json.loads(args.output.read_text(encoding="utf-8"))["results"]).to_markdown())
        return
    results = [{"others": k, "spins": spins, "seconds": []} for k in (0, 1) for spins in (OWN, int(SPINS))]
    for _ in range(args.repeats):
        for result in results:
            with tempfile.TemporaryDirectory() as folder:
                rows = Path(folder, "rows.csv")
                draws = seeding.stream(0, "rows for a busy machine").standard_normal((300, 2))
                pl.DataFrame(draws, schema=["a", "b"]).write_csv(rows)
                result["seconds"].append(seconds(rows, result["spins"], result["others"]))
            print(result, flush=True)
            write_json(args.output, {"results": results, "machine": describe_machine()})
    print(table(results).to_markdown())


if __name__ == "__main__":
    main()
