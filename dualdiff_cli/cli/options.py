"""Options that several commands share, and what happens when a command fails."""

from __future__ import annotations

import functools
import os
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, ParamSpec

import typer

from ..errors import DualdiffError, InputError, Interrupted
from ..present.terminal import Console

if TYPE_CHECKING:
    from ..exporting.runtime import ExportedModel
    from ..store.run import Run

__all__ = [
    "DebugOption",
    "DeviceOption",
    "FromOption",
    "JsonOption",
    "PrecisionOption",
    "QuietOption",
    "RunArgument",
    "SampleStepsOption",
    "SamplerOption",
    "SeedOption",
    "handled",
    "names",
    "source",
]

DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.", metavar="DEVICE")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no warnings, no tables.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of everything random here.", metavar="N")
]
SamplerOption = Annotated[
    str | None, typer.Option("--sampler", help="The method; the run's own if left out.", metavar="NAME")
]
SampleStepsOption = Annotated[
    int | None, typer.Option("--sample-steps", min=1, help="The method's number of steps.", metavar="N")
]
PrecisionOption = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option("--precision", help="Of the network's products; auto takes what is clearly faster."),
]
FromOption = Annotated[
    Path | None, typer.Option("--from", help="Use this file that `dualdiff export` wrote, and no run.", metavar="FILE")
]
RunArgument = Annotated[
    Path | None, typer.Argument(help="A run's directory; the newest under runs/ if left out.", show_default=False)
]

P = ParamSpec("P")


def source(run: Path | None, exported: Path | None, *, device: str) -> Run | ExportedModel:
    """Find what ``sample`` and ``evaluate`` draw from: a run, the newest if none is named, or an exported file.

    Raises:
        InputError: both are named, or what is named does not exist.

    """
    from ..store.run import Run

    if exported is None:
        return Run.open(run)
    if run is not None:
        raise InputError(f"The run {run} and the file {exported} were both named.", "Leave one of them out.")
    from ..exporting.runtime import ExportedModel

    return ExportedModel.open(exported, device=device)


def handled(command: Callable[P, None]) -> Callable[P, None]:
    """Turn an error that the user can mend into two sentences and its exit code, and a warning into one line."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        console = Console(quiet=bool(kwargs.get("quiet")))
        debug = bool(kwargs.get("debug"))
        try:
            with warnings.catch_warnings():
                warnings.showwarning = lambda message, *_, **__: console.warn(str(message))
                command(*args, **kwargs)
        except BrokenPipeError:  # the reader of our output, `head` perhaps, has had enough
            os._exit(0)
        except DualdiffError as error:
            _fail(console, error, debug=debug)
        except OSError as error:  # a folder that may not be written to, a full disk
            place = f"{error.filename}: " if error.filename else ""
            problem = f"{place}{error.strerror or error}."
            _fail(console, InputError(problem, "Name another place, or make this one fit."), debug=debug)
        except KeyboardInterrupt:
            _fail(console, Interrupted("Interrupted.", "Nothing that was finished before is lost."), debug=debug)

    return wrapper


def _fail(console: Console, error: DualdiffError, *, debug: bool) -> None:
    console.error(error, trace=traceback.format_exc() if debug else "")
    raise typer.Exit(error.exit_code) from None


def names(text: str | None) -> tuple[str, ...] | None:
    """``a,b`` → ("a", "b")."""
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text else None
