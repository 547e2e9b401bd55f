"""The ``dualdiff`` application and its commands.

Neither this file nor the top of a command's file imports torch, so that ``--help`` is quick.
"""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from .animate import animate
from .bench import bench, bench_app
from .columns import columns
from .compare import compare
from .datasets import datasets
from .evaluate import evaluate
from .explore import explore
from .export import export
from .help import Group, add_command
from .impute import impute
from .info import info
from .plot import plot
from .report import report
from .reproduce import reproduce
from .sample import sample
from .score import score
from .train import train

__all__ = ["app"]

app = typer.Typer(
    name="dualdiff",
    cls=Group,
    help="Small diffusion models of low-dimensional data: train, sample, score, export, benchmark.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\n\n".join(
        ["A start:", "dualdiff train FILE.csv", "dualdiff sample -n 1000 -o rows.csv", "dualdiff report"]
    ),
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dualdiff {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    del version


for command in (
    train,
    columns,
    sample,
    impute,
    score,
    evaluate,
    compare,
    report,
    explore,
    animate,
    export,
    plot,
    reproduce,
    datasets,
    info,
):
    add_command(app, command)
app.add_typer(bench_app, name="bench", epilog=getattr(bench, "epilog", None))
