"""``dualdiff impute``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..present.tables import facts_table
from .counts import at_least
from .help import DRAWING, FILES, examples
from .options import DebugOption, DeviceOption, JsonOption, QuietOption, SeedOption, console_for, handled, source

__all__ = ["impute"]


@handled
@examples(
    "dualdiff impute measurements.csv -o filled.csv",
    "dualdiff impute runs/penguins-dual-expert-1 penguins.csv --draws 5 -o five.csv",
)
def impute(
    names: Annotated[
        list[Path],
        typer.Argument(
            help="The run, which may be left out, and the table whose gaps are filled.", metavar="[RUN] TABLE"
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="The file with the filled table, or - for CSV on standard output.",
            metavar="FILE",
            rich_help_panel=FILES,
        ),
    ],
    draws: Annotated[
        int,
        typer.Option(
            parser=at_least(1),
            help="How many times the gaps are filled, independently.",
            metavar="K",
            rich_help_panel=DRAWING,
        ),
    ] = 1,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Fill the gaps of a table with draws from their distribution given the other cells of the row.

    No other cell changes. With --draws K the output has the table K times, and a column that counts the draws: what
    differs between the draws is what the model does not know.
    """
    from ..jobs.impute import impute as job

    *run, table = names
    if len(run) > 1:
        raise typer.BadParameter("Give a run and a table, or a table only.")
    console = console_for(output, as_json=as_json, quiet=quiet)
    model = source(run[0] if run else None, None, device=device)
    record = job(model, table, output=output, draws=draws, seed=seed, device=device, on_note=console.note)
    console.result(record, lambda: [facts_table(record)])
