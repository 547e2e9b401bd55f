"""Models of few rows, scored against fresh truth: how much each misses the distribution, and whether it copies.

    python benchmarks/few_rows.py --rows 300 1000 --columns 2 5 --truth mixture sheet --seeds 1
    python benchmarks/few_rows.py --show          # the table of what is there

Each cell is one truth, number of rows, number of columns, model and seed. A cell that is finished is not run again. The
excess is the sum of both divergences between fresh true rows and generated rows, in whitened units and in bits, less
the same sum for fresh true rows in place of the generated ones.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import norm, t

from dualdiff_cli import resolve, seeding, train
from dualdiff_cli.compute.device import choose_device
from dualdiff_cli.compute.machine import describe_machine
from dualdiff_cli.metrics import score_samples
from dualdiff_cli.models import load_model
from dualdiff_cli.present.tables import Column, Table
from dualdiff_cli.store.atomic import write_json
from dualdiff_cli.store.run import Run

Rows = np.ndarray
N = 10_000
"""The number of generated rows, and of fresh true rows."""
SCORES = ("kl_real_generated", "kl_generated_real", "classifier_auc", "memorisation", "copies")


def mixture(d: int, n: int, rng: np.random.Generator) -> Rows:
    """Draw from eight Gaussians of unequal weight and rotated covariances; the mixture itself is the same always."""
    shape = seeding.stream(d, "the mixture")
    weights = shape.dirichlet(np.full(8, 3.0))
    means = 3 * shape.standard_normal((8, d))
    axes = np.linalg.qr(shape.standard_normal((8, d, d)))[0] * shape.uniform(0.1, 1.0, (8, 1, d))
    k = rng.choice(8, n, p=weights)
    return means[k] + np.einsum("nij,nj->ni", axes[k], rng.standard_normal((n, d)))


def sheet(d: int, n: int, rng: np.random.Generator) -> Rows:
    """Draw from a curved sheet of two dimensions with noise."""
    shape = seeding.stream(d, "the sheet")
    frequency, phase = shape.uniform(1, 3, (2, d)), shape.uniform(0, 2 * np.pi, d)
    return np.sin(rng.uniform(-1.5, 1.5, (n, 2)) @ frequency + phase) + 0.05 * rng.standard_normal((n, d))


def copula(d: int, n: int, rng: np.random.Generator) -> Rows:
    """Draw from a t copula with three degrees of freedom and heavy-tailed margins."""
    shape = seeding.stream(d, "the copula")
    factor = shape.standard_normal((d, d))
    correlated = rng.standard_normal((n, d)) @ (factor / np.linalg.norm(factor, axis=0))
    uniform = t.cdf(correlated / np.sqrt(rng.chisquare(3, (n, 1)) / 3), 3)
    return np.sinh(norm.ppf(np.clip(uniform, 1e-9, 1 - 1e-9)))


TRUTHS: dict[str, Callable[[int, int, np.random.Generator], Rows]] = {
    "mixture": mixture,
    "sheet": sheet,
    "copula": copula,
}


def measure(truth: str, rows: int, columns: int, model: str, seed: int, settings: list[str]) -> dict[str, Any]:
    """Train one model in a folder of its own and score it against fresh truth."""

    def draw(n: int, role: str) -> Rows:
        return TRUTHS[truth](columns, n, seeding.stream(seed, role))

    learnt, fresh = draw(rows, "rows"), [draw(N, f"fresh {k}") for k in range(4)]
    name, _, recipe = model.partition(":")
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "rows.parquet")
        pl.DataFrame(learnt, schema=[f"x{i + 1}" for i in range(columns)]).write_parquet(table)
        options = {"seed": seed, "data": {"held_out_fraction": max(0.1, 20 / rows)}}
        if recipe in ("", "few-rows") and name == "dual-expert":
            recipe = "few-rows"
        config = resolve(dataset=str(table), model=name, recipe=recipe or None, options=options, settings=settings)
        record = train(config, path=Path(folder, "run"), device="cpu")
        generated = load_model(Run.open(record["run"]), device=choose_device("cpu")).sample(N, seed=seed).to_numpy()
    whitening = np.linalg.inv(np.linalg.cholesky(np.cov(fresh[0].T).reshape(columns, columns))).T
    real, *perfect = (x @ whitening for x in fresh)
    scores = score_samples(
        real=real, generated=generated @ whitening, perfect=perfect, training=learnt @ whitening, only=SCORES, seed=seed
    )
    values = {name: score.to_dict() for name, score in scores.items()}
    divergences = [values[name] for name in SCORES[:2]]
    return {
        "excess": sum(s["value"] - s["floor"] for s in divergences) if all(s["value"] for s in divergences) else None,
        "scores": values,
        "train_seconds": record["train_seconds"],
        "facts": {key: record.get(key) for key in ("steps", "components", "expert_usage", "bandwidth")},
    }


def table(results: list[dict[str, Any]]) -> Table:
    """Lay out the cells, averaged over seeds."""
    heads = ("truth", "rows × columns", "model", "seeds", "excess", "AUC", "memorisation", "copies, %", "train, s")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for r in results:
        groups.setdefault((r["truth"], f"{r['rows']} × {r['columns']}", r["model"]), []).append(r["result"])

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.fmean(known) if known else None

    body = []
    for key, cells in groups.items():
        auc, nearer, copies = (mean([c["scores"][name]["value"] for c in cells]) for name in SCORES[2:])
        floor = mean([c["scores"]["copies"]["floor"] for c in cells])
        over = None if copies is None or floor is None else 100 * (copies - floor)
        seconds = mean([c["train_seconds"] for c in cells])
        body.append((*key, len(cells), mean([c["excess"] for c in cells]), auc, nearer, over, seconds))
    return Table("Few rows, against fresh truth", tuple(Column(head, ".3g") for head in heads), tuple(body))


def main() -> None:
    """Run the cells that are not there yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", nargs="+", choices=TRUTHS, default=list(TRUTHS))
    parser.add_argument("--rows", nargs="+", type=int, default=[300, 1000, 5000])
    parser.add_argument("--columns", nargs="+", type=int, default=[2, 5, 10])
    models = ["dual-expert", "dual-expert:precise", "mixture", "kernel-density", "spline-flow"]
    parser.add_argument("--model", nargs="+", default=models, help="a model, or model:recipe")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the diffusion models")
    parser.add_argument("--output", type=Path, default=Path("few-rows.json"))
    parser.add_argument("--show", action="store_true", help="print the table of what is there, and run nothing")
    args = parser.parse_args()
    kept = json.loads(args.output.read_text(encoding="utf-8")) if args.output.exists() else {"results": []}
    done = {tuple(r[key] for key in ("truth", "rows", "columns", "model", "seed")) for r in kept["results"]}
    for cell in itertools.product(args.truth, args.rows, args.columns, args.model, range(args.seeds)):
        if args.show or cell in done:
            continue
        settings = args.set if cell[3].startswith("dual-expert") else []
        labels = dict(zip(("truth", "rows", "columns", "model", "seed"), cell, strict=True))
        kept["results"].append({**labels, "settings": settings, "result": measure(*cell, settings)})
        write_json(args.output, {**kept, "machine": describe_machine()})
        print(*cell, f"excess {kept['results'][-1]['result']['excess']}", flush=True)
    print(table(kept["results"]).to_markdown())


if __name__ == "__main__":
    main()
