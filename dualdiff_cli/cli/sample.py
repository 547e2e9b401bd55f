"""``dualdiff sample``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ..errors import InputError
from ..present.terminal import Console, facts_table
from .options import (
    DebugOption,
    DeviceOption,
    FromOption,
    JsonOption,
    PrecisionOption,
    QuietOption,
    RunArgument,
    SamplerOption,
    SampleStepsOption,
    SeedOption,
    handled,
)

__all__ = ["sample"]


@handled
def sample(
    run: RunArgument = None,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="How many points.", metavar="N")] = 10_000,
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", help="A .csv, .tsv, .parquet, .ndjson or .npy file, or - for stdout.", metavar="FILE"
        ),
    ] = None,
    exported: FromOption = None,
    sampler: SamplerOption = None,
    sample_steps: SampleStepsOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    compile_: Annotated[
        Literal["auto", "on", "off"], typer.Option("--compile", help="Compile the denoiser; auto if it repays itself.")
    ] = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw points from a trained run, or from an exported file."""
    from ..exporting.runtime import ExportedModel
    from ..jobs import sample as job
    from ..jobs import sample_exported
    from ..store.run import Run

    if run is not None and exported is not None:
        raise InputError(f"A run, {run}, and a file, {exported}, were both named.", "Leave one of them out.")
    if exported is not None and precision != "float32":
        raise InputError("A file's precision is its own.", "Leave --precision out, or export with another.")
    if exported is not None and compile_ != "auto":
        raise InputError("--compile is of points that a run draws.", "Leave it out.")
    if output == "-" and as_json:
        raise InputError("--json and --output - both want standard output.", "Give --output a file.")
    console = Console(as_json=as_json, quiet=quiet or output == "-")
    with console.progress("sampling", unit="points") as bar:
        bar.start(n)
        if exported is not None:
            record = sample_exported(
                ExportedModel.open(exported, device=device),
                n=n,
                output=output,
                sampler=sampler,
                sample_steps=sample_steps,
                seed=seed,
                on_progress=bar.report,
            )
        else:
            record = job(
                Run.open(run),
                n=n,
                output=output,
                sampler=sampler,
                sample_steps=sample_steps,
                seed=seed,
                device=device,
                precision=precision,
                compile=compile_,
                on_progress=bar.report,
            )
    console.result(record, lambda: facts_table({**record, "columns": ", ".join(record["columns"])}))
