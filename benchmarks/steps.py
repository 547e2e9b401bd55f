"""Training steps a second: ours beside the published loop written plainly, interleaved in one run.

    python benchmarks/steps.py --model baseline --model dual-expert

The plain loop is the usual experiment script's: a data loader that indexes point by point and stacks, a schedule and an
optimiser stepped through their objects, and the loss read every step. Both train the same network on the same points.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from dualdiff_cli import RunConfig, load_data, resolve
from dualdiff_cli.device import describe_machine
from dualdiff_cli.models import build_denoiser
from dualdiff_cli.published import published_training
from dualdiff_cli.training import Trainer


def plain_loop(config: RunConfig, points: torch.Tensor) -> Iterator[float]:
    """Train as the published script does, one loss a step."""
    return published_training(
        build_denoiser(config, points.shape[1]),
        points,
        objective=config.objective,
        config=config.training,
        seed=config.seed,
        device=points.device,
    )


def our_loop(config: RunConfig, points: torch.Tensor) -> Iterator[float]:
    """Train as `dualdiff train` does, one step at a time."""
    one_step = config.training.model_copy(update={"log_every": 1})
    trainer = Trainer(
        build_denoiser(config, points.shape[1]),
        points,
        objective=config.objective,
        config=one_step,
        seed=config.seed,
    )
    for progress in trainer.run():
        yield progress.records[-1].loss


def seconds_per_step(loop: Iterator[float], steps: int) -> float:
    """Time a block of steps."""
    started = time.perf_counter()
    for _ in range(steps):
        next(loop)
    return (time.perf_counter() - started) / steps


def main() -> None:
    """Time both loops in turn, block by block."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="default: baseline and dual-expert")
    parser.add_argument("--steps", type=int, default=200, help="in a block")
    parser.add_argument("--repeats", type=int, default=5, help="blocks of each")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/steps.json"))
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)

    rows: list[dict[str, Any]] = []
    for model in args.model or ["baseline", "dual-expert"]:
        config = resolve(dataset="moons", model=model, recipe="paper")
        points = torch.from_numpy(load_data("moons", seed=0).train).float()
        makers: dict[str, Callable[[RunConfig, torch.Tensor], Iterator[float]]] = {
            "published loop, plainly": plain_loop,
            "dualdiff train": our_loop,
        }
        loops = {name: make(config, points) for name, make in makers.items()}
        blocks: dict[str, list[float]] = {name: [] for name in loops}
        gc.disable()
        for loop in loops.values():
            seconds_per_step(loop, 50)
        for _ in range(args.repeats):
            for name, loop in loops.items():
                blocks[name].append(seconds_per_step(loop, args.steps))
        gc.enable()
        for name, times in blocks.items():
            quartiles = statistics.quantiles(times, n=4)
            median = statistics.median(times)
            row = {
                "model": model,
                "loop": name,
                "median_s": median,
                "iqr_s": quartiles[2] - quartiles[0],
                "raw_s": times,
            }
            rows.append(row)
            print(f"{model:14} {name:24} {1e3 * median:6.2f} ms a step  {1 / median:6.1f} steps/s", flush=True)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps({"machine": describe_machine(), "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
