"""``dualdiff explore``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..present.tables import facts_table
from ..present.terminal import Console
from .options import (
    DRAWING,
    FILES,
    DebugOption,
    DeviceOption,
    ExactDensityOption,
    JsonOption,
    QuietOption,
    RunArgument,
    SeedOption,
    examples,
    handled,
)

__all__ = ["explore"]


@handled
@examples("dualdiff explore -o page", "dualdiff explore --dataset two-modes -o page")
def explore(
    run: RunArgument = None,
    dataset: ExactDensityOption = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the page; its index.html opens without a server.",
            metavar="DIR",
            rich_help_panel=FILES,
        ),
    ] = Path("explorer"),
    sampler: Annotated[
        list[str] | None,
        typer.Option(
            help="A sampler to show, one option each; default: ancestral, ddim, heun, dpmpp-2m-sde and langevin.",
            metavar="NAME",
            rich_help_panel=DRAWING,
        ),
    ] = None,
    points: Annotated[
        int, typer.Option(min=1, max=2000, help="Number of points to follow.", metavar="N", rich_help_panel=DRAWING)
    ] = 2000,
    frames: Annotated[
        int,
        typer.Option(min=2, max=200, help="States of each point that are kept.", metavar="N", rich_help_panel=DRAWING),
    ] = 40,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a page on which the diffusion of a model of two columns can be played with.

    The page has a time slider, several samplers side by side from the same noise, the field of posterior means, the
    log-density, and the weights of the experts. It needs no server and no network. With --dataset it shows the exact
    denoiser of a density, which needs no training.
    """
    from ..jobs.explore import explore as job

    console = Console(as_json=as_json, quiet=quiet)
    with console.activity() as announce:
        record = job(
            run,
            dataset=dataset,
            output=output,
            samplers=sampler,
            points=points,
            frames=frames,
            seed=seed,
            device=device,
            announce=announce,
        )
    console.result(record, lambda: [facts_table({key: value for key, value in record.items() if value is not None})])
