"""``dualdiff train``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
        Path | None, typer.Argument(help="With --resume: the run; the newest under runs/ if left out.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="A name or a file; see `dualdiff datasets`.", metavar="NAME|FILE")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The network: dual-expert unless said otherwise.", metavar="NAME")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="How it is trained and sampled.", metavar="NAME")] = None,
    experts: Annotated[
        int | None, typer.Option(min=1, help="Number of experts; of the control for baseline-matched.", metavar="N")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.", metavar="N")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of data, weights and training.", metavar="N")] = None,
    device: DeviceOption = "auto",
    compile_: Annotated[
        str | None, typer.Option("--compile", help="Compile the training step: auto, on or off.", metavar="WHEN")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of the matrix products: auto, float32 or bfloat16.", metavar="NAME")
    ] = None,
    columns: Annotated[str | None, typer.Option(help="Columns of a file to learn.", metavar="A,B,…")] = None,
    missing: Annotated[
        str | None, typer.Option(help="What to do with rows that lack a value: error or drop.", metavar="WHAT")
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Where the run goes; runs/<dataset>-<model>-<k> if left out.", metavar="DIR")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Finish a run that was stopped.")] = False,
    reflow: Annotated[
        Path | None,
        typer.Option(help="A finished run, whose paths are learnt again so that few steps follow them.", metavar="RUN"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file with any part of a configuration.", metavar="FILE.toml")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any value of the configuration, e.g. training.batch=512.", metavar="KEY=VALUE"),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train a model of a data set.

    Ctrl-C saves the state; --resume finishes the run with the weights that it would have had anyway.
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
        raise InputError("--resume keeps the run's own configuration.", "Leave other options out, or start a new run.")
    if run is not None and not resume:
        raise InputError(f"A run, {run}, was named but not what to do with it.", "Add --resume to finish it.")

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


@contextmanager
def _shown(console: Console) -> Iterator[Callbacks]:
    """Show progress, and let signals stop the training, while the block runs."""
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
    """Nest the values that were given under their configuration keys."""
    tree: dict[str, Any] = {}
    for (*sections, key), value in values.items():
        if value is not None:
            place = tree
            for section in sections:
                place = place.setdefault(section, {})
            place[key] = value
    return tree
