"""``dualdiff sample``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ..present.tables import facts_table
from .counts import at_least
from .help import DRAWING, FILES, MACHINE, examples
from .options import (
    DebugOption,
    DeviceOption,
    FromOption,
    GivenOption,
    JsonOption,
    PrecisionOption,
    QuietOption,
    RunArgument,
    SamplerOption,
    SampleStepsOption,
    SeedOption,
    TrustOption,
    cells,
    console_for,
    handled,
    source,
)

__all__ = ["sample"]

DETAILS = frozenset({"precision", "compiled", "peak_memory_bytes", "moved_rows"})
"""Entries of the record that only ``--json`` shows."""


@handled
@examples(
    "dualdiff sample -n 1000 -o rows.parquet",
    "dualdiff sample runs/moons-dual-expert-1 --sampler ddim -n 1000",
    "dualdiff sample --from model.onnx -n 1000 -o -",
    "dualdiff sample --given detector=B --where 'energy > 5' -n 500",
)
def sample(
    run: RunArgument = None,
    n: Annotated[
        int,
        typer.Option(
            "-n", "--n", parser=at_least(1), help="Number of rows to draw.", metavar="N", rich_help_panel=DRAWING
        ),
    ] = 10_000,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            help="File for the rows, .csv, .tsv, .csv.gz, .tsv.gz, .parquet, .ndjson, .jsonl, .npy or .xlsx, or - for "
            "CSV on standard output; default: a CSV file in the run's folder samples/, and with --from in this folder.",
            metavar="FILE",
            rich_help_panel=FILES,
        ),
    ] = None,
    exported: FromOption = None,
    trust: TrustOption = False,
    sampler: SamplerOption = None,
    sample_steps: SampleStepsOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    compile_: Annotated[
        Literal["auto", "on", "off"],
        typer.Option(
            "--compile",
            help="Whether torch compiles the denoiser; auto compiles it for many rows.",
            rich_help_panel=MACHINE,
        ),
    ] = "auto",
    given: GivenOption = None,
    where: Annotated[
        str | None,
        typer.Option(
            help="A condition that every row meets, as in SQL after WHERE: \"energy > 5 AND detector IN ('A', 'B')\".",
            metavar="SQL",
            rich_help_panel=DRAWING,
        ),
    ] = None,
    guidance: Annotated[
        float,
        typer.Option(
            help="How strongly rows follow the given cells; 1 draws from the conditional distribution, and more "
            "exaggerates what is typical of it.",
            metavar="W",
            rich_help_panel=DRAWING,
        ),
    ] = 1.0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw rows from the model of a finished run, or from an exported file.

    The rows depend on --seed and on the sampler. They are written to the file as they are drawn, so that memory does
    not grow with their number.
    """
    from ..jobs.sample import sample as job
    from ..models import DrawingOptions

    console = console_for(output, as_json=as_json, quiet=quiet)
    options = DrawingOptions(sampler, sample_steps, precision, compile_, given=cells(given), guidance=guidance)
    with console.progress("sampling", unit="rows") as bar:
        bar.start(n)
        record = job(
            source(run, exported, device=device, trust=trust),
            n=n,
            output=output,
            seed=seed,
            options=options,
            where=where,
            device=device,
            on_progress=bar.report,
        )
    console.result(record, lambda: [facts_table({key: record[key] for key in record if key not in DETAILS})])
    if moved := record.get("moved_rows"):
        console.note(
            f"Few of the {record['candidates']:,} drawn rows meet the condition. Further rows began at "
            f"{moved['independent_rows']:,} of these and were moved on within the condition: they have its "
            "distribution, but depend on each other."
        )
    if redrawn := record.get("redrawn"):
        drawn = f"{n:,} rows" if where is None else f"{record['candidates']:,} drawn rows"
        console.note(
            f"{redrawn:,} of {drawn} were not finite or far outside the range of the training rows, and have been "
            "drawn again."
        )
