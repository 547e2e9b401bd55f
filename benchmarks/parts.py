"""Where a training step's time goes, and what many networks in one step would give.

    python benchmarks/parts.py --threads 1

Each part alone, on the tensors that it has in a step, not compiled; then the whole step, plain and compiled. Gradients
of several networks are compiled both ways: one network after the other, and all in one batched step.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rivals import CPU, MANY_TIMES, configuration, our_trainer, timed
from torch import Tensor
from torch.func import functional_call, grad, vmap

from dualdiff_cli import RunConfig
from dualdiff_cli.bench.clock import Competitor, Prepared
from dualdiff_cli.compute.device import denormals_flushed
from dualdiff_cli.compute.execution import Execution, Precision
from dualdiff_cli.compute.machine import describe_conditions, describe_machine
from dualdiff_cli.compute.optimiser import fused_adamw
from dualdiff_cli.present.tables import Column, Table
from dualdiff_cli.training.batches import Draws
from dualdiff_cli.training.loop import Trainer
from dualdiff_cli.training.loss import batch_loss

MANY = 4
BOTH: tuple[Precision, ...] = ("float32", "bfloat16")


def part(name: str, config: RunConfig, call: Callable[[], object], precision: Precision = "float32") -> Competitor:
    """Make a call that is timed by itself."""

    def repeat(times: int) -> None:
        for _ in range(times):
            call()

    labels = {"task": name, "model": config.model.name, "recipe": config.recipe, "how": "alone"}
    return Competitor(
        {**labels, "threads": torch.get_num_threads(), "precision": precision, "operations": 0},
        lambda: Prepared(repeat),
        whole=MANY_TIMES,
    )


def trainer_of(config: RunConfig, precision: Precision, *, compiled: bool = False) -> Trainer:
    """Make a training whose rates are set for some step."""
    trainer = our_trainer(config, Execution(torch.get_num_threads(), precision, compiled=compiled, required=True))
    trainer._rates.fill(1e-9, 5, beta_2=config.training.beta2)
    return trainer


def parts(config: RunConfig, precision: Precision) -> list[Competitor]:
    """The parts of a step, and the whole of it, plain and compiled."""
    plain, compiled = (trainer_of(config, precision, compiled=c) for c in (False, True))
    parameters = list(plain.denoiser.network.parameters())
    draws = plain._batches.draw(config.training.batch, plain._generator)
    w, average, moments = plain._weights[0].vector, plain._averages[0].vector, plain._moments[0]
    g, rounded, c = torch.randn_like(w), precision == "bfloat16", config.training

    def gradients() -> None:
        loss = batch_loss(plain.denoiser, config.objective, plain._batches, draws, bfloat16=rounded)
        torch.autograd.grad(loss, parameters)

    def update() -> None:
        fused_adamw(w, g, moments, plain._rates, beta_2=c.beta2, weight_decay=c.weight_decay, clip_norm=c.clip_norm)

    calls: dict[str, Callable[[], object]] = {
        "draw": lambda: plain._batches.draw(config.training.batch, plain._generator),
        "make the batch": lambda: plain._batches.make(draws),
        "make the batch, loss and gradients": gradients,
        "clip and AdamW": update,
        "average": lambda: average.lerp_(w, 1e-3),
        "whole step, plain": plain._optimize,
        "whole step, compiled": compiled._optimize,
    }
    compiled._optimize()
    return [part(name, config, call, precision) for name, call in calls.items()]


def together(config: RunConfig, precision: Precision) -> list[Competitor]:
    """Gradients of `MANY` networks of one shape: one after the other, and in one batched network; compiled both."""
    trainers = [trainer_of(config.model_copy(update={"seed": seed}), precision) for seed in range(MANY)]
    each = [(t._weights[0].vector, *t._batches.draw(config.training.batch, t._generator)) for t in trainers]
    stacked = [torch.stack(tensors) for tensors in zip(*each, strict=True)]
    first = trainers[0]

    def loss(w: Tensor, *draws: Tensor) -> Tensor:
        value: Tensor = functional_call(first._loss, first._weights[0].unpack(w), (Draws(*draws),))
        return value

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
    """Time everything in turn, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a timed block")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/parts.json"))
    args = parser.parse_args()
    Execution(args.threads).apply()
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
