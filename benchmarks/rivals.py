"""The competitors of the speed benchmarks: matrix products, training steps and samples, each in several ways.

The rate of the matrix products is measured in the same rounds as everything else: products of 256 × 256 matrices, the
shape of most products in a training step, in float32 and in bfloat16. The "share" of a row says how much of the row's
time its matrix products alone would take: torch counts the operations, and the rate is that of the row's precision.
"""

from __future__ import annotations

import itertools
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dualdiff_cli import load_data
from dualdiff_cli.bench.clock import Competitor, Measurement, Prepared, TimedCall, measure, ratio_of_medians
from dualdiff_cli.bench.published import published_parts, published_sampling, published_training
from dualdiff_cli.compute.device import denormals_flushed
from dualdiff_cli.compute.execution import PLAIN, Execution, Precision
from dualdiff_cli.compute.processor import keep_freed_memory
from dualdiff_cli.config.recipes import resolve_diffusion
from dualdiff_cli.config.schema import DiffusionConfig
from dualdiff_cli.config.settle import settle
from dualdiff_cli.data import TableEncoding
from dualdiff_cli.diffusion.samplers import BLOCK, points_per_call
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.models.fitting import build_network_denoiser
from dualdiff_cli.seeding import torch_stream
from dualdiff_cli.training.loop import Trainer

CPU = torch.device("cpu")
ENDLESS = 10**9
SAMPLES = 10_000
SIDE, PRODUCTS = 256, 64
PROCESSES = 3
"""Processes of a published loop: the addresses of its memory make some processes clearly faster than others."""
MANY_TIMES = 5_000
"""Units of the whole task where the time of a single unit is reported."""


def configuration(model: str, recipe: str, *settings: str) -> DiffusionConfig:
    """Make a settled configuration on moons."""
    config = resolve_diffusion(dataset="moons", model=model, recipe=recipe, settings=settings)
    return settle(config, load_data("moons", seed=0).train.to_numpy())


def on_threads(number: int, call: TimedCall) -> TimedCall:
    """Make the same function, run on the given number of threads."""

    def run(units: int) -> None:
        torch.set_num_threads(number)
        call(units)

    return run


def exhaust(items: Iterator[Any], n: int) -> None:
    """Take n items, or all if there are fewer, and keep none."""
    for _, _ in zip(range(n), items, strict=False):
        pass


def products(threads: int, precision: str) -> Competitor:
    """Make the competitor of matrix products; a unit is `PRODUCTS` products."""

    def prepare() -> Prepared:
        a, b, c = (torch.ones(SIDE, SIDE, dtype=getattr(torch, precision)) for _ in range(3))

        def multiply(units: int) -> None:
            for _ in range(units * PRODUCTS):
                torch.mm(a, b, out=c)

        return Prepared(on_threads(threads, multiply))

    labels = {
        "task": "products",
        "model": f"{SIDE} × {SIDE}",
        "how": "torch.mm",
        "threads": threads,
        "precision": precision,
    }
    return Competitor({**labels, "operations": 2 * SIDE**3 * PRODUCTS}, prepare, whole=MANY_TIMES)


def points_of(columns: int) -> Tensor:
    """Give moons, or for another number of columns as many points of a Gaussian: a step costs the same on both."""
    moons = torch.from_numpy(load_data("moons", seed=0).train.to_numpy()).float()
    return (
        moons if columns == moons.shape[1] else torch.randn(len(moons), columns, generator=torch_stream(0, "benchmark"))
    )


def our_trainer(config: DiffusionConfig, execution: Execution = PLAIN, *, columns: int = 2) -> Trainer:
    """Make a training that does not end by itself."""
    points = points_of(columns)
    training = config.training.model_copy(update={"steps": ENDLESS})
    denoiser = build_network_denoiser(config, points.shape[1])
    return Trainer(denoiser, points, objective=config.objective, training=training, seed=0, execution=execution)


def training(
    config: DiffusionConfig,
    how: str,
    threads: int,
    *,
    precision: Precision = "float32",
    columns: int = 2,
    **labels: Any,
) -> Competitor:
    """Make the competitor of training steps; ``how`` is published, eager or compiled."""
    with FlopCounterMode(display=False) as counter:
        next(our_trainer(config, columns=columns).run(lambda: True))
    facts = {"task": "training step", "model": config.model.name, "recipe": config.recipe, "how": how}
    facts |= {"threads": threads, "precision": precision, "operations": counter.get_total_flops(), **labels}
    make = partial(_prepare_training, config, how, threads, precision, columns)
    return Competitor(facts, partial(in_processes, PROCESSES if how == "published" else 1, make), whole=MANY_TIMES)


def _prepare_training(config: DiffusionConfig, how: str, threads: int, precision: Precision, columns: int) -> Prepared:
    if how == "published":
        torch.set_num_threads(threads)
        losses = published_training(
            build_network_denoiser(config, 2),
            points_of(2),
            objective=config.objective,
            config=config.training,
            seed=0,
            device=CPU,
        )
        next(losses)  # the first step also creates the optimiser's state
        return Prepared(lambda steps: exhaust(losses, steps))
    execution = Execution(threads, precision, compiled=how == "compiled", required=True)
    torch.set_num_threads(threads)
    keep_freed_memory()
    trainer = our_trainer(config, execution, columns=columns)

    def advance(steps: int) -> None:
        last = trainer.step + steps
        exhaust(trainer.run(lambda: trainer.step >= last), steps)

    advance(1)
    return Prepared(advance, {"compile_s": trainer.compile_seconds})


def sampling(
    config: DiffusionConfig, how: str, threads: int, *, precision: Precision = "float32", **labels: Any
) -> Competitor:
    """Make the competitor of 10,000 samples; ``how`` is published, eager or compiled."""
    evaluations, published = config.sampling.steps, how == "published"
    execution = Execution(threads, precision, compiled=how == "compiled", required=True)
    network = build_network_denoiser(config, 2).requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(BLOCK, 2, dtype=torch.float64), network.schedule.ends[0])
    operations = counter.get_total_flops() / BLOCK * SAMPLES * evaluations
    facts = {"task": f"{SAMPLES} samples", "model": config.model.name, "recipe": config.recipe, "how": how}
    facts |= {"evaluations": evaluations, "threads": threads, "precision": precision, "operations": operations}
    make = partial(_prepare_sampling, config, execution, published=published)
    return Competitor(
        {**facts, **labels},
        partial(in_processes, PROCESSES if published else 1, make),
        whole=evaluations if published else SAMPLES,
        quantum=1 if published else points_per_call(CPU, SAMPLES, execution),
    )


def _prepare_sampling(config: DiffusionConfig, execution: Execution, *, published: bool) -> Prepared:
    denoiser = build_network_denoiser(config, 2).requires_grad_(False).eval()
    torch.set_num_threads(execution.threads)
    if published:
        network, table = published_parts(denoiser, CPU)

        def walk(steps: int) -> None:
            exhaust(published_sampling(network, table, SAMPLES, dim=2, seed=0, device=CPU), steps)

        walk(1)
        return Prepared(walk)
    keep_freed_memory()
    encoding = TableEncoding.fit(load_data("moons", seed=0).train, standardise=False)
    process = DiffusionModel(config, encoding, denoiser, CPU).reverse_process(execution=execution)

    def draw(points: int) -> None:
        exhaust(process.draw(points, seed=0).chunks, ENDLESS)

    draw(SAMPLES)
    return Prepared(draw)


def in_processes(number: int, make: Callable[[], Prepared]) -> Prepared:
    """Prepare a competitor in processes of its own, as commands are, so that no memory or cache is shared.

    The processes take turns, block by block. Asking a process through a pipe takes some ten microseconds of a block.
    The fact "cpu_s" holds the CPU seconds of every call: on one thread they are the time that the call would take if no
    other program used the machine.
    """
    pipes = [_process(make) for _ in range(number)]
    facts = [_received(pipe) for pipe in pipes]
    turns = itertools.cycle(pipes)
    cpu_s: list[float] = []

    def call(units: int) -> None:
        pipe = next(turns)
        pipe.send(units)
        cpu_s.append(_received(pipe)["cpu_s"])

    return Prepared(call, {**facts[0], "cpu_s": cpu_s})


def _process(make: Callable[[], Prepared]) -> Any:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    context.Process(target=_serve, args=(theirs, make), daemon=True).start()
    theirs.close()
    return ours


def _received(pipe: Any) -> Any:
    answer = pipe.recv()
    if isinstance(answer, Exception):
        raise answer
    return answer


def _serve(pipe: Any, make: Callable[[], Prepared]) -> None:
    """Prepare a competitor, and call it with every number of units that the pipe brings, until the pipe is closed.

    Denormal numbers are rounded to zero as in our commands, for the published loops as well.
    """
    try:
        with denormals_flushed():
            prepared = make()
            pipe.send(dict(prepared.facts))
            while True:
                units = pipe.recv()
                before = time.process_time()
                prepared.call(units)
                pipe.send({"cpu_s": time.process_time() - before})
    except EOFError:
        pass
    except Exception as error:
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))


def timed(competitors: Sequence[Competitor], repeats: int, seconds: float) -> list[dict[str, Any]]:
    """Time competitors in turn with matrix products on the same numbers of threads, and add each row's share."""
    ways = sorted({(c.labels["threads"], c.labels["precision"]) for c in competitors})
    everyone = [Measurement(c) for c in (*(products(*way) for way in ways), *competitors)]
    measure(
        everyone,
        repeats=repeats,
        device=CPU,
        seconds_per_block=seconds,
        on_step=lambda doing, m: print(doing, m.competitor.labels["task"], m.competitor.labels["how"], file=sys.stderr),
    )
    rates = {}
    rows = []
    for measurement in everyone:
        row = measurement.record()
        if row["whole"] == MANY_TIMES and row["median_s"] is not None:
            row |= {key: row[key] / MANY_TIMES for key in ("median_s", "iqr_s", "p95_s")}
        if row["median_s"] is not None:
            row["operations_per_s"] = row["operations"] / row["median_s"]
            way = (row["threads"], row["precision"])
            if row["task"] == "products":
                rates[way] = row["operations_per_s"]
            row["share"] = row["operations_per_s"] / rates[way]
        rows.append(row)
    for measurement, row in zip(everyone, rows, strict=True):
        rival = [m for m in everyone if _rivals(m.competitor.labels, row)]
        if rival and measurement.raw_s and rival[0].raw_s:
            row["of_published"] = ratio_of_medians(measurement.seconds, rival[0].seconds, paired=True)
    return rows


def _rivals(labels: Any, row: dict[str, Any]) -> bool:
    same = all(labels.get(key) == row.get(key) for key in ("task", "model", "recipe", "evaluations"))
    return same and labels["how"] == "published" != row["how"]
