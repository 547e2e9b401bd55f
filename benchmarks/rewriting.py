"""What the project's own compiling gains over `torch.compile`: training steps and calls of the denoiser, in four ways.

    python benchmarks/rewriting.py                                         # takes about half an hour
    python benchmarks/rewriting.py --task step --precision bfloat16

The ways are:

- ``eager``: torch runs one operation after the other, and its fused kernel makes the AdamW update;
- ``torch.compile``: the same mathematics, handed to `torch.compile` and to nothing of this project;
- ``traced``: `compute.compiling.Compiled`, but the list of operations is compiled as the tracer has written it down;
- ``rewritten``: `compute.compiling.Compiled` as the commands use it, with `compute.rewriting`.

Every way has a process of its own. The four ways of one model, recipe and precision take turns, round by round, so that
a slow minute of the machine slows all of them down. Ratios are ratios of median CPU times, which programs that use the
same cores hardly change as long as there is one thread, with 95 % intervals, paired by round.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rivals import CPU, MANY_TIMES, configuration, in_processes
from steps import StepParts
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from dualdiff_cli.bench.clock import Competitor, Measurement, Prepared, measure, ratio_of_medians
from dualdiff_cli.compute.compiling import Compiled
from dualdiff_cli.compute.execution import Execution, Precision
from dualdiff_cli.compute.machine import describe_conditions, describe_machine
from dualdiff_cli.compute.optimiser import Moments, Rates, adamw, fused_adamw
from dualdiff_cli.compute.processor import keep_freed_memory
from dualdiff_cli.compute.rewriting import write_down
from dualdiff_cli.config.schema import DiffusionConfig
from dualdiff_cli.diffusion.samplers import points_per_call, prepare
from dualdiff_cli.models.fitting import build_network_denoiser
from dualdiff_cli.present.tables import Bounded, Column, Table, Value
from dualdiff_cli.seeding import torch_stream
from dualdiff_cli.training.batches import Draws

MODELS = (("baseline", "paper"), ("dual-expert", "paper"), ("dual-expert", "precise"))
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
POINTS = 10_240


def trace(function: Callable[..., Any], args: Sequence[Tensor]) -> torch.fx.GraphModule:
    """Write the operations of a call down as the tracer gives them."""
    return make_fx(lambda *own: function(*own))(*(arg.clone() for arg in args))


COMPILERS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "eager": lambda function: function,
    "torch.compile": lambda function: torch.compile(function, dynamic=False, fullgraph=True),
    "traced": lambda function: Compiled(function, write_down=trace, required=True),
    "rewritten": lambda function: Compiled(function, write_down=write_down, required=True),
}
"""Ways by name: each takes a function of tensors and gives the function as it is called."""


def step(way: str, config: DiffusionConfig, precision: Precision, threads: int) -> Prepared:
    """Prepare training steps: batch, loss, gradient, gradient clipping and AdamW, as `training.loop.Trainer` does."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    parts, c, loss_sum = StepParts(config, precision), config.training, torch.zeros(())
    update = fused_adamw if way == "eager" else adamw

    def descend(w: Tensor, m: Tensor, v: Tensor, loss_sum: Tensor, *rest: Tensor) -> None:
        rates, draws = Rates(*rest[:4]), Draws(*rest[4:])
        if way == "torch.compile":  # torch.compile traces torch.func.grad, and does not trace torch.autograd.grad
            g, value = torch.func.grad_and_value(parts.loss_at)(w, draws)
        else:
            leaf = w.detach().requires_grad_()
            value = parts.loss_at(leaf, draws)
            (g,) = torch.autograd.grad(value, leaf)
        update(w, g, Moments(m, v), rates, beta_2=c.beta2, weight_decay=c.weight_decay, clip_norm=c.clip_norm)
        loss_sum.add_(value.detach())

    call, done = COMPILERS[way](descend), 0

    def advance(steps: int) -> None:
        nonlocal done
        for _ in range(steps):
            done += 1
            parts.rates.fill(1e-4, done, beta_2=c.beta2)
            call(parts.weights.vector, *parts.moments, loss_sum, *parts.rates, *parts.draw())

    advance(1)
    return Prepared(advance)


def denoise(way: str, config: DiffusionConfig, precision: Precision, threads: int) -> Prepared:
    """Prepare evaluations of the denoiser at 10,240 points, in calls of as many points as sampling calls it with."""
    execution = Execution(threads, precision, compiled=way != "eager")
    torch.set_num_threads(threads)
    keep_freed_memory()
    per_call = points_per_call(CPU, POINTS, execution)
    denoiser = prepare(build_network_denoiser(config, 2).requires_grad_(False).eval(), Execution(threads, precision))
    call = COMPILERS[way](lambda x_t, t: denoiser(x_t, t))
    points = torch.randn(POINTS, 2, dtype=torch.float64, generator=torch_stream(0, "points"))
    t = denoiser.schedule.ends[0]

    @torch.no_grad()
    def evaluate(times: int) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            for _ in range(times):
                for x_t in points.split(per_call):
                    call(x_t, t)

    evaluate(1)
    return Prepared(evaluate)


def competitor(task: str, way: str, config: DiffusionConfig, precision: Precision, threads: int) -> Competitor:
    """Make what is timed; a unit is a step, or an evaluation of 10,240 points."""
    make = partial(TASKS[task], way, config, precision, threads)
    labels = {"task": task, "model": config.model.name, "recipe": config.recipe, "precision": precision, "way": way}
    return Competitor({**labels, "threads": threads}, partial(in_processes, 1, make), whole=MANY_TIMES)


TASKS: dict[str, Callable[[str, DiffusionConfig, Precision, int], Prepared]] = {"step": step, "denoise": denoise}


def timed(task: str, config: DiffusionConfig, precision: Precision, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Time the ways of one model, recipe and precision in turn, and relate each to `torch.compile` if that worked."""
    ways = {way: Measurement(competitor(task, way, config, precision, args.threads)) for way in COMPILERS}
    measure(list(ways.values()), repeats=args.repeats, device=CPU, seconds_per_block=args.seconds)
    compiled = ways["torch.compile"]
    rows = []
    for m in ways.values():
        row = m.record()
        row.pop("cpu_s", None)  # the CPU seconds of all calls, warm-up included
        if m.failure is None:
            row |= {key: row[key] / MANY_TIMES for key in ("median_s", "iqr_s", "p95_s")}
            row["cpu_median_s"] = float(np.median(cpu_seconds(m)))
            if compiled.failure is None:
                row["of_torch_compile"] = ratio_of_medians(cpu_seconds(m), cpu_seconds(compiled), paired=True)
        rows.append(row)
    return rows


def cpu_seconds(m: Measurement) -> np.ndarray:
    """Give the CPU seconds of a unit according to each timed block."""
    return np.asarray(m.facts["cpu_s"][-len(m.raw_s) :]) / m.block


def layout(rows: Sequence[dict[str, Any]]) -> Table:
    """Give one row for each way of each task, model, recipe and precision."""
    body: list[tuple[Value, ...]] = []
    for row in rows:
        labels = (row[key] for key in ("task", "model", "recipe", "precision", "way"))
        if row["failure"]:
            body.append((*labels, None, None, None, None, row["failure"]))
            continue
        times = (1e3 * row[key] for key in ("median_s", "iqr_s", "cpu_median_s"))
        ratio = row.get("of_torch_compile")
        body.append((*labels, *times, None if ratio is None else Bounded(*ratio), ""))
    heads = ("task", "model", "recipe", "precision", "way", "median, ms", "IQR, ms", "CPU median, ms")
    columns = [Column(head, ".3g") for head in heads]
    last = (Column("CPU time over torch.compile's"), Column("failure"))
    return Table("What our own compiling gains over torch.compile", (*columns, *last), tuple(body))


def main() -> None:
    """Time what the arguments name, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", action="append", choices=TASKS, help="default: both")
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="default: both")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15, help="timed blocks of each way")
    parser.add_argument("--seconds", type=float, default=0.15, help="seconds of a timed block")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/rewriting.json"))
    args = parser.parse_args()
    conditions = {**describe_machine(), **describe_conditions(CPU)}
    rows: list[dict[str, Any]] = []
    for task, (model, recipe), precision in product(args.task or TASKS, MODELS, args.precision or PRECISIONS):
        print(f"{task}, {model}, {recipe}, {precision}", file=sys.stderr)
        rows += timed(task, configuration(model, recipe), precision, args)
        args.output.write_text(json.dumps({"conditions": conditions, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(layout(rows).to_markdown())


if __name__ == "__main__":
    main()
