"""``dualdiff export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..present.exported import export_table
from ..present.terminal import Console
from .help import FILES, MACHINE, examples
from .options import (
    DebugOption,
    DeviceOption,
    JsonOption,
    QuietOption,
    RunArgument,
    SamplerOption,
    SampleStepsOption,
    handled,
)

__all__ = ["export"]


@handled
@examples(
    "dualdiff export -o model.onnx",
    "dualdiff export -o model.pt2 --sampler dpmpp-2m --sample-steps 20",
    "dualdiff export -o penguins.onnx --given",
)
def export(
    run: RunArgument = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="Format of the file: onnx, torchscript or pt2; default: what the suffix of --output says, and "
            "otherwise onnx.",
            metavar="FORMAT",
            rich_help_panel=FILES,
        ),
    ] = None,
    what: Annotated[
        str,
        typer.Option(
            help="What the file computes: sampler turns noise into rows, denoiser evaluates the network once.",
            metavar="WHAT",
            rich_help_panel=FILES,
        ),
    ] = "sampler",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="File to write, .onnx, .pt2, .ts or .pt; default: in the run's folder exports/.",
            metavar="FILE",
            rich_help_panel=FILES,
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="Precision of the network's matmuls: float32, float16 or bfloat16.",
            metavar="NAME",
            rich_help_panel=MACHINE,
        ),
    ] = "float32",
    sampler: SamplerOption = None,
    sample_steps: SampleStepsOption = None,
    opset: Annotated[
        int | None,
        typer.Option(help="Version of the ONNX operators; default: torch chooses.", metavar="N", rich_help_panel=FILES),
    ] = None,
    given: Annotated[
        bool,
        typer.Option(
            "--given",
            help="Let the sampler take given cells as inputs, for `sample --from FILE --given COLUMN=VALUE`.",
            rich_help_panel=FILES,
        ),
    ] = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the sampler of a run as one file that other programs can use, and compare the file with the run.

    If the file computes something else than the run, the file is removed and the command fails. --device chooses the
    device of this comparison. TorchScript is deprecated in torch and does not work on Python 3.14.
    """
    from ..jobs.export import export as job
    from ..store.run import Run

    console = Console(as_json=as_json, quiet=quiet)
    opened = Run.open(run)
    with console.activity() as announce:
        record = job(
            opened,
            format=format,
            what=what,
            output=output,
            precision=precision,
            sampler=sampler,
            sample_steps=sample_steps,
            opset=opset,
            given=given,
            device=device,
            announce=announce,
        )
    if opset is not None and record["opset"] != opset:
        console.warn(f"The file uses opset {record['opset']}, although opset {opset} was asked for.")
    console.result(record, lambda: [export_table(record)])
