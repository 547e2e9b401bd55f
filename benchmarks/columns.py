"""A file of five correlated columns, one of integers and one with heavy tails: trained on, and sampled again.

    python benchmarks/columns.py --rows 50000

A Gaussian copula of known correlation makes the file; `dualdiff train`, `sample` and `evaluate` do the rest, on the
command line. Prints each column's quantiles and the correlations of data and samples side by side.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import norm, poisson, spearmanr, t

from dualdiff_cli.present.evaluation import evaluation_tables
from dualdiff_cli.present.tables import Column, Table
from dualdiff_cli.seeding import stream

CORRELATION = np.array(
    [
        [1.0, 0.8, 0.5, -0.4, 0.0],
        [0.8, 1.0, 0.6, -0.3, 0.2],
        [0.5, 0.6, 1.0, 0.0, 0.3],
        [-0.4, -0.3, 0.0, 1.0, -0.6],
        [0.0, 0.2, 0.3, -0.6, 1.0],
    ]
)
COLUMNS = ["mass", "energy", "delay", "hits", "angle"]


def make_file(path: Path, rows: int) -> None:
    """Write rows of two normal, a Student's t (3 degrees of freedom), a Poisson and a uniform column, with a copula."""
    z = stream(0, "columns benchmark").multivariate_normal(np.zeros(5), CORRELATION, size=rows)
    u = norm.cdf(z)
    values = {
        "mass": 120 + 15 * z[:, 0],
        "energy": 3.5 + 0.4 * z[:, 1],
        "delay": 2.0 * t.ppf(u[:, 2], df=3),
        "hits": poisson.ppf(u[:, 3], 20).astype(np.int64),
        "angle": 180 * u[:, 4],
    }
    pl.DataFrame(values).write_csv(path)


def dualdiff(*arguments: str) -> dict[str, Any]:
    """Run a command, and give its record; what the command says about a failure stands in the terminal."""
    command = [sys.executable, "-m", "dualdiff_cli", *arguments, "--json", "--quiet"]
    record: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return record


def main() -> None:
    """Write the file, train, sample, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, default=Path("runs/columns"))
    parser.add_argument("--steps", type=int, default=10_000)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    data, samples = args.folder / "data.csv", args.folder / "samples.csv"
    make_file(data, args.rows)

    with tempfile.TemporaryDirectory() as run:
        trained = dualdiff("train", "--dataset", str(data), "--steps", str(args.steps), "--run-dir", run)
        drawn = dualdiff("sample", run, "-n", str(args.rows), "-o", str(samples))
        scored = dualdiff("evaluate", run)
    print(f"trained in {trained['train_seconds']:.0f} s, drew {args.rows:,} points in {drawn['seconds']:.0f} s\n")

    real, generated = pl.read_csv(data), pl.read_csv(samples)
    shares = (0.001, 0.01, 0.25, 0.5, 0.75, 0.99, 0.999)
    body = tuple(
        (name, label, str(frame[name].dtype), *(frame[name].cast(pl.Float64).quantile(share) for share in shares))
        for name in COLUMNS
        for label, frame in (("data", real), ("samples", generated))
    )
    heads = ("column", "set", "type", *(f"{100 * share:g} %" for share in shares))
    print(Table("Quantiles", tuple(Column(head, ".4g") for head in heads), body).to_markdown())
    ranks = [spearmanr(frame.select(COLUMNS).to_numpy()).statistic for frame in (real, generated)]
    expected = 6 / np.pi * np.arcsin(CORRELATION / 2)
    for label, matrix in (("copula", expected), ("data", ranks[0]), ("samples", ranks[1])):
        print(f"\nrank correlations, {label}:\n{np.array2string(matrix, precision=3, suppress_small=True)}")
    print()
    for laid_out in evaluation_tables(scored, title="Scores"):
        print(laid_out.to_markdown())


if __name__ == "__main__":
    main()
