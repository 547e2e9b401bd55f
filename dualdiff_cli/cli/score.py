"""``dualdiff score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..present.tables import facts_table
from .help import FILES, examples
from .options import (
    DebugOption,
    DeviceOption,
    JsonOption,
    QuietOption,
    RunArgument,
    SeedOption,
    console_for,
    handled,
    source,
)

__all__ = ["score"]


@handled
@examples(
    "dualdiff score measurements.csv -o densities.csv",
    "dualdiff score new.parquet runs/moons-spline-flow-1 -o densities.npy",
)
def score(
    table: Annotated[Path, typer.Argument(help="The table whose rows are scored.", metavar="TABLE")],
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            help="The file with one value a row, or - for CSV on standard output.",
            metavar="FILE",
            rich_help_panel=FILES,
        ),
    ],
    run: RunArgument = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the log-density that a model gives each row of a table, in bits.

    The file has one column, log2_density: the binary logarithm of the density in the units of the columns, one value a
    row in the order of the table. The table needs all columns of the model, in any order; other columns are not looked
    at. Models with a category, a date, an angle, point masses, gaps, a column of several roundings or whole numbers
    beyond 2^53 have no such density, and neither has the model tabddpm.
    """
    from ..jobs.score import score as job

    console = console_for(output, as_json=as_json, quiet=quiet)
    model = source(run, None, device=device)
    with console.activity() as announce:
        record = job(model, table, output=output, seed=seed, device=device, announce=announce, on_note=console.note)
    console.result(record, lambda: [facts_table(record)])
