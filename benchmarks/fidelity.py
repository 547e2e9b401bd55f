"""How good the samples are: every data set × recipe × model × seed, trained in full and scored by `dualdiff evaluate`.

    python benchmarks/fidelity.py --recipe paper --model baseline --model dual-expert --seeds 2

Runs are spread over processes of one thread each and kept under --runs: a finished run is not trained again, and an
interrupted run is continued. The script prints a Markdown table, and writes JSON with the machine's description.
`dualdiff reproduce` is the same grid, laid out as the paper's tables.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from dualdiff_cli.compute.machine import describe_machine
from dualdiff_cli.errors import DualdiffError
from dualdiff_cli.metrics.score import mean_interval
from dualdiff_cli.paper.experiment import Experiment
from dualdiff_cli.paper.grid import GridProgress, run_grid
from dualdiff_cli.paper.values import published
from dualdiff_cli.present.tables import Column, Estimate, Range, Table, Value


def table(results: list[dict[str, Any]], metrics: list[str]) -> Table:
    """One row per data set, recipe, model and sampling: the mean over seeds ± standard deviation, floor, and paper."""
    papers = published("table1")
    rows: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for result in results:
        model = " ".join([result["experiment"]["model"], *result["experiment"]["settings"]])
        for evaluation in result["evaluations"]:
            sampling = f"{evaluation['sampler']} {evaluation['sample_steps']}"
            key = (evaluation["dataset"], evaluation["recipe"], model, sampling)
            rows.setdefault(key, []).append(evaluation["metrics"])
    columns = [Column(name) for name in ("data set", "recipe", "model", "sampler", "seeds")]
    body = []
    for (dataset, recipe, model, sampling), runs in sorted(rows.items()):
        values: list[Value] = [dataset, recipe, model, sampling, len(runs)]
        for metric in metrics:
            scores = [run[metric] for run in runs if metric in run]
            floors = [score["floor"] for score in scores if score["floor"] is not None]
            values += [_estimate([score["value"] for score in scores]), statistics.mean(floors) if floors else None]
        body.append((*values, papers.get((dataset, model), {}).get("kl_bits")))
    heads = [Column(head) for metric in metrics for head in (metric, "floor")]
    failed = tuple(f"{result['experiment']['dataset']}, {result['error']}" for result in results if "error" in result)
    return Table("Fidelity", (*columns, *heads, Column("paper's KL")), tuple(body), failed)


def differences(results: list[dict[str, Any]], metrics: list[str]) -> Table:
    """Every later model less the first, paired by data set, recipe, seed and sampling, with the 95 % interval."""
    scores: dict[str, dict[tuple[Any, ...], Any]] = {result["experiment"]["model"]: {} for result in results}
    for result in results:
        for e in result["evaluations"]:
            pair = (e["dataset"], e["recipe"], e["sampler"], e["sample_steps"], result["experiment"]["seed"])
            scores[result["experiment"]["model"]][pair] = e["metrics"]
    first, *others = scores
    columns = [Column(name, "+.4f") for name in ("models", "score", "pairs", "difference", "95 % interval")]
    body: list[tuple[Value, ...]] = []
    for other in others:
        pairs = [pair for pair in scores[other] if pair in scores[first]]
        for metric in metrics if pairs else ():
            apart = [scores[other][pair][metric]["value"] - scores[first][pair][metric]["value"] for pair in pairs]
            low, high = mean_interval(apart) or (math.nan, math.nan)
            body.append((f"{other} − {first}", metric, len(apart), statistics.mean(apart), Range(low, high)))
    return Table("Differences", tuple(columns), tuple(body))


def _estimate(values: list[float]) -> Estimate | None:
    if not values:
        return None
    return Estimate(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None)


def main() -> None:
    """Run the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", action="append", help="default: the paper's four")
    parser.add_argument("--recipe", action="append", help="default: paper")
    parser.add_argument("--model", action="append", help="default: baseline and dual-expert")
    parser.add_argument("--sampling", action="append", metavar="NAME:STEPS", help="default: the recipe's own")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, help="training steps, default: the recipe's own")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="change the recipe, as `train --set` does")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--engine", choices=("joblib", "ray"), default="joblib", help="what spreads the runs")
    parser.add_argument("--runs", default="runs/fidelity")
    parser.add_argument("--metric", action="append", help="columns of the table")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/fidelity.json"))
    args = parser.parse_args()

    samplings = tuple((name, int(steps)) for name, steps in (item.split(":") for item in args.sampling or ()))
    grid = itertools.product(
        range(args.seeds),
        args.dataset or ["circle", "dino", "line", "moons"],
        args.recipe or ["paper"],
        args.model or ["baseline", "dual-expert"],
    )
    experiments = [
        Experiment(
            dataset=dataset,
            recipe=recipe,
            model=model,
            seed=seed,
            steps=args.steps,
            settings=tuple(args.set or ()),
            samplings=samplings or ((None, None),),
            runs=args.runs,
        )
        for seed, dataset, recipe, model in grid
    ]
    told = -1

    def on_progress(progress: GridProgress) -> None:
        nonlocal told
        if progress.done > told:
            told = progress.done
            print(f"{told} of {progress.runs} runs done", file=sys.stderr, flush=True)

    started = time.perf_counter()
    try:
        results = run_grid(experiments, jobs=args.jobs, engine=args.engine, on_progress=on_progress)
    except DualdiffError as error:
        raise SystemExit(str(error)) from None
    args.output.parent.mkdir(parents=True, exist_ok=True)
    record = {"machine": describe_machine(), "wall_seconds": time.perf_counter() - started, "results": results}
    args.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table(results, args.metric or ["kl_published", "kl_real_generated", "kl_generated_real"]).to_markdown())
    if len({result["experiment"]["model"] for result in results}) > 1:
        print(differences(results, args.metric or ["kl_real_generated", "kl_generated_real"]).to_markdown())


if __name__ == "__main__":
    main()
