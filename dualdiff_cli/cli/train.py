"""``dualdiff train``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..config.layers import (
    DEFAULT_MODEL,
    DEFAULT_RECIPE,
    FEW_ROWS,
    FEW_ROWS_RECIPE,
    MODELS,
    MODELS_FOR_FEW_ROWS,
    RECIPES,
)
from ..errors import InputError
from ..present.terminal import Console
from ..present.training import report_progress, training_table
from .completion import complete_datasets, complete_models, complete_recipes, complete_runs
from .counts import at_least
from .help import DATA, FILES, MACHINE, MODEL, TRAINING, examples
from .options import DebugOption, DeviceOption, JsonOption, QuietOption, handled, names
from .signals import stop_on_signals

if TYPE_CHECKING:
    from ..jobs.train import Callbacks
    from ..store.run import Run

__all__ = ["train"]


@handled
@examples(
    "dualdiff train moons",
    "dualdiff train people.csv --columns age,income --steps 5000",
    "dualdiff train moons --model baseline --set training.batch=512",
    "dualdiff train --resume",
)
def train(
    what: Annotated[
        str | None,
        typer.Argument(
            help="Data set, by name or as a file; with --resume the directory of a run, by default the newest one "
            "under runs/.",
            metavar="NAME|FILE",
            show_default=False,
            autocompletion=lambda incomplete: complete_datasets(incomplete) + complete_runs(incomplete),
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="The same data set as an option; `dualdiff datasets` lists names and kinds of files.",
            metavar="NAME|FILE",
            autocompletion=complete_datasets,
            rich_help_panel=DATA,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help=f"Model: {', '.join(MODELS)}; default: {DEFAULT_MODEL}.",
            metavar="NAME",
            autocompletion=complete_models,
            rich_help_panel=MODEL,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help=f"How a diffusion model is trained and sampled: {', '.join(RECIPES)}; default: {FEW_ROWS_RECIPE} for "
            f"{' and '.join(MODELS_FOR_FEW_ROWS)} with fewer than {FEW_ROWS:,} training rows, and otherwise "
            f"{DEFAULT_RECIPE}.",
            metavar="NAME",
            autocompletion=complete_recipes,
            rich_help_panel=MODEL,
        ),
    ] = None,
    experts: Annotated[
        int | None,
        typer.Option(
            parser=at_least(1),
            help="Number of experts; for baseline-matched, the number whose parameter count it matches.",
            metavar="N",
            rich_help_panel=MODEL,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(parser=at_least(1), help="Number of optimiser steps.", metavar="N", rich_help_panel=TRAINING),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            parser=at_least(0),
            help="Seed of the data, the initial weights and the training.",
            metavar="N",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    device: DeviceOption = "auto",
    compile_: Annotated[
        str | None,
        typer.Option(
            "--compile",
            help="Whether torch compiles the training step: auto, on or off; auto compiles it for long trainings.",
            metavar="WHEN",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Precision of the network's matmuls: auto, float32 or bfloat16; auto takes bfloat16 where the "
            "processor is fast at it.",
            metavar="NAME",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(help="Columns of the file to learn; default: all columns.", metavar="A,B,…", rich_help_panel=DATA),
    ] = None,
    missing: Annotated[
        str | None,
        typer.Option(
            help="What to do if rows of the file lack a value: keep learns where the gaps are, drop leaves these rows "
            "out, error refuses the file; default: keep.",
            metavar="WHAT",
            rich_help_panel=DATA,
        ),
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with the kinds of columns; `dualdiff columns FILE -o SCHEMA.toml` writes one to edit.",
            metavar="FILE.toml",
            rich_help_panel=DATA,
        ),
    ] = None,
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            help='An equation that holds in all rows, such as "bmi = mass / height^2": the column bmi is computed and '
            "not learnt. May be repeated. Sums, products and exponentials are found unasked.",
            metavar="EQUATION",
            rich_help_panel=DATA,
        ),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            help="Directory of the new run; default: runs/<dataset>-<model>-<k>.",
            metavar="DIR",
            rich_help_panel=FILES,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Finish a run that was stopped, instead of starting a new one.",
            rich_help_panel=FILES,
        ),
    ] = False,
    reflow: Annotated[
        Path | None,
        typer.Option(
            help="Finished run whose noise and samples the new run learns to connect by straight lines, "
            "so that the new run needs few sampling steps.",
            metavar="RUN",
            autocompletion=complete_runs,
            rich_help_panel=TRAINING,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with values of the configuration, such as a run's config.toml.",
            metavar="FILE.toml",
            rich_help_panel=FILES,
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a value of the configuration, e.g. training.batch=512; may be given several times.",
            metavar="KEY=VALUE",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train a model on a data set.

    Ctrl-C saves the state of a diffusion model's training. On the CPU, --resume then ends in the same weights, bit for
    bit, as a training that was not stopped. With --resume, spline-flow and tabddpm begin again.
    """
    from ..config.nesting import nested
    from ..config.recipes import Request
    from ..store.run import Run

    asked = {
        "training.steps": steps,
        "training.compile": compile_,
        "training.precision": precision,
        "seed": seed,
        "data.columns": names(columns),
        "data.missing": missing,
        "data.kinds": _kinds(schema, constraint or []),
    }
    options = nested({key: value for key, value in asked.items() if value is not None})
    if what is not None and dataset is not None:
        raise InputError(
            f"{what} and --dataset {dataset} are both given.", "Name one data set, or add --resume to finish a run."
        )
    if resume and any((dataset, model, recipe, experts, config, reflow, setting, run_dir, options)):
        raise InputError(
            "--resume takes the configuration from the run itself.", "Leave the other options out, or start a new run."
        )
    if what is not None and not resume and Run(what).exists:
        raise InputError(f"{what} is a run and not a data set.", "Add --resume to finish the run.")

    from ..jobs import train as jobs

    console = Console(as_json=as_json, quiet=quiet)
    opened = Run.open(what) if resume else None
    with _shown(console, opened) as callbacks:
        if opened is not None:
            record = jobs.resume(opened, device=device, callbacks=callbacks)
        else:
            request = Request(
                dataset=what if dataset is None else dataset,
                model=model,
                recipe=recipe,
                file=config,
                experts=experts,
                teacher=reflow,
                options=options,
                settings=setting,
            )
            record = jobs.train(request, path=run_dir, device=device, callbacks=callbacks)
    console.result(record, lambda: [training_table(record)])
    if record.get("simpler"):
        console.note(record["simpler"])


@contextmanager
def _shown(console: Console, resumed: Run | None) -> Iterator[Callbacks]:
    """Show the progress of a training, and let Ctrl-C and termination signals stop it, while the block runs.

    Args:
        console: where the progress is shown.
        resumed: the run that goes on; None for a new run.

    """
    from ..jobs.train import Callbacks

    with console.progress("training", unit="steps") as bar, stop_on_signals() as requests:

        def on_start(run: Run, steps: int, how: str) -> None:
            if resumed is None:
                console.note(f"Training into {run}")
            elif resumed.is_trained:
                console.note(f"The run {run} is trained already: its scores and pictures are made again.")
            else:
                console.note(f"Going on with the training of {run}")
            console.note(how)
            if steps:
                bar.start(steps)

        yield Callbacks(
            on_note=console.note,
            on_start=on_start,
            on_progress=partial(report_progress, bar),
            should_stop=requests,
            shield=partial(requests.shield, console.note, "this step"),
        )


def _kinds(schema: Path | None, constraints: list[str]) -> dict[str, str] | None:
    """Read the kinds of columns from a schema file, and the formulas of columns from constraints.

    Raises:
        InputError: the file or a constraint is refused, or two constraints are solved for the same column.

    """
    if schema is None and not constraints:
        return None
    from ..config.formulas import read_constraint
    from ..data.schema_file import read_schema

    solved: dict[str, tuple[str, str]] = {}
    for constraint in constraints:
        name, formula = read_constraint(constraint)
        if name in solved:
            raise InputError(
                f"The constraints '{solved[name][0]}' and '{constraint}' are both solved for the column '{name}'.",
                "Write one of them with another column alone on its left side, or leave one out.",
            )
        solved[name] = constraint, str(formula)
    kinds = {} if schema is None else read_schema(schema)
    return kinds | {name: formula for name, (_, formula) in solved.items()}
