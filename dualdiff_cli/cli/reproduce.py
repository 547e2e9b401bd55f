"""``dualdiff reproduce``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..config.layers import FEW_ROWS_RECIPE, RECIPES
from ..config.registry import known_name
from ..errors import InputError
from ..present.progress import Bar, duration
from ..present.tables import Table, facts_table
from ..present.terminal import Console
from .completion import complete_datasets, complete_recipes, complete_tables
from .counts import at_least
from .help import DATA, FILES, MACHINE, MODEL, TRAINING, examples
from .options import DebugOption, JsonOption, QuietOption, handled
from .signals import shielded

if TYPE_CHECKING:
    from ..paper.grid import GridProgress

__all__ = ["reproduce"]

SHARE_FOR_ESTIMATE = 0.01
"""The remaining time is estimated once this share of all training steps is taken."""


@handled
@examples(
    "dualdiff reproduce table1 --seeds 3",
    "dualdiff reproduce all --seeds 5 --jobs 2 --output reproduction",
)
def reproduce(
    what: Annotated[
        str,
        typer.Argument(
            help="table1, table2, figures (from the runs of both tables), or all.",
            metavar="WHAT",
            autocompletion=complete_tables,
        ),
    ],
    seeds: Annotated[
        int,
        typer.Option(
            parser=at_least(1),
            help="Number of runs for every row, each with a seed of its own.",
            metavar="N",
            rich_help_panel=TRAINING,
        ),
    ] = 5,
    jobs: Annotated[
        int | None,
        typer.Option(
            parser=at_least(1),
            help="Number of processes, with one thread each; default: one for each core.",
            metavar="N",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="Recipe by which every run is trained and sampled: "
            f"{', '.join(name for name in RECIPES if name != FEW_ROWS_RECIPE)}.",
            metavar="NAME",
            autocompletion=complete_recipes,
            rich_help_panel=MODEL,
        ),
    ] = "paper",
    engine: Annotated[
        Literal["joblib", "ray"],
        typer.Option(
            help="Library that spreads the runs over processes; ray needs the extra `ray`.", rich_help_panel=MACHINE
        ),
    ] = "joblib",
    steps: Annotated[
        int | None,
        typer.Option(
            parser=at_least(1),
            help="Number of training steps; default: the recipe's.",
            metavar="N",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="Data set in place of the table's own; may be given several times.",
            metavar="NAME|FILE",
            autocompletion=complete_datasets,
            rich_help_panel=DATA,
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a value of the recipe, as for `train`; may be given several times.",
            metavar="KEY=VALUE",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(help="Folder for the tables, the figures and the runs.", metavar="DIR", rich_help_panel=FILES),
    ] = Path("reproduction"),
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Run the paper's experiments again with several seeds, and show the results beside the paper's.

    Finished runs are kept: the same command goes on where it was stopped, and repeats the runs that failed.
    """
    from ..paper.reproduce import FIGURES, ReproduceRequest
    from ..paper.reproduce import reproduce as job

    console = Console(as_json=as_json, quiet=quiet)
    request = ReproduceRequest(
        what.lower(),
        seeds=seeds,
        recipe=known_name("recipe", recipe, RECIPES),
        steps=steps,
        datasets=tuple(dataset or ()),
        settings=tuple(setting or ()),
        jobs=jobs,
        engine=engine,
        output=output,
    )
    with (
        console.progress("reproducing", unit="steps", estimated=False) as bar,
        shielded(console, after="the current step of every run") as should_stop,
    ):
        record = job(
            request, on_progress=_shown(console, bar), should_stop=should_stop, announce=lambda what: bar.describe(what)
        )
    records = record.get("tables", [record])
    for failure in (failure for table in records for row in table["rows"] for failure in row["failed"]):
        console.warn(f"A run with seed {failure['seed']} failed: {failure['reason']}")
    for sentence in record.get("left_out", []):
        console.note(sentence)
    shown = [] if request.what == FIGURES else records
    console.result(record, lambda: _tables(shown, figures=record.get("figures", [])))
    failed = sum(len(row["failed"]) for table in records for row in table["rows"])
    if failed == sum(table["seeds"] for table in records for _ in table["rows"]):
        raise InputError(
            f"No run is finished: {failed} of {failed} failed.", "See the reasons, and give the command again."
        )


def _shown(console: Console, bar: Bar) -> Callable[[GridProgress], None]:
    """Show the progress of the grid in a bar; and as notes the number of runs, each finished run and the time left."""
    first: GridProgress | None = None
    running: tuple[float, int] | None = None  # the time and the number of steps when the first steps had been made
    told, estimated, estimated_whole = 0, False, False

    def on_progress(now: GridProgress) -> None:
        nonlocal first, running, told, estimated, estimated_whole
        if first is None:
            first, told = now, now.done
            to_go = _count(now.steps - now.steps_done, "training step")
            console.note(f"{_count(now.runs, 'run')}, {now.done} of them done; {to_go} to go.")
            bar.start(now.steps)
        failed = f", {now.failed} failed" if now.failed else ""
        done = f"{now.done} of {_count(now.runs, 'run')} done{failed}"
        left = f", about {duration(now.seconds_left)} left" if now.seconds_left else ""
        bar.report(now.steps_done, done + left)
        if now.done > told:
            told = now.done
            console.note(f"{done}.")
        if running is None and now.steps_done > first.steps_done:
            running = time.monotonic(), now.steps_done
        taken = now.steps_done - running[1] if running else 0
        if now.seconds_left and not estimated_whole:
            estimated = estimated_whole = True
            console.note(
                f"About {duration(now.seconds_left)} to go with sampling and scoring, estimated from "
                f"{_count(now.done, 'finished run')}."
            )
        if running and not estimated and taken > SHARE_FOR_ESTIMATE * now.steps:
            estimated = True
            seconds = (time.monotonic() - running[0]) * (now.steps - now.steps_done) / taken
            console.note(
                f"About {duration(seconds)} of training to go, estimated from {taken:,} steps. Sampling and scoring "
                "come on top; the first finished run will tell how long they take."
            )

    return on_progress


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _tables(records: Sequence[Mapping[str, Any]], *, figures: Sequence[str]) -> list[Table]:
    """Lay out the reproduced tables, and the paths of the figures."""
    from ..paper.tables import reproduction_tables

    tables = [table for record in records for table in reproduction_tables(record)]
    return [*tables, facts_table({"figures": "\n".join(figures)})] if figures else tables
