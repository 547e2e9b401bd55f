"""``dualdiff report``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..present.tables import facts_table
from ..present.terminal import Console
from ..present.verdicts import spoken
from .completion import complete_runs
from .help import FILES, examples
from .options import DebugOption, DeviceOption, JsonOption, QuietOption, SeedOption, handled

__all__ = ["report"]


@handled
@examples("dualdiff report", "dualdiff report runs/moons-dual-expert-1 -o moons.html")
def report(
    source: Annotated[
        Path | None,
        typer.Argument(
            help="Directory of a run, or a JSON file that `dualdiff compare --json` wrote; default: the newest run "
            "under runs/.",
            metavar="RUN|FILE.json",
            show_default=False,
            autocompletion=complete_runs,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The HTML file; default: report.html in the run, and for a comparison the page beside its file.",
            metavar="FILE.html",
            rich_help_panel=FILES,
        ),
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write one HTML page that says what a run has learnt and how good it is; it needs no network and no other file.

    A run whose model has not been scored yet is scored first, as `dualdiff evaluate` does.
    """
    from ..jobs.report import report as job
    from ..store.run import Run

    console = Console(as_json=as_json, quiet=quiet)
    with console.activity() as announce:
        record = job(
            source if source is not None else Run.open(None), output=output, seed=seed, device=device, announce=announce
        )
    if record["scored_now"]:
        console.note(
            f"The model had no scores yet, so it was scored first; they are in {record['run']}/evaluation.json."
        )
    facts = facts_table({"report": record["output"], "bytes": record["bytes"]})
    console.result(record, lambda: [replace(facts, notes=(spoken(record["verdict"], record["sentence"]),))])
