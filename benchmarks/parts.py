"""Where a training step's time goes, and what many networks in one step would give.

    python benchmarks/parts.py --threads 1

Each part of a step is timed alone, not compiled, on tensors of the sizes that the part has in a step; then the whole
step, plain and compiled. Gradients of several networks are compiled in two ways: one network after the other, and all
networks in one batch.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rivals import CPU, MANY_TIMES, configuration, our_trainer, timed
from steps import StepParts
from torch import Tensor
from torch.func import grad, vmap

from dualdiff_cli.bench.clock import Competitor, Prepared
from dualdiff_cli.compute.device import denormals_flushed
from dualdiff_cli.compute.execution import Execution, Precision
from dualdiff_cli.compute.machine import describe_conditions, describe_machine
from dualdiff_cli.compute.optimiser import fused_adamw
from dualdiff_cli.compute.processor import keep_freed_memory
from dualdiff_cli.config.schema import DiffusionConfig
from dualdiff_cli.present.tables import Column, Table
from dualdiff_cli.training.batches import Draws

MANY = 4
BOTH: tuple[Precision, ...] = ("float32", "bfloat16")


def part(
    name: str, config: DiffusionConfig, call: Callable[[], object], precision: Precision = "float32"
) -> Competitor:
    """Make the competitor that calls a function again and again."""

    def repeat(times: int) -> None:
        for _ in range(times):
            call()

    labels = {"task": name, "model": config.model.name, "recipe": config.recipe, "how": "alone"}
    return Competitor(
        {**labels, "threads": torch.get_num_threads(), "precision": precision, "operations": 0},
        lambda: Prepared(repeat),
        whole=MANY_TIMES,
    )


def steps(config: DiffusionConfig, precision: Precision, *, compiled: bool) -> Callable[[], object]:
    """Make a function that makes one whole training step."""
    trainer = our_trainer(config, Execution(torch.get_num_threads(), precision, compiled=compiled, required=True))

    def step() -> None:
        for _ in trainer.run(lambda: True):  # the condition to stop is asked for after every step
            pass

    step()
    return step


def parts(config: DiffusionConfig, precision: Precision) -> list[Competitor]:
    """The parts of a step, and the whole step, plain and compiled."""
    own, c = StepParts(config, precision), config.training
    own.rates.fill(1e-9, 5, beta_2=c.beta2)
    draws, w = own.draw(), own.weights.vector
    g, average = torch.randn_like(w), w.clone()
    parameters = list(own.denoiser.network.parameters())
    calls: dict[str, Callable[[], object]] = {
        "draw": own.draw,
        "make the batch": lambda: own.batches.make(draws),
        "make the batch, loss and gradients": lambda: torch.autograd.grad(own.batch_loss(draws), parameters),
        "clip and AdamW": lambda: fused_adamw(
            w, g, own.moments, own.rates, beta_2=c.beta2, weight_decay=c.weight_decay, clip_norm=c.clip_norm
        ),
        "average": lambda: average.lerp_(w, 1e-3),
        "whole step, plain": steps(config, precision, compiled=False),
        "whole step, compiled": steps(config, precision, compiled=True),
    }
    return [part(name, config, call, precision) for name, call in calls.items()]


def together(config: DiffusionConfig, precision: Precision) -> list[Competitor]:
    """Gradients of `MANY` networks of one shape: one network after the other, and all in one batch; both compiled."""
    many = [StepParts(config.model_copy(update={"seed": seed}), precision) for seed in range(MANY)]
    each = [(one.weights.vector, *one.draw()) for one in many]
    stacked = [torch.stack(tensors) for tensors in zip(*each, strict=True)]

    def loss(w: Tensor, *draws: Tensor) -> Tensor:
        return many[0].loss_at(w, Draws(*draws))

    single, batched = (torch.compile(f, dynamic=False) for f in (grad(loss), vmap(grad(loss))))

    @torch.no_grad()
    def one_by_one() -> None:
        for inputs in each:
            single(*inputs)

    @torch.no_grad()
    def in_one() -> None:
        batched(*stacked)

    one_by_one()
    in_one()
    names = (f"gradients of {MANY} networks, one by one", f"gradients of {MANY} networks, batched")
    return [part(name, config, call, precision) for name, call in zip(names, (one_by_one, in_one), strict=True)]


def main() -> None:
    """Time all parts in turn, and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="seconds of a timed block")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/parts.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    configs = [configuration(*names) for names in (("dual-expert", "paper"), ("dual-expert", "precise"))]
    competitors = [c for config in configs for precision in BOTH for c in parts(config, precision)]
    for precision in BOTH:
        competitors += together(configuration("baseline", "paper"), precision)
    with denormals_flushed():
        rows: list[dict[str, Any]] = timed(competitors, args.repeats, args.seconds)
    body = tuple(
        (row["task"], row["model"], row["recipe"], row["precision"], row["failure"] or 1e3 * row["median_s"])
        for row in rows
        if row["task"] != "products"
    )
    heads = ("what", "model", "recipe", "precision", "median, ms")
    print(Table("Parts of a training step", tuple(map(Column, heads)), body).to_markdown())
    record = {"machine": describe_machine(), "conditions": describe_conditions(CPU), "rows": rows}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
