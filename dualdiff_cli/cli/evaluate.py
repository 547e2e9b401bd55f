"""``dualdiff evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from ..present.evaluation import evaluation_tables
from ..present.terminal import Console
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
    source,
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
    if exported is not None and (samples is not None or exact or diagnose):
        raise InputError(
            "--from scores an exported file's own samples, and nothing else.",
            "Leave --samples, --exact and --diagnose out.",
        )
    if samples is not None and (sampler or sample_steps or precision != "float32"):
        raise InputError(
            "--sampler, --sample-steps and --precision apply only when a run draws the samples.", "Leave them out."
        )
    from ..jobs.evaluate import evaluate as job
    from ..models import DrawingOptions

    console = Console(as_json=as_json, quiet=quiet)
    two_files = run is None and samples is not None and against is not None and not exact and not diagnose
    with console.activity() as announce:
        record = job(
            None if two_files else source(run, exported, device=device),
            samples=samples,
            against=against,
            n=n,
            options=DrawingOptions(sampler=sampler, steps=sample_steps, precision=precision),
            exact=exact,
            diagnosis=diagnose,
            seed=seed,
            device=device,
            announce=announce,
        )
    title = f"{record['run'] or exported or samples} against {against or 'held-out ' + record['dataset']}"
    console.result(record, lambda: evaluation_tables(record, title=title))
