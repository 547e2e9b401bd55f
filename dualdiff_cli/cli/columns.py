"""``dualdiff columns``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ..present.tables import Column, Table
from ..present.terminal import Console
from .help import DATA, FILES, examples
from .options import DebugOption, JsonOption, QuietOption, handled, names

__all__ = ["columns"]


@handled
@examples("dualdiff columns measurements.csv", "dualdiff columns measurements.csv -o schema.toml")
def columns(
    file: Annotated[Path, typer.Argument(help="The file whose columns are looked at.", metavar="FILE")],
    chosen: Annotated[
        str | None,
        typer.Option(
            "--columns",
            help="Columns of the file to look at; default: all columns.",
            metavar="A,B,…",
            rich_help_panel=DATA,
        ),
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option(help="TOML file with the kinds of some columns.", metavar="FILE.toml", rich_help_panel=FILES),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="TOML file that gets the kinds, for editing.",
            metavar="FILE.toml",
            rich_help_panel=FILES,
        ),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Say how each column of a file would be learnt; nothing is trained.

    The kinds that are written with --output can be edited and handed to `dualdiff train --schema`.
    """
    from ..jobs.columns import columns as job

    console = Console(as_json=as_json, quiet=quiet)
    record = job(file, schema=schema, output=output, chosen=names(chosen))
    for note in record["notes"]:
        console.note(note)
    if relations := record["relations"]:
        asked = {"--columns": chosen, "--schema": schema}
        words = [word for option, value in asked.items() if value is not None for word in (option, str(value))]
        words += [word for relation in relations for word in ("--constraint", relation)]
        command = shlex.join(["dualdiff", "train", str(file), *words])
        keep = "it" if len(relations) == 1 else "them"
        console.note(f"In every row {' and '.join(relations)}. To keep {keep} exactly: {command}")
    heads = (Column("column"), Column("kind"), Column("learnt as"), Column("missing", ","), Column("distinct", ","))
    body = tuple((c["name"], c["kind"], c["learnt_as"], c["missing"], c["distinct"]) for c in record["columns"])
    console.result(record, lambda: [Table(f"{file}: {record['rows']:,} rows", heads, body)])
