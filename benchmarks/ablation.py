"""What each part of the default recipe gains: the recipe, and the recipe with one part changed, trained and scored.

    python benchmarks/ablation.py --dataset dino --dataset circle

Each change is trained once on each data set; a change of the sampler uses the run of the full recipe. Runs are kept
under --runs, and a second call continues an interrupted one. The script prints a Markdown table, and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from dualdiff_cli.compute.machine import describe_machine
from dualdiff_cli.paper.experiment import Experiment
from dualdiff_cli.paper.grid import GridProgress, run_grid
from dualdiff_cli.present.tables import Column, Estimate, Table, Value

METRICS = ("kl_real_generated", "kl_generated_real", "classifier_two_sample")
FULL = "the full recipe"

CHANGES: dict[str, tuple[str, ...]] = {
    FULL: (),
    "the paper's schedule (linear β, T = 100)": ("schedule.name=linear-beta",),
    "cosine schedule, T = 100": ("schedule.name=cosine",),
    "σ_min = 0.002, EDM's, not the data's": ("schedule.sigma_min=0.002",),
    "noise prediction": ("objective.prediction=noise",),
    "plain targets": ("objective.references=0",),
    "uniform times, not stratified": ("objective.stratified=false",),
    "the paper's embedding": ("model.embedding=paper",),
    "ReLU, time at the first layer only": ("model.activation=relu", "model.time_bias=false"),
    "the paper's learning rate (3e-4, cosine)": ("training.learning_rate=3e-4", "training.annealing=cosine"),
    "the paper's average (0.995, every 10)": ("training.ema_decay=0.995", "training.ema_every=10"),
    "a gate on the point, not on the level": ("model.gate_on=point",),
}
"""The settings that differ from the full recipe, by the change's name, as `train --set` takes them."""

OWN = ("dpmpp-2m-sde", 50)
SAMPLINGS: dict[str, tuple[str, int]] = {
    FULL: OWN,
    "ancestral, 50 evaluations": ("ancestral", 50),
    "Euler, 50 evaluations": ("euler", 50),
    "Heun, 49 evaluations": ("heun", 25),
    "DPM-Solver++ 2M, 50 evaluations": ("dpmpp-2m", 50),
}
"""The sampler and the number of its steps for the full recipe's run, by name."""


def experiments_of(
    datasets: list[str], changes: list[str], *, seeds: int, steps: int | None, runs: Path
) -> list[Experiment]:
    """Every change on every data set and seed."""
    return [
        Experiment(
            dataset=dataset,
            recipe="precise",
            model="dual-expert",
            seed=seed,
            steps=steps,
            settings=CHANGES[change],
            samplings=tuple(SAMPLINGS.values()) if change == FULL else (OWN,),
            runs=str(runs),
            metrics=METRICS,
        )
        for seed in range(seeds)
        for dataset in datasets
        for change in changes
    ]


def rows_of(experiments: list[Experiment], results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a change, data set and seed, with its scores or with the reason why there are none."""
    names = {settings: change for change, settings in CHANGES.items()}
    rows = []
    for experiment, result in zip(experiments, results, strict=True):
        change = names[experiment.settings]
        base = {"dataset": experiment.dataset, "seed": experiment.seed}
        if "error" in result:
            rows.append({**base, "change": change, "error": result["error"]})
            continue
        seconds = result["train"]["train_seconds"]
        labels = SAMPLINGS if change == FULL else [change]
        for label, evaluation in zip(labels, result["evaluations"], strict=True):
            metrics = {name: evaluation["metrics"][name] for name in METRICS}
            rows.append({**base, "change": label, "train_seconds": seconds, "metrics": metrics})
    return rows


def table(rows: list[dict[str, Any]]) -> Table:
    """Give one row for each change, with every metric on every data set; the heads state the floors."""
    columns = [Column("change")]
    pairs = [(dataset, metric) for dataset in dict.fromkeys(row["dataset"] for row in rows) for metric in METRICS]
    for dataset, metric in pairs:
        floors = [r["metrics"][metric]["floor"] for r in rows if r["dataset"] == dataset and "metrics" in r]
        floor = f" (floor {statistics.mean(floors):.3f})" if floors else ""
        columns.append(Column(f"{dataset}: {metric}{floor}"))
    body = []
    for change in dict.fromkeys(row["change"] for row in rows):
        these = [row for row in rows if row["change"] == change]
        body.append((change, *(_cell([row for row in these if row["dataset"] == d], metric) for d, metric in pairs)))
    return Table("Ablation", tuple(columns), tuple(body), ("Mean ± standard deviation over seeds.",))


def _cell(rows: list[dict[str, Any]], metric: str) -> Value:
    values = [row["metrics"][metric]["value"] for row in rows if "metrics" in row]
    if values:
        return Estimate(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None)
    return next((row["error"] for row in rows if "error" in row), None)


def main() -> None:
    """Run what is not done yet, and show everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", action="append", help="default: dino and circle")
    parser.add_argument("--change", action="append", choices=list(CHANGES), help="default: all")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, help="training steps, default: the recipe's own")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/ablation.json"))
    args = parser.parse_args()

    changes = list(dict.fromkeys([FULL, *(args.change or CHANGES)]))
    datasets = args.dataset or ["dino", "circle"]
    experiments = experiments_of(datasets, changes, seeds=args.seeds, steps=args.steps, runs=args.runs)
    reported = -1

    def report(progress: GridProgress) -> None:
        nonlocal reported
        if progress.done + progress.failed > reported:
            reported = progress.done + progress.failed
            print(f"{reported} of {progress.runs} runs are finished, {progress.failed} of them failed", flush=True)

    started = time.perf_counter()
    rows = rows_of(experiments, run_grid(experiments, jobs=args.jobs, on_progress=report))
    record = {"machine": describe_machine(), "wall_seconds": time.perf_counter() - started, "rows": rows}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table(rows).to_markdown())


if __name__ == "__main__":
    main()
