"""``dualdiff compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..present.comparison import models_table
from ..present.terminal import Console
from .options import DebugOption, DeviceOption, JsonOption, QuietOption, SeedOption, at_least, handled
from .signals import stop_on_signals

__all__ = ["compare"]


@handled
def compare(
    dataset: Annotated[str, typer.Option(help="A name or a file; see `dualdiff datasets`.", metavar="NAME|FILE")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model to compare, one option each; default: the default diffusion model, kernel-density, mixture, "
            "spline-flow, and the peers vine-copula, forest and arf.",
            metavar="NAME",
        ),
    ] = None,
    n: Annotated[
        int, typer.Option("-n", "--n", parser=at_least(100), help="Number of rows that each model draws.", metavar="N")
    ] = 10_000,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    steps: Annotated[
        int | None, typer.Option(parser=at_least(1), help="Optimiser steps of the diffusion models.", metavar="N")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A value of the configuration, for all models that have this setting, e.g. data.points=1000.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder that keeps the runs and the scores; the same command goes on there. Default: nothing is kept.",
            metavar="DIR",
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
    with stop_on_signals(console, after="the current step or fit") as should_stop, console.activity() as announce:
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
    console.result(record, lambda: [models_table(record)])
