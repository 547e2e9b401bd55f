"""``dualdiff export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..present.tables import facts_table
from ..present.terminal import Console
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
def export(
    run: RunArgument = None,
    format: Annotated[str, typer.Option(help="onnx, torchscript or pt2.", metavar="FORMAT")] = "onnx",
    what: Annotated[
        str, typer.Option(help="sampler, from noise to data, or denoiser, one evaluation.", metavar="WHAT")
    ] = "sampler",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The file; in the run if left out.", metavar="FILE")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Of the matrix products: float32, float16 or bfloat16.", metavar="NAME")
    ] = "float32",
    sampler: SamplerOption = None,
    sample_steps: SampleStepsOption = None,
    opset: Annotated[
        int | None, typer.Option(help="Version of the ONNX operators; torch's choice if left out.", metavar="N")
    ] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write one file that turns noise into data anywhere, and compare it with the run.

    A file that does not do what the run does is not left behind. --device says where it is compared. TorchScript is
    deprecated in torch and does not work on Python 3.14.
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
            device=device,
            announce=announce,
        )
    if opset is not None and record["opset"] != opset:
        console.warn(f"Opset {opset} was asked for; the file uses {record['opset']}.")
    console.result(record, lambda: [facts_table(_facts(record))])


def _facts(record: dict[str, object]) -> dict[str, object]:
    """Write every divergence with its floor, in a line."""
    facts = dict(record)
    for name, value in record.items():
        if isinstance(value, dict):
            facts[name] = f"{value['value']:.3g} {value['unit']} (the run's own: {value['floor']:.3g})"
    return facts
