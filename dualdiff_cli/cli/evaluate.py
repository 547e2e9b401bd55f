"""``dualdiff evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from ..present.terminal import Console, evaluation_tables
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

__all__ = ["evaluate"]


@handled
def evaluate(
    run: RunArgument = None,
    samples: Annotated[
        Path | None, typer.Option(help="Score these points in place of fresh ones.", metavar="FILE")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Score against these points in place of the held-out ones.", metavar="FILE")
    ] = None,
    n: Annotated[int, typer.Option("-n", "--n", min=100, help="How many points to draw.", metavar="N")] = 10_000,
    exported: FromOption = None,
    sampler: SamplerOption = None,
    sample_steps: SampleStepsOption = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Also the model's likelihood of held-out points, by the probability flow.")
    ] = False,
    diagnose: Annotated[
        bool, typer.Option("--diagnose", help="Also what schedule and sampler cost, and what the network adds.")
    ] = False,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Score a run's samples against points it never saw; every score beside the floor that perfect samples get.

    With both --samples and --against, and no run, one file is scored against the other.
    """
    from ..exporting.runtime import ExportedModel
    from ..jobs import evaluate as job
    from ..jobs import evaluate_exported, evaluate_files
    from ..store.run import Run

    if exported is not None and (run is not None or samples is not None or exact or diagnose):
        raise InputError(
            "--from scores an exported file's own samples, and nothing else.",
            "Leave the run, --samples, --exact and --diagnose out.",
        )
    if (exported is not None or samples is not None) and precision != "float32":
        raise InputError("--precision is of points that a run draws.", "Leave it out.")
    console = Console(as_json=as_json, quiet=quiet)
    with console.activity() as announce:
        about_the_model = exact or diagnose
        if exported is not None:
            record = evaluate_exported(
                ExportedModel.open(exported, device=device),
                against=against,
                n=n,
                sampler=sampler,
                sample_steps=sample_steps,
                seed=seed,
                announce=announce,
            )
        elif run is None and samples is not None and against is not None and not about_the_model:
            record = evaluate_files(samples, against, seed=seed, announce=announce)
        else:
            record = job(
                Run.open(run),
                samples=samples,
                against=against,
                n=n,
                sampler=sampler,
                sample_steps=sample_steps,
                exact=exact,
                diagnosis=diagnose,
                seed=seed,
                device=device,
                precision=precision,
                announce=announce,
            )
    title = f"{record['run'] or exported or samples} against {against or 'held-out ' + record['dataset']}"
    console.result(record, lambda: evaluation_tables(record, title=title))
