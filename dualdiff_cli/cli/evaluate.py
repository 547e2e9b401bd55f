"""``dualdiff evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from ..present.evaluation import evaluation_tables
from ..present.terminal import Console
from .counts import at_least
from .help import DRAWING, FILES, SCORES, examples
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
    TrustOption,
    handled,
    source,
)

__all__ = ["evaluate"]


@handled
@examples(
    "dualdiff evaluate",
    "dualdiff evaluate runs/moons-dual-expert-1 --exact",
    "dualdiff evaluate --target species",
    "dualdiff evaluate --samples generated.csv --against real.csv",
)
def evaluate(
    run: RunArgument = None,
    samples: Annotated[
        Path | None,
        typer.Option(
            help="File of rows to score, instead of rows that the model draws.",
            metavar="FILE",
            rich_help_panel=FILES,
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="File of true rows to score against, instead of the run's held-out rows.",
            metavar="FILE",
            rich_help_panel=FILES,
        ),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--n",
            parser=at_least(100),
            help="Number of rows that the model draws; default: 10,000.",
            metavar="N",
            rich_help_panel=DRAWING,
        ),
    ] = None,
    exported: FromOption = None,
    trust: TrustOption = False,
    sampler: SamplerOption = None,
    sample_steps: SampleStepsOption = None,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="Also score the log-density that the model gives the held-out rows.",
            rich_help_panel=SCORES,
        ),
    ] = False,
    diagnose: Annotated[
        bool,
        typer.Option(
            "--diagnose",
            help="Also split the divergences into the parts of the estimator, of the schedule with the sampler, and of "
            "the network; needs a diffusion model of a named density.",
            rich_help_panel=SCORES,
        ),
    ] = False,
    target: Annotated[
        str | None,
        typer.Option(
            help="Also score how well trees that have learnt from generated rows predict this column of real rows.",
            metavar="COLUMN",
            rich_help_panel=SCORES,
        ),
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Score the rows that a model draws against rows that it has not learnt.

    Each score stands beside its floor, which is the score of perfect samples. With --samples and --against and without
    a run, the rows of one file are scored against the rows of the other.
    """
    if exported is not None and (samples is not None or exact or diagnose):
        raise InputError(
            "--from scores the rows that the exported file draws, and nothing else.",
            "Leave --samples, --exact and --diagnose out.",
        )
    if samples is not None and (n or sampler or sample_steps or precision != "float32"):
        raise InputError(
            "-n, --sampler, --sample-steps and --precision apply only when the model draws the rows.",
            "Leave these options out, or leave --samples out.",
        )
    from ..jobs.evaluate import GENERATED
    from ..jobs.evaluate import evaluate as job
    from ..models import DrawingOptions

    console = Console(as_json=as_json, quiet=quiet)
    two_files = run is None and samples is not None and against is not None and not trust
    with console.activity() as announce:
        record = job(
            None if two_files else source(run, exported, device=device, trust=trust),
            samples=samples,
            against=against,
            n=n or GENERATED,
            options=DrawingOptions(sampler=sampler, steps=sample_steps, precision=precision),
            exact=exact,
            target=target,
            diagnosis=diagnose,
            seed=seed,
            device=device,
            announce=announce,
            on_note=console.note,
        )
    title = f"{samples or exported or record['run']} against {against or 'held-out ' + record['dataset']}"
    console.result(record, lambda: evaluation_tables(record, title=title))
