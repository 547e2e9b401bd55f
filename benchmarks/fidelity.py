"""How good are the samples: every data set × recipe × model × seed, trained in full and scored by `dualdiff evaluate`.

    python benchmarks/fidelity.py --recipe paper --model baseline --model dual-expert --seeds 2

Runs are spread over processes of one thread each and kept under --runs; one that is finished is not trained again, and
one that was stopped goes on. The result is a JSON file with the machine's description, and a Markdown table on stdout.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PAPER = Path(__file__).parents[1] / "dualdiff_cli" / "paper"


@dataclass(frozen=True)
class Cell:
    """One run of the grid and how it is sampled."""

    dataset: str
    recipe: str
    model: str
    seed: int
    steps: int | None
    settings: tuple[str, ...]
    samplings: tuple[tuple[str | None, int | None], ...]
    runs: str

    @property
    def path(self) -> Path:
        """Where the run is kept."""
        changes = [str(self.steps)] if self.steps else []
        name = "-".join([self.dataset, self.recipe, self.model, *changes, *self.settings, str(self.seed)])
        return Path(self.runs) / name


def measure(cell: Cell) -> dict[str, Any]:
    """Train or finish the cell's run and score it with every sampling asked for."""
    import torch

    from dualdiff_cli import Run, evaluate, resolve, resume, train

    torch.set_num_threads(1)
    if (cell.path / "config.toml").exists():
        trained = resume(Run.open(cell.path), device="cpu")
    else:
        options: dict[str, Any] = {"seed": cell.seed}
        if cell.steps:
            options["training"] = {"steps": cell.steps}
        config = resolve(
            dataset=cell.dataset, recipe=cell.recipe, model=cell.model, options=options, settings=cell.settings
        )
        trained = train(config, path=cell.path, device="cpu")
    scores = []
    for sampler, steps in cell.samplings:
        started = time.perf_counter()
        record = evaluate(Run.open(cell.path), sampler=sampler, sample_steps=steps, seed=1000 + cell.seed, device="cpu")
        scores.append({**record, "evaluate_seconds": time.perf_counter() - started})
    return {"cell": asdict(cell), "train": trained, "evaluations": scores}


def table(results: list[dict[str, Any]], metrics: list[str]) -> str:
    """One row per data set, recipe, model and sampling: the mean over seeds ± standard deviation, floor, and paper."""
    with open(PAPER / "table1.csv", encoding="utf-8") as file:
        published = {(row["dataset"], row["model"]): row["kl_bits"] for row in csv.DictReader(file)}
    rows: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for result in results:
        for evaluation in result["evaluations"]:
            sampling = f"{evaluation['sampler']} {evaluation['sample_steps']}"
            key = (evaluation["dataset"], evaluation["recipe"], evaluation["model"], sampling)
            rows.setdefault(key, []).append(evaluation["metrics"])
    head = ["data set", "recipe", "model", "sampler", "seeds", *(f"{m} (floor)" for m in metrics), "paper's KL"]
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for key, runs in sorted(rows.items()):
        cells = [*key, str(len(runs))]
        for metric in metrics:
            values = [run[metric]["value"] for run in runs if metric in run]
            floors = [run[metric]["floor"] for run in runs if metric in run and run[metric]["floor"] is not None]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            floor = f" ({statistics.mean(floors):.3f})" if floors else ""
            cells.append(f"{statistics.mean(values):.3f}{spread}{floor}" if values else "–")
        lines.append(" | ".join([*cells, published.get((key[0], key[2]), "–")]))
    return "\n".join(f"| {line} |" for line in lines)


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
    settings = tuple(args.set or ())
    cells = [Cell(d, r, m, s, args.steps, settings, samplings or ((None, None),), args.runs) for s, d, r, m in grid]
    started = time.perf_counter()
    results = []
    with ProcessPoolExecutor(args.jobs) as pool:
        for number, done in enumerate(as_completed([pool.submit(measure, cell) for cell in cells]), 1):
            results.append(done.result())
            print(f"{number} of {len(cells)}: {results[-1]['train']['run']}", flush=True)

    from dualdiff_cli.device import describe_machine

    args.output.parent.mkdir(parents=True, exist_ok=True)
    record = {"machine": describe_machine(), "wall_seconds": time.perf_counter() - started, "results": results}
    args.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table(results, args.metric or ["kl_published", "kl_real_generated", "kl_generated_real"]))


if __name__ == "__main__":
    main()
