"""``dualdiff train``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config.layers import DEFAULT_MODEL, DEFAULT_RECIPE, FEW_ROWS, FEW_ROWS_RECIPE, MODELS, RECIPES
from ..errors import InputError
from ..present.tables import facts_table
from ..present.terminal import Console
from .options import DebugOption, DeviceOption, JsonOption, QuietOption, handled, names
from .signals import stop_on_signals

if TYPE_CHECKING:
    from ..jobs.train import Callbacks
    from ..store.run import Run
    from ..training.loop import Progress

__all__ = ["train"]


@handled
def train(
    run: Annotated[
        Path | None,
        typer.Argument(help="Directory of the run that --resume finishes; default: the newest run under runs/."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Data set, by name or as a file; `dualdiff datasets` lists both.", metavar="NAME|FILE"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help=f"Model: {', '.join(MODELS)}; default: {DEFAULT_MODEL}.", metavar="NAME"),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help=f"How a diffusion model is trained and sampled: {', '.join(RECIPES)}; default: {FEW_ROWS_RECIPE} for "
            f"fewer than {FEW_ROWS:,} rows, and otherwise {DEFAULT_RECIPE}.",
            metavar="NAME",
        ),
    ] = None,
    experts: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of experts; for baseline-matched, the number whose parameter count it matches.",
            metavar="N",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Number of optimiser steps.", metavar="N")] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of the data, the initial weights and the training.", metavar="N"),
    ] = None,
    device: DeviceOption = "auto",
    compile_: Annotated[
        str | None,
        typer.Option(
            "--compile",
            help="Whether torch compiles the training step: auto, on or off; auto compiles it for long trainings.",
            metavar="WHEN",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Precision of the network's matmuls: auto, float32 or bfloat16; auto takes bfloat16 if it is faster.",
            metavar="NAME",
        ),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Columns of the file to learn; default: all columns.", metavar="A,B,…")
    ] = None,
    missing: Annotated[
        str | None,
        typer.Option(
            help="What to do if rows of the file lack a value: error refuses the file, drop leaves these rows out.",
            metavar="WHAT",
        ),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="Directory of the new run; default: runs/<dataset>-<model>-<k>.", metavar="DIR"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Finish a run that was stopped, instead of starting a new one.")
    ] = False,
    reflow: Annotated[
        Path | None,
        typer.Option(
            help="Finished run whose noise and samples the new run learns to connect by straight lines, "
            "so that the new run needs few sampling steps.",
            metavar="RUN",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with values of the configuration, such as a run's config.toml.", metavar="FILE.toml"
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a value of the configuration, e.g. training.batch=512; may be given several times.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train a model on a data set.

    Ctrl-C saves the state of the training. On the CPU, --resume then ends in the same weights, bit for bit, as a
    training that was not stopped.
    """
    options = _nested(
        {
            ("training", "steps"): steps,
            ("training", "compile"): compile_,
            ("training", "precision"): precision,
            ("seed",): seed,
            ("data", "columns"): names(columns),
            ("data", "missing"): missing,
        }
    )
    if resume and any((dataset, model, recipe, experts, config, reflow, setting, run_dir, options)):
        raise InputError(
            "--resume takes the configuration from the run itself.", "Leave the other options out, or start a new run."
        )
    if run is not None and not resume:
        raise InputError(
            f"The command names the run {run} but not what to do with it.", "Add --resume to finish the run."
        )

    from ..config.recipes import Request
    from ..jobs import train as jobs
    from ..store.run import Run

    console = Console(as_json=as_json, quiet=quiet)
    with _shown(console) as callbacks:
        if resume:
            record = jobs.resume(Run.open(run), device=device, callbacks=callbacks)
        else:
            asked = Request(
                dataset=dataset,
                model=model,
                recipe=recipe,
                file=config,
                experts=experts,
                teacher=reflow,
                options=options,
                settings=setting,
            )
            record = jobs.train(asked, path=run_dir, device=device, callbacks=callbacks)
    console.result(record, lambda: [facts_table(record)])
    if record.get("simpler"):
        console.note(record["simpler"])


@contextmanager
def _shown(console: Console) -> Iterator[Callbacks]:
    """Show the progress of a training, and let Ctrl-C and termination signals stop it, while the block runs."""
    from ..jobs.train import Callbacks

    with console.progress("training", unit="steps") as bar, stop_on_signals(console) as should_stop:

        def on_start(run: Run, steps: int, how: str) -> None:
            console.note(f"Training into {run}")
            console.note(how)
            if steps:
                bar.start(steps)

        def on_progress(progress: Progress) -> None:
            bar.report(progress.step, f"loss {progress.records[-1].loss:.4f}" if progress.records else "")

        yield Callbacks(on_start=on_start, on_progress=on_progress, should_stop=should_stop)


def _nested(values: dict[tuple[str, ...], Any]) -> dict[str, Any]:
    """Nest the values of the options that were given, as the configuration is nested."""
    tree: dict[str, Any] = {}
    for (*sections, key), value in values.items():
        if value is not None:
            place = tree
            for section in sections:
                place = place.setdefault(section, {})
            place[key] = value
    return tree
