"""Filled gaps against the truth: our draws beside scikit-learn's imputers, on tables with cells removed at random.

    python benchmarks/imputation.py --tables penguins diabetes --seeds 0 1 2     # measure what is not there yet
    python benchmarks/imputation.py --show                                       # the table of what is there

A fifth of all cells is removed. Each imputer learns the table with these gaps and fills them. The error of a number is
the root mean square over removed cells, in standard deviations of the column; that of a category is the share of wrong
values. A draw from the conditional distribution is a possible value and no best guess; the best guess of our model is
the mean of its draws, or their most frequent value. An imputer that knows the spread of what it does not know has the
true value inside the central 80 % of its draws in 80 % of the cells. The ends of the range are quantiles by Weibull's
rule, by which the k-th of n draws has the level k/(n + 1). By NumPy's default rule, the range of 100 ideal draws would
hold 78.4 %.

The penguins come from the package palmerpenguins; the other tables come with scikit-learn.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dualdiff_cli import resolve, seeding, train
from dualdiff_cli.jobs.impute import impute
from dualdiff_cli.present.tables import Column, Table
from dualdiff_cli.store.atomic import write_json

REMOVED = 0.2
"""The share of cells that are removed."""
DRAWS = 100
"""The number of draws for each gap; the error of their mean is 0.5 % larger than that of the conditional mean."""
HELD_OUT = 0.02
"""The share of rows that our model does not learn; the other imputers learn all rows."""
CENTRAL = 0.8
"""The share of draws whose range should hold so many of the true values."""
RESULTS = Path(__file__).parent / "results" / "imputation.json"


def penguins() -> pl.DataFrame:
    """Load the penguins, with the rows that have no gap."""
    file = Path(str(importlib.import_module("palmerpenguins").__file__)).parent / "data" / "penguins.csv"
    return pl.read_csv(file, null_values="NA").drop("year").drop_nulls()


def of_scikit_learn(loader: str, **options: Any) -> Callable[[], pl.DataFrame]:
    """Give the function that loads the features of a table of scikit-learn."""

    def load() -> pl.DataFrame:
        data = getattr(importlib.import_module("sklearn.datasets"), loader)(as_frame=False, **options)
        return pl.DataFrame(data.data, schema=[str(name) for name in data.feature_names])

    return load


TABLES: dict[str, Callable[[], pl.DataFrame]] = {
    "penguins": penguins,
    "diabetes": of_scikit_learn("load_diabetes", scaled=False),
    "diabetes, standardised": of_scikit_learn("load_diabetes"),
    "wine": of_scikit_learn("load_wine"),
    "breast-cancer": of_scikit_learn("load_breast_cancer"),
}

Filled = list[pl.DataFrame]
"""One or more fillings of the same table."""


def ours(gaps: pl.DataFrame, *, seed: int, steps: int | None, model: str) -> Filled:
    """Train a model on the table with its gaps, and draw each gap several times."""
    with tempfile.TemporaryDirectory() as folder:
        gaps.write_parquet(Path(folder, "table.parquet"))
        options: dict[str, Any] = {
            "seed": seed,
            "data": {"held_out_fraction": HELD_OUT},
            **({"training": {"steps": steps}} if steps and model == "dual-expert" else {}),
        }
        config = resolve(dataset=str(Path(folder, "table.parquet")), model=model, rows=gaps.height, options=options)
        run = train(config, path=Path(folder, "run"), device="cpu")["run"]
        frame = impute(run, gaps, draws=DRAWS, seed=seed, device="cpu")["frame"]
    return [frame.filter(draw=k).drop("draw") for k in range(1, DRAWS + 1)]


def by_scikit_learn(name: str, gaps: pl.DataFrame, *, seed: int) -> Filled:
    """Fill with an imputer of scikit-learn on standardised columns.

    A category of K values becomes K − 1 columns of zeros and ones: with K columns, each follows from the others, and
    IterativeImputer learns only that.
    """
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

    imputers: dict[str, Callable[[], Any]] = {
        "mean or mode": SimpleImputer,
        "KNNImputer": KNNImputer,
        "IterativeImputer": lambda: IterativeImputer(random_state=seed, max_iter=20),
        "IterativeImputer, draws": lambda: IterativeImputer(random_state=seed, max_iter=20, sample_posterior=True),
    }
    parts, places = [], {}
    for column in gaps:
        if column.dtype == pl.String:
            values = sorted(column.drop_nulls().unique())
            x = np.stack([(column == value).cast(pl.Float64).to_numpy() for value in values[1:]], axis=1)
        else:
            values, x = [], column.cast(pl.Float64).to_numpy()[:, None]
        places[column.name] = (sum(part.shape[1] for part in parts), values)
        parts.append(np.where(column.is_null().to_numpy()[:, None], np.nan, x))
    x = np.concatenate(parts, axis=1).astype(float)
    mean, std = np.nanmean(x, axis=0), np.nanstd(x, axis=0)
    filled = []
    for k in range(DRAWS if name.endswith("draws") else 1):
        imputer = imputers[name]()
        if k:
            imputer.set_params(random_state=seeding.integer(seed, f"draw {k}"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # rounds that have not converged are judged as they are
            z = imputer.fit_transform((x - mean) / std) * std + mean
        columns = [_column(z, *places[column.name], column) for column in gaps]
        filled.append(pl.DataFrame(columns))
    return filled


def _column(z: np.ndarray, first: int, values: list[str], column: pl.Series) -> pl.Series:
    """Read one column from the filled features."""
    if not values:
        return pl.Series(column.name, z[:, first])
    shares = z[:, first : first + len(values) - 1]
    best = np.concatenate([1 - shares.sum(axis=1, keepdims=True), shares], axis=1).argmax(axis=1)
    return pl.Series(column.name, [values[k] for k in best])


def scores(truth: pl.DataFrame, removed: np.ndarray, filled: Filled) -> dict[str, float | None]:
    """Compare fillings of a table with the truth at the removed cells; see the module.

    Returns:
        The error of the mean of the draws and of a single draw, the shares of wrong categories of the most frequent
        and of a single value, and the share of true numbers inside the central draws; None where there is none.

    """
    errors, single, wrong, wrong_single, inside = [], [], [], [], []
    for k, name in enumerate(truth.columns):
        cells = np.flatnonzero(removed[:, k])
        draws = [frame[name].gather(cells) for frame in filled]
        true = truth[name].gather(cells)
        if truth[name].dtype == pl.String:
            best = [statistics.mode(values) for values in zip(*draws, strict=True)]
            wrong += [a != b for a, b in zip(best, true, strict=True)]
            wrong_single += [a != b for a, b in zip(draws[0], true, strict=True)]
            continue
        x, std = np.array([draw.cast(pl.Float64).to_numpy() for draw in draws]), float(truth[name].std())  # type: ignore[arg-type]
        y = true.cast(pl.Float64).to_numpy()
        errors += (((x.mean(0) - y) / std) ** 2).tolist()
        single += (((x[0] - y) / std) ** 2).tolist()
        if len(filled) > 1:
            low, high = np.quantile(x, [(1 - CENTRAL) / 2, (1 + CENTRAL) / 2], axis=0, method="weibull")
            inside += ((low <= y) & (y <= high)).tolist()
    return {
        "error": float(np.sqrt(np.mean(errors))),
        "error_of_one_draw": float(np.sqrt(np.mean(single))),
        "wrong": float(np.mean(wrong)) if wrong else None,
        "wrong_of_one_draw": float(np.mean(wrong_single)) if wrong_single else None,
        "inside": float(np.mean(inside)) if inside else None,
    }


OTHERS = ("mean or mode", "KNNImputer", "IterativeImputer", "IterativeImputer, draws")
OURS = {"dualdiff": "dual-expert", "dualdiff, mixture": "mixture"}
"""Our imputers and the models that they are."""


def measure(table: str, imputer: str, seed: int, steps: int | None) -> dict[str, Any]:
    """Remove cells from a table, fill them and score the filling."""
    truth = TABLES[table]()
    copied = table.partition(",")[0]  # a standardised copy loses the same cells
    removed = seeding.stream(seed, f"removed cells of {copied}").random((truth.height, truth.width)) < REMOVED
    gaps = truth.with_columns(
        pl.when(pl.Series(~removed[:, k])).then(pl.col(name)).alias(name) for k, name in enumerate(truth.columns)
    )
    started = time.monotonic()
    if imputer in OURS:
        filled = ours(gaps, seed=seed, steps=steps, model=OURS[imputer])
    else:
        filled = by_scikit_learn(imputer, gaps, seed=seed)
    seconds = time.monotonic() - started
    cell = {"table": table, "imputer": imputer, "seed": seed, "steps": steps if imputer == "dualdiff" else None}
    return {**cell, "rows": truth.height, "columns": truth.width, "seconds": seconds, **scores(truth, removed, filled)}


def table_of(cells: list[dict[str, Any]]) -> Table:
    """Lay out mean and 95 % interval over the seeds, of each number of training steps that was asked for by itself."""
    heads = ("table", "imputer", "seeds", "error", "one draw", "wrong categories", f"inside central {CENTRAL:.0%}")
    body = []
    tables, steps_of_all = (dict.fromkeys(cell[key] for cell in cells) for key in ("table", "steps"))
    for table, imputer, steps in product(tables, (*OTHERS, *OURS), steps_of_all):
        own = [cell for cell in cells if (cell["table"], cell["imputer"], cell["steps"]) == (table, imputer, steps)]
        if own:
            name = imputer if steps is None else f"{imputer}, {steps:,} steps"
            shown = [_over_seeds([cell[key] for cell in own]) for key in ("error", "error_of_one_draw")]
            shares = [_over_seeds([cell[key] for cell in own], percent=True) for key in ("wrong", "inside")]
            body.append((table, name, len(own), *shown, *shares))
    return Table("Cells removed at random and filled", tuple(map(Column, heads)), tuple(body))


def _over_seeds(values: list[float | None], *, percent: bool = False) -> str:
    """Give mean and half-width of the 95 % interval of the mean, by Student's t."""
    from scipy.stats import t

    known = [value * (100 if percent else 1) for value in values if value is not None]
    if not known:
        return ""
    unit = " %" if percent else ""
    if len(known) == 1:
        return f"{known[0]:.3g}{unit}"
    half = float(t.ppf(0.975, len(known) - 1)) * statistics.stdev(known) / len(known) ** 0.5
    return f"{statistics.mean(known):.{1 if percent else 3}f} ± {half:.{1 if percent else 3}f}{unit}"


def main() -> None:
    """Measure what is not there yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=["penguins", "diabetes", "breast-cancer"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="training steps of our model; default: the recipe's")
    parser.add_argument("--show", action="store_true", help="print the table and measure nothing")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    cells: list[dict[str, Any]] = json.loads(asked.output.read_text())["cells"] if asked.output.exists() else []
    there = {(cell["table"], cell["imputer"], cell["seed"], cell["steps"]) for cell in cells}
    for seed in () if asked.show else asked.seeds:
        for table in asked.tables:
            for imputer in (*OTHERS, *OURS):
                if (table, imputer, seed, asked.steps if imputer == "dualdiff" else None) not in there:
                    cells.append(measure(table, imputer, seed, asked.steps))
                    write_json(asked.output, {"removed": REMOVED, "draws": DRAWS, "cells": cells})
                    print(json.dumps(cells[-1]), flush=True)
    print(table_of(cells).to_markdown())


if __name__ == "__main__":
    main()
