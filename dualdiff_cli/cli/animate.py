"""``dualdiff animate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..present.tables import facts_table
from ..present.terminal import Console
from .options import DebugOption, DeviceOption, JsonOption, QuietOption, RunArgument, SamplerOption, SeedOption, handled

__all__ = ["animate"]


@handled
def animate(
    run: RunArgument = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="A density whose exact denoiser takes the place of a run; see `dualdiff datasets`.", metavar="NAME"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The film; default: figures/diffusion.gif in the run.", metavar="FILE.gif|.mp4|.html"
        ),
    ] = None,
    sampler: SamplerOption = None,
    points: Annotated[int, typer.Option(min=1, max=2000, help="Number of points to show.", metavar="N")] = 1000,
    frames: Annotated[int, typer.Option(min=2, max=500, help="Number of states to show.", metavar="N")] = 60,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a film in which true points dissolve in noise while a sampler turns noise into points.

    It shows a diffusion model of two columns. With --dataset it shows the exact denoiser of a density, which needs no
    training.
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
