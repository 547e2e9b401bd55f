"""Training and sampling, timed in one run with the published loops and with the matrix products alone.

    python benchmarks/speed.py                            # training steps, samples and start-up
    python benchmarks/speed.py --quality --memory         # also the time to the paper's score, and ten million points
    python benchmarks/speed.py --only scaling

`dualdiff_cli.bench.clock` interleaves all times of a section; `rivals.py` defines what is timed. The output file keeps
the sections of earlier calls.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rivals import configuration, sampling, timed, training

from dualdiff_cli.compute.execution import LayerShape, choose_products
from dualdiff_cli.compute.machine import describe_conditions, describe_machine
from dualdiff_cli.diffusion.samplers import BLOCK
from dualdiff_cli.models.fitting import training_layer
from dualdiff_cli.present.tables import Bounded, Column, Table, Value

CPU = torch.device("cpu")
PAPER_KL = 0.650
"""The best published divergence on dino (Table 2), in bits."""
BUDGETS = (800, 900, 1000, 2000, 4000)
"""Numbers of training steps that are tried in turn, until the samples of one reach the paper's score."""
COMMAND = [sys.executable, "-m", "dualdiff_cli"]


def table(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Time training steps and samples of both models in the paper's recipe, and of the default model and recipe."""
    everything = torch.get_num_threads()
    competitors = []
    for model, recipe in (("baseline", "paper"), ("dual-expert", "paper"), ("dual-expert", "precise")):
        config = configuration(model, recipe)
        if recipe == "paper":
            competitors += [training(config, "published", everything), sampling(config, "published", everything)]
        for precision in ("float32", "bfloat16"):
            layer = training_layer(config)
            own = choose_products(layer, precision)[0]
            competitors += [training(config, how, own, precision=precision) for how in ("eager", "compiled")]
            own = choose_products(LayerShape(1, BLOCK, config.model.width), precision)[0]
            competitors += [sampling(config, how, own, precision=precision) for how in ("eager", "compiled")]
    return timed(competitors, args.repeats, args.seconds)


def scaling(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Time training steps over batch, width, experts and columns, and sampling over the number of evaluations."""
    threads = choose_products(LayerShape(2, 256, 256), "float32")[0]
    axes: dict[str, tuple[int, ...]] = {
        "training.batch": (64, 128, 256, 512, 1024, 2048),
        "model.width": (64, 128, 256, 512),
        "model.experts": (1, 2, 4, 8),
    }
    competitors = [
        training(configuration("dual-expert", "precise", f"{key}={value}"), "eager", threads, varied=key, value=value)
        for key, values in axes.items()
        for value in values
    ]
    default = configuration("dual-expert", "precise")
    competitors += [training(default, "eager", threads, columns=d, varied="columns", value=d) for d in (1, 2, 4, 8, 16)]
    for steps in (10, 20, 50, 100):
        config = configuration("dual-expert", "precise", f"sampling.steps={steps}")
        competitors.append(sampling(config, "eager", threads, varied="sampling.steps", value=steps))
    return timed(competitors, args.repeats, args.seconds)


def startup(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Time commands that do almost nothing, in wall seconds; the first call of each command is not counted."""
    rows = []
    for words in (["--help"], ["info"], ["train", "--help"]):
        times = [_seconds([*COMMAND, *words])[0] for _ in range(1 + args.repeats)][1:]
        rows.append({"task": "dualdiff " + " ".join(words), "median_s": statistics.median(times), "raw_s": times})
    return rows


def compiling(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Time compiling with an empty compiler's cache, and with the cache that a run on other data has left."""
    rows = []
    for model, recipe in (("baseline", "paper"), ("dual-expert", "paper"), ("dual-expert", "precise")):
        with tempfile.TemporaryDirectory() as folder:  # each model begins without what another has compiled
            for cache, dataset in (("empty", "circle"), ("left by circle", "moons")):
                options = ["--model", model, "--recipe", recipe, "--run-dir", f"{folder}/{dataset}"]
                record = _train(folder, *options, "--dataset", dataset, "--steps", "2", "--compile", "on")
                row = {"task": "compiling", "model": model, "recipe": recipe, "cache": cache}
                rows.append({**row, "median_s": record["compile_seconds"]})
    return rows


def quality(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Find the shortest training whose samples reach the paper's score on dino; time the command from a cold start."""
    rows = []
    for steps in BUDGETS:
        with tempfile.TemporaryDirectory() as folder:
            record = _train(folder, "--dataset", "dino", "--steps", str(steps), "--run-dir", f"{folder}/run")
            _, out = _seconds([*COMMAND, "evaluate", f"{folder}/run", "--json", "--quiet"])
            score = json.loads(out)["metrics"]["kl_real_generated"]
        row = {"task": "train to the paper's score", "dataset": "dino", "steps": steps, "median_s": record["wall"]}
        rows.append({**row, "train_s": record["train_seconds"], "score": score})
        if score["value"] <= PAPER_KL:
            break
    return rows


def memory(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure the peak memory of ten million points written to Parquet, above the peak memory of the imports alone."""
    peak = "from dualdiff_cli.compute.device import peak_memory_bytes; print(peak_memory_bytes())"
    imports = int(_seconds([sys.executable, "-c", f"import dualdiff_cli.jobs.sample; {peak}"])[1])
    with tempfile.TemporaryDirectory() as folder:
        run, points = f"{folder}/run", f"{folder}/points.parquet"
        _train(folder, "--dataset", "moons", "--steps", "2", "--run-dir", run)
        options = ["-n", str(args.points), "-o", points, "--sample-steps", "2", "--json", "--quiet"]
        _, out = _seconds([*COMMAND, "sample", run, *options])
    record = json.loads(out)
    above = record["peak_memory_bytes"] - imports
    row = {"task": f"{args.points} samples to Parquet", "median_s": record["seconds"]}
    return [{**row, "imports_bytes": imports, "peak_above_imports_bytes": above}]


def _train(folder: str, *options: str) -> dict[str, Any]:
    """Train by the command line with a separate compiler's cache; give the record, and the command's wall seconds."""
    cache = {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/cache-of-the-compiler"}
    wall, out = _seconds([*COMMAND, "train", *options, "--json", "--quiet"], **cache)
    return {**json.loads(out), "wall": wall}


def _seconds(command: Sequence[str], **environment: str) -> tuple[float, str]:
    started = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return time.perf_counter() - started, done.stdout


SECTIONS: dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]] = {
    "table": table,
    "startup": startup,
    "compiling": compiling,
    "quality": quality,
    "memory": memory,
    "scaling": scaling,
}


def layout(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    """Give one row for each timing: what, how, seconds, the ratio to the published loop, and the share of the rate."""
    body: list[tuple[Value, ...]] = []
    for row in rows:
        what = " ".join(str(row[key]) for key in ("task", "recipe", "model", "varied", "value", "steps") if key in row)
        how = ", ".join(str(row[key]) for key in ("how", "cache", "precision") if key in row)
        notes = ["unstable"] if row.get("unstable") else []
        if row["median_s"] is None:
            notes.append(row["failure"])
        if "score" in row:
            notes.append(f"{row['score']['value']:.3f} bits")
        if "peak_above_imports_bytes" in row:
            notes.append(f"{row['peak_above_imports_bytes'] / 2**20:.0f} MiB above the imports")
        if row["task"] == "products":
            notes.append(f"{row['operations_per_s'] / 1e9:.0f} GFLOP/s")
        ratio = Bounded(*row["of_published"]) if "of_published" in row else None
        share = 100 * row["share"] if "share" in row else None
        body.append((what, how, ", ".join(notes), row.get("threads"), row["median_s"], ratio, share))
    heads = ("what", "how", "notes", "threads", "median, s", "ratio to the published loop", "% of the matmuls' rate")
    return Table(title, tuple(Column(head, ".3g") for head in heads), tuple(body))


def main() -> None:
    """Run the sections that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=SECTIONS, help="default: table, startup and compiling")
    parser.add_argument("--quality", action="store_true", help="also train to the paper's score; takes minutes")
    parser.add_argument("--memory", action="store_true", help="also draw ten million points; takes minutes")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds of a timed block")
    parser.add_argument("--points", type=int, default=10_000_000, help="number of points of --memory")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/speed.json"))
    args = parser.parse_args()
    asked = args.only or ["table", "startup", "compiling", *(s for s in ("quality", "memory") if getattr(args, s))]
    record: dict[str, Any] = {}
    if args.output.exists():
        record = json.loads(args.output.read_text(encoding="utf-8"))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for name in asked:
        conditions = {**describe_machine(), **describe_conditions(CPU)}
        rows = SECTIONS[name](args)
        record[name] = {"conditions": conditions, "rows": rows}
        print(layout(name, rows).to_markdown(), flush=True)
        args.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
