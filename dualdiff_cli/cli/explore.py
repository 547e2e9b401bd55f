"""``dualdiff explore``."""

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
    GivenOption,
    JsonOption,
    QuietOption,
    RunArgument,
    SeedOption,
    cells,
    handled,
)

__all__ = ["explore"]


@handled
@examples(
    "dualdiff explore -o page",
    "dualdiff explore --dataset two-modes -o page",
    "dualdiff explore runs/penguins --given species=Gentoo -o page",
)
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
            help="A sampler to show, one option each; default: ancestral, ddim, heun and dpmpp-2m-sde, and langevin "
            "without --given.",
            metavar="NAME",
            rich_help_panel=DRAWING,
        ),
    ] = None,
    given: GivenOption = None,
    points: Annotated[
        int,
        typer.Option(
            parser=at_least(1, at_most=2000),
            help="Number of points to follow, up to 2000.",
            metavar="N",
            rich_help_panel=DRAWING,
        ),
    ] = 2000,
    frames: Annotated[
        int,
        typer.Option(
            parser=at_least(2, at_most=200),
            help="States of each point that are kept, 2 to 200.",
            metavar="N",
            rich_help_panel=DRAWING,
        ),
    ] = 40,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a page on which the diffusion of two columns of numbers can be played with.

    The page has a time slider, several samplers side by side from the same noise, the field of posterior means, the
    log-density, and the weights of the experts. It needs no server and no network. With --dataset it shows the exact
    denoiser of a density, which needs no training. With --given it shows the two columns that are left, and a slider
    for the guidance weight W: 0 pays no attention to the given cells, 1 draws from the conditional distribution, and 2
    and 4 exaggerate what is typical of it.
    """
    from ..jobs.explore import explore as job

    console = Console(as_json=as_json, quiet=quiet)
    with console.activity() as announce:
        record = job(
            run,
            dataset=dataset,
            output=output,
            samplers=sampler,
            given=cells(given),
            points=points,
            frames=frames,
            seed=seed,
            device=device,
            announce=announce,
        )
    console.result(record, lambda: [facts_table({key: value for key, value in record.items() if value is not None})])
