"""``dualdiff reproduce``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Group, RenderableType

from ..present.terminal import Bar, Console, facts_table
from .options import DebugOption, JsonOption, QuietOption, handled
from .signals import stop_on_signals

if TYPE_CHECKING:
    from ..paper.grid import GridProgress

__all__ = ["reproduce"]

SHARE_FOR_ESTIMATE = 0.01


@handled
def reproduce(
    what: Annotated[
        str, typer.Argument(help="table1, table2, figures (of both tables' runs), or all.", metavar="WHAT")
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Runs of every row.", metavar="N")] = 5,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes, of one thread each; as many as cores.", metavar="N")
    ] = None,
    recipe: Annotated[str, typer.Option(help="How every run is trained and sampled.", metavar="NAME")] = "paper",
    engine: Annotated[
        Literal["joblib", "ray"], typer.Option(help="What spreads the runs; ray needs the extra of that name.")
    ] = "joblib",
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps, in place of the recipe's.", metavar="N")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="In place of the table's own, repeatable.", metavar="NAME|FILE")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Change the recipe, as for train.", metavar="KEY=VALUE")
    ] = None,
    output: Annotated[Path, typer.Option(help="Where tables, figures and runs go.", metavar="DIR")] = Path(
        "reproduction"
    ),
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Run the paper's experiments again, every row with several seeds, beside its figures.

    What is finished is kept: the same command goes on where it was stopped, and tries again what failed.
    """
    from ..paper.reproduce import ReproduceRequest
    from ..paper.reproduce import reproduce as job

    console = Console(as_json=as_json, quiet=quiet)
    request = ReproduceRequest(
        what,
        seeds=seeds,
        recipe=recipe,
        steps=steps,
        datasets=tuple(dataset or ()),
        settings=tuple(setting or ()),
        jobs=jobs,
        engine=engine,
        output=output,
    )
    with (
        console.progress("reproducing", unit="steps") as bar,
        stop_on_signals(console, after="the steps under way") as should_stop,
    ):
        record = job(
            request, on_progress=_shown(console, bar), should_stop=should_stop, announce=lambda what: bar.describe(what)
        )
    tables = record.get("tables", [record])
    for failure in (failure for table in tables for row in table["rows"] for failure in row["failed"]):
        console.warn(f"A run with seed {failure['seed']} failed: {failure['reason']}")
    for sentence in record.get("left_out", []):
        console.note(sentence)
    console.result(record, lambda: _view(tables, figures=record.get("figures", [])))


def _shown(console: Console, bar: Bar) -> Callable[[GridProgress], None]:
    """Show how far the grid is: a bar; and in words what there is to do, for how long, and each run that is done."""
    first: GridProgress | None = None
    running: tuple[float, int] | None = None  # when the first steps were seen, and how many
    told, estimated = 0, False

    def on_progress(now: GridProgress) -> None:
        nonlocal first, running, told, estimated
        if first is None:
            first, told = now, now.done
            console.note(f"{now.runs} runs, {now.done} of them done, {now.steps - now.steps_done:,} steps to go.")
            bar.start(now.steps)
        failed = f", {now.failed} failed" if now.failed else ""
        bar.report(now.steps_done, f"{now.done} of {now.runs} runs done{failed}")
        if now.done > told:
            told = now.done
            console.note(f"{now.done} of {now.runs} runs done{failed}.")
        if running is None and now.steps_done > first.steps_done:
            running = time.monotonic(), now.steps_done
        taken = now.steps_done - running[1] if running else 0
        if running and not estimated and taken > SHARE_FOR_ESTIMATE * now.steps:
            estimated = True
            minutes = (time.monotonic() - running[0]) * (now.steps - now.steps_done) / taken / 60
            console.note(f"About {max(minutes, 1):,.0f} minutes of training to go, by {taken:,} steps.")

    return on_progress


def _view(records: Sequence[Mapping[str, Any]], *, figures: Sequence[str]) -> RenderableType:
    """Show reproduced tables, and where the figures are."""
    from ..paper.tables import tables_of

    tables = [table.to_rich() for record in records for table in tables_of(record)]
    return Group(*tables, *([facts_table({"figures": "\n".join(figures)})] if figures else []))
