"""``dualdiff animate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..present.tables import facts_table
from ..present.terminal import Console
from .counts import at_least
from .help import DRAWING, FILES, examples
from .options import (
    DebugOption,
    DeviceOption,
    ExactDensityOption,
    JsonOption,
    QuietOption,
    RunArgument,
    SamplerOption,
    SeedOption,
    handled,
)

__all__ = ["animate"]


@handled
@examples("dualdiff animate -o diffusion.gif", "dualdiff animate --dataset two-modes --sampler ddim -o two-modes.html")
def animate(
    run: RunArgument = None,
    dataset: ExactDensityOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The film; default: figures/diffusion.gif in the run, and with --dataset NAME.gif.",
            metavar="FILE.gif|.mp4|.html",
            rich_help_panel=FILES,
        ),
    ] = None,
    sampler: SamplerOption = None,
    points: Annotated[
        int,
        typer.Option(
            parser=at_least(1, at_most=2000),
            help="Number of points to show, up to 2000.",
            metavar="N",
            rich_help_panel=DRAWING,
        ),
    ] = 1000,
    frames: Annotated[
        int,
        typer.Option(
            parser=at_least(2, at_most=500),
            help="Number of states to show, 2 to 500.",
            metavar="N",
            rich_help_panel=DRAWING,
        ),
    ] = 60,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a film in which true points dissolve in noise while a sampler turns noise into points.

    It shows a diffusion model of two columns of numbers without gaps. With --dataset it shows the exact denoiser of a
    density, which needs no training.
    """
    from ..jobs.animate import animate as job

    console = Console(as_json=as_json, quiet=quiet)
    with console.activity() as announce:
        record = job(
            run,
            dataset=dataset,
            output=output,
            sampler=sampler,
            points=points,
            frames=frames,
            seed=seed,
            device=device,
            announce=announce,
        )
    console.result(record, lambda: [facts_table({key: value for key, value in record.items() if value is not None})])
