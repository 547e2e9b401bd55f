"""``dualdiff bench``, and ``bench show`` and ``bench compare``, which read the records that it kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from ..config.layers import FEW_ROWS_RECIPE, MODELS, RECIPES
from ..config.registry import MODEL_KINDS
from ..errors import InputError
from ..present.terminal import Console
from .completion import complete_datasets, complete_models, complete_recipes
from .counts import at_least
from .help import DATA, FILES, MACHINE, MODEL, Group, add_command, examples
from .options import DebugOption, DeviceOption, JsonOption, QuietOption, handled
from .signals import unwound

__all__ = ["bench_app"]

TIMED = "What is timed"
bench_app = typer.Typer(cls=Group, invoke_without_command=True)


@bench_app.callback()
@handled
@examples(
    "dualdiff bench --dataset moons --task train --output before.json",
    "dualdiff bench show before.json",
    "dualdiff bench compare before.json after.json",
)
def bench(
    context: typer.Context,
    device: DeviceOption = "auto",
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="Data set, by name or as a file; may be given several times; default: the paper's four.",
            metavar="NAME|FILE",
            autocompletion=complete_datasets,
            rich_help_panel=DATA,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Diffusion model, such as "
            f"{', '.join(name for name in MODELS if name not in MODEL_KINDS)}; may be given several times; default: "
            "baseline and dual-expert.",
            metavar="NAME",
            autocompletion=complete_models,
            rich_help_panel=MODEL,
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="Recipe of all backends but `published`, which always follows the paper: "
            f"{', '.join(name for name in RECIPES if name != FEW_ROWS_RECIPE)}.",
            metavar="NAME",
            autocompletion=complete_recipes,
            rich_help_panel=MODEL,
        ),
    ] = "paper",
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="train, sample or latency; may be given several times; default: all three.",
            metavar="NAME",
            rich_help_panel=TIMED,
        ),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="published, eager, compiled, cuda-graph, torchscript, pt2, onnx-cpu or onnx-cuda; may be given "
            "several times; default: all that the device can run.",
            metavar="NAME",
            rich_help_panel=TIMED,
        ),
    ] = None,
    n: Annotated[
        int,
        typer.Option(
            "-n",
            parser=at_least(1),
            help="Number of points that the sampling task draws.",
            metavar="N",
            rich_help_panel=TIMED,
        ),
    ] = 10_000,
    repeats: Annotated[
        int,
        typer.Option(
            parser=at_least(2),
            help="Number of timed blocks in each row, at least 2.",
            metavar="N",
            rich_help_panel=TIMED,
        ),
    ] = 5,
    seconds: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Seconds that a block should take; a block of the smallest possible size may take longer.",
            metavar="S",
            rich_help_panel=TIMED,
        ),
    ] = 0.5,
    threads: Annotated[
        int | None,
        typer.Option(
            parser=at_least(1),
            help="CPU threads of torch and ONNX Runtime; default: the number that `train` takes.",
            metavar="N",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a value of the configuration; may be given several times.",
            metavar="KEY=VALUE",
            rich_help_panel=MODEL,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="File for the record, with all raw times.",
            metavar="FILE.json",
            rich_help_panel=FILES,
        ),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Time training and sampling, beside the published loops and the paper's own times.

    A timed block covers some steps of a training, or some of the points. Its time is scaled to the whole task, and the
    table says so. The backends of one data set and task take turns. After Ctrl-C, --output keeps what was measured.
    """
    if context.invoked_subcommand:
        options = {str(option.name): option.opts[-1] for option in context.command.params}
        sources = {key: context.get_parameter_source(key) for key in options}
        stated = [options[key] for key, given in sources.items() if given is not None and given.name == "COMMANDLINE"]
        if stated:
            raise InputError(
                f"`bench {context.invoked_subcommand}` does not see what stands before it: {', '.join(stated)}.",
                f"Give its own options after `{context.invoked_subcommand}`, and leave the others out.",
            )
        return
    if not math.isfinite(seconds):
        raise InputError(f"--seconds {seconds} is no length of a block.", "Give a number, such as 0.5.")

    from ..bench.benchmark import BenchRequest
    from ..bench.benchmark import bench as job
    from ..bench.tables import bench_tables

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
    with console.progress("timing", unit="blocks") as bar, unwound():

        def on_step(doing: str) -> None:
            nonlocal done
            done += 1
            bar.report(done, doing)

        record = job(request, device=device, threads=threads, output=output, on_start=bar.start, on_step=on_step)
    console.result(record, lambda: bench_tables(record))


@handled
@examples("dualdiff bench show before.json")
def show(
    record: Annotated[
        Path,
        typer.Argument(help="Record that `dualdiff bench --output` wrote.", metavar="FILE.json", show_default=False),
    ],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Show the tables of a record that was kept, on this machine or on another."""
    from ..bench.records import read_benchmark
    from ..bench.tables import bench_tables

    kept = read_benchmark(record)
    Console(as_json=as_json, quiet=quiet).result(kept, lambda: bench_tables(kept))


@handled
@examples("dualdiff bench compare before.json after.json")
def compare_two(
    before: Annotated[
        Path, typer.Argument(help="Record that `dualdiff bench --output` wrote.", metavar="A.json", show_default=False)
    ],
    after: Annotated[Path, typer.Argument(help="Another such record.", metavar="B.json", show_default=False)],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Show for every row the ratio of the time in B to the time in A, with its 95 % interval."""
    from ..bench.records import compare_benchmarks
    from ..bench.tables import benchmark_comparison_table

    record = compare_benchmarks(before, after)
    Console(as_json=as_json, quiet=quiet).result(record, lambda: [benchmark_comparison_table(record)])


add_command(bench_app, show)
add_command(bench_app, compare_two, name="compare")
