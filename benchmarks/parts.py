"""Where a training step's time goes, and what did not pay: many networks in one step, and a compiled optimiser.

    python benchmarks/parts.py --threads 1

Parts are timed in turn on one thread: each alone, on the tensors that it has in a step.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rivals import configuration, our_trainer, timed
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

from dualdiff_cli import RunConfig
from dualdiff_cli.benchmarking import Competitor, Prepared
from dualdiff_cli.machine import describe_conditions, describe_machine
from dualdiff_cli.models import build_denoiser
from dualdiff_cli.objectives import batch_loss

MANY = 4


def part(name: str, config: RunConfig, call: Callable[[], object]) -> Competitor:
    """Make a call that is timed by itself."""

    def repeat(times: int) -> None:
        for _ in range(times):
            call()

    labels = {"task": name, "model": config.model.name, "recipe": config.recipe, "how": "alone"}
    return Competitor(
        {**labels, "threads": torch.get_num_threads(), "precision": "float32", "operations": 0},
        lambda: Prepared(repeat),
    )


def parts(config: RunConfig) -> list[Competitor]:
    """The parts of a step."""
    trainer = our_trainer(config)
    parameters = list(trainer.denoiser.network.parameters())
    averaged = list(trainer.average.network.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-9, fused=True)
    draws = trainer._batches.draw(config.training.batch, trainer._generator)

    def gradients() -> None:
        batch_loss(trainer.denoiser, config.objective, trainer._batches, draws).backward()

    def average() -> None:
        with torch.no_grad():
            torch._foreach_lerp_(averaged, parameters, 1e-3)

    calls: dict[str, Callable[[], object]] = {
        "draw": lambda: trainer._batches.draw(config.training.batch, trainer._generator),
        "make the batch": lambda: trainer._batches.make(draws),
        "make the batch, loss and gradients": gradients,
        "clip": lambda: torch.nn.utils.clip_grad_norm_(parameters, 0.5, foreach=True),
        "AdamW": optimizer.step,
        "average": average,
    }
    gradients()
    return [part(name, config, call) for name, call in calls.items()]


def together(config: RunConfig) -> list[Competitor]:
    """Gradients of `MANY` networks of one shape: one after the other, and in one batched network."""
    denoisers = [build_denoiser(config.model_copy(update={"seed": seed}), 2) for seed in range(MANY)]
    networks = [denoiser.network for denoiser in denoisers]
    weights, _ = stack_module_state(networks)
    x, target = torch.randn(2, MANY, config.training.batch, 2)
    t, s = torch.rand(2, MANY, config.training.batch)

    def loss(weights: dict[str, Tensor], x: Tensor, t: Tensor, s: Tensor, target: Tensor) -> Tensor:
        return (functional_call(networks[0], weights, (x, t, s)) - target).square().mean()

    def one_by_one() -> None:
        for i, network in enumerate(networks):
            network.zero_grad()
            (network(x[i], t[i], s[i]) - target[i]).square().mean().backward()

    batched = vmap(grad(loss))
    names = (f"gradients of {MANY} networks, one by one", f"gradients of {MANY} networks, batched")
    calls = (one_by_one, lambda: batched(weights, x, t, s, target))
    return [part(name, config, call) for name, call in zip(names, calls, strict=True)]


def main() -> None:
    """Time everything in turn, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a timed block")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/parts.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    configs = [configuration(*names) for names in (("dual-expert", "paper"), ("dual-expert", "precise"))]
    competitors = [c for config in configs for c in parts(config)] + together(configuration("baseline", "paper"))
    rows: list[dict[str, Any]] = timed(competitors, args.repeats, args.seconds)
    print("| what | model | recipe | median |\n|---|---|---|---|")
    for row in rows:
        if row["task"] != "products":
            median = row["failure"] or f"{1e3 * row['median_s']:.3f} ms"
            print(f"| {row['task']} | {row['model']} | {row['recipe']} | {median} |")
    record = {"machine": describe_machine(), "conditions": describe_conditions(torch.device("cpu")), "rows": rows}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
