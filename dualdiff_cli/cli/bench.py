"""``dualdiff bench``, and ``show`` and ``compare`` of what it kept."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ..bench.tables import bench_tables, comparison_table
from ..present.terminal import Console
from .options import DebugOption, DeviceOption, JsonOption, QuietOption, handled

__all__ = ["app"]

app = typer.Typer(invoke_without_command=True)


@app.callback()
@handled
def bench(
    context: typer.Context,
    device: DeviceOption = "auto",
    dataset: Annotated[
        list[str] | None, typer.Option(help="A name or a file, repeatable; the paper's four.", metavar="NAME|FILE")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Repeatable; baseline and dual-expert if left out.", metavar="NAME")
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="Of our backends; the published loops are the paper's always.", metavar="NAME")
    ] = "paper",
    task: Annotated[
        list[str] | None, typer.Option(help="train, sample or latency, repeatable; all if left out.", metavar="NAME")
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="published, eager, compiled, cuda-graph, torchscript, pt2, onnx-cpu, onnx-cuda or "
            "onnx-cuda-unbound, repeatable; those that the device can do if left out.",
            metavar="NAME",
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Points of the sampling task.", metavar="N")] = 10_000,
    repeats: Annotated[int, typer.Option(min=2, help="Timed blocks of each row.", metavar="N")] = 5,
    seconds: Annotated[
        float, typer.Option(min=0.0, help="How long a block should take; more where its least size does.", metavar="S")
    ] = 0.5,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Of torch and ONNX Runtime on the CPU; chosen as `train` does if left out.", metavar="N"
        ),
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Any value of the configuration.", metavar="KEY=VALUE")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Keep the record, raw times and all.", metavar="FILE.json")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Time training and sampling beside the published loops and the paper's figures.

    A block is a part of a training's steps, or of the points; what is measured on a part is scaled to the whole and
    says so. The backends of one data set and task take turns. Ctrl-C keeps what was measured in --output.
    """
    if context.invoked_subcommand:
        return

    from ..bench.benchmark import BenchRequest
    from ..bench.benchmark import bench as job

    defaults = BenchRequest()
    request = BenchRequest(
        datasets=tuple(dataset or defaults.datasets),
        models=tuple(model or defaults.models),
        recipe=recipe,
        tasks=tuple(task or defaults.tasks),
        backends=tuple(backend or ()),
        samples=n,
        repeats=repeats,
        seconds_per_block=seconds,
        settings=tuple(setting or ()),
    )
    console = Console(as_json=as_json, quiet=quiet)
    done = -1
    with console.progress("timing", unit="blocks") as bar, _terminated_as_interrupted():

        def on_step(doing: str) -> None:
            nonlocal done
            done += 1
            bar.report(done, doing)

        record = job(request, device=device, threads=threads, output=output, on_start=bar.start, on_step=on_step)
    console.result(record, lambda: bench_tables(record))


@app.command()
@handled
def show(
    record: Annotated[Path, typer.Argument(help="What --output wrote.", metavar="FILE.json", show_default=False)],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Show the tables of a benchmark that was kept, from this machine or another."""
    from ..bench.records import read_benchmark

    kept = read_benchmark(record)
    Console(as_json=as_json, quiet=quiet).result(kept, lambda: bench_tables(kept))


@app.command()
@handled
def compare(
    before: Annotated[Path, typer.Argument(help="What --output wrote.", metavar="A.json", show_default=False)],
    after: Annotated[Path, typer.Argument(help="Another one.", metavar="B.json", show_default=False)],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Give the ratio of B's times to A's, row by row, with its interval."""
    from ..bench.records import compare as compare_benchmarks

    record = compare_benchmarks(before, after)
    Console(as_json=as_json, quiet=quiet).result(record, lambda: comparison_table(record))


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let a termination signal do what Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
