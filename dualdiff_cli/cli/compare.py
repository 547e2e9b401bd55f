"""``dualdiff compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..config.layers import COMPARED, MODELS
from ..config.registry import PEERS
from ..present.comparison import models_table
from ..present.terminal import Console
from .completion import complete_datasets, complete_models_and_peers
from .counts import at_least
from .help import DATA, DRAWING, FILES, MODEL, TRAINING, examples
from .options import DebugOption, DeviceOption, JsonOption, QuietOption, SeedOption, handled
from .signals import shielded

__all__ = ["compare"]


@handled
@examples(
    "dualdiff compare --dataset people.csv",
    "dualdiff compare --dataset moons --model dual-expert --model mixture",
)
def compare(
    dataset: Annotated[
        str,
        typer.Option(
            help="A name or a file; see `dualdiff datasets`.",
            metavar="NAME|FILE",
            autocompletion=complete_datasets,
            rich_help_panel=DATA,
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            help=f"A model to compare, one option each: {', '.join([*MODELS, *PEERS])}; default: "
            f"{', '.join(COMPARED)}.",
            metavar="NAME",
            autocompletion=complete_models_and_peers,
            rich_help_panel=MODEL,
        ),
    ] = None,
    n: Annotated[
        int,
        typer.Option(
            "-n",
            "--n",
            parser=at_least(100),
            help="Number of rows that each model draws.",
            metavar="N",
            rich_help_panel=DRAWING,
        ),
    ] = 10_000,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    steps: Annotated[
        int | None,
        typer.Option(
            parser=at_least(1), help="Optimiser steps of the diffusion models.", metavar="N", rich_help_panel=TRAINING
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A value of the configuration, for all models that have this setting, e.g. data.points=1000.",
            metavar="KEY=VALUE",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder that keeps the runs and the scores; the same command goes on there. Default: nothing is kept.",
            metavar="DIR",
            rich_help_panel=FILES,
        ),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train several models on the same rows, and score all of them against the same held-out rows.

    Every score stands beside the floor that perfect samples get. A model whose package is not installed has a row that
    says how to install it.
    """
    from ..jobs.compare import compare as job

    console = Console(as_json=as_json, quiet=quiet)
    with shielded(console, after="the current step or fit") as should_stop:
        with console.activity() as announce:
            record = job(
                dataset,
                models=model,
                n=n,
                seed=seed,
                device=device,
                settings=[*([] if steps is None else [f"training.steps={steps}"]), *(setting or [])],
                path=run_dir,
                should_stop=should_stop,
                announce=announce,
                on_note=console.note,
            )
        # A request to stop that came during the last model throws nothing away that is finished.
        console.result(record, lambda: [models_table(record)])
