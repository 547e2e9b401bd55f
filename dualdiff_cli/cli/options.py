"""Options that several commands share, and how an error becomes a message and an exit code."""

from __future__ import annotations

import functools
import inspect
import os
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, ParamSpec

import typer

from ..config.registry import SAMPLERS
from ..errors import DualdiffError, InputError, Interrupted
from ..present.terminal import Console
from . import signals
from .completion import complete_runs, complete_samplers
from .counts import at_least
from .help import DRAWING, FILES, MACHINE, OUTPUT

if TYPE_CHECKING:
    from ..exporting.runtime import ExportedModel
    from ..store.run import Run

__all__ = [
    "DebugOption",
    "DeviceOption",
    "ExactDensityOption",
    "FromOption",
    "GivenOption",
    "JsonOption",
    "PrecisionOption",
    "QuietOption",
    "RunArgument",
    "SampleStepsOption",
    "SamplerOption",
    "SeedOption",
    "TrustOption",
    "cells",
    "console_for",
    "handled",
    "names",
    "source",
    "unwritable",
]

DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        help="Device to compute on: auto, cpu, cuda or cuda:N; auto takes a GPU if there is one.",
        metavar="DEVICE",
        rich_help_panel=MACHINE,
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on standard output, and nothing else.", rich_help_panel=OUTPUT),
]
QuietOption = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Show no progress, no warnings and no tables.", rich_help_panel=OUTPUT),
]
DebugOption = Annotated[
    bool, typer.Option("--debug", help="Show the traceback if the command fails.", rich_help_panel=OUTPUT)
]
SeedOption = Annotated[
    int,
    typer.Option(
        "--seed",
        parser=at_least(0),
        help="Seed of all random numbers that the command draws.",
        metavar="N",
        rich_help_panel=DRAWING,
    ),
]
ExactDensityOption = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="A density whose exact denoiser takes the place of a run; see `dualdiff datasets`.",
        metavar="NAME",
        rich_help_panel=DRAWING,
    ),
]
SamplerOption = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        help=f"Sampler: {', '.join(SAMPLERS)}; default: the one that the run was configured with. "
        "Other names of the field, such as ddpm and ode, are understood.",
        metavar="NAME",
        autocompletion=complete_samplers,
        rich_help_panel=DRAWING,
    ),
]
SampleStepsOption = Annotated[
    int | None,
    typer.Option(
        "--sample-steps",
        parser=at_least(1),
        help="Number of steps of the sampler; default: as in the run's configuration.",
        metavar="N",
        rich_help_panel=DRAWING,
    ),
]
PrecisionOption = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option(
        "--precision",
        help="Precision of the network's matmuls; auto takes bfloat16 where the processor is fast at it.",
        rich_help_panel=MACHINE,
    ),
]
GivenOption = Annotated[
    list[str] | None,
    typer.Option(
        "--given",
        help="A cell that every row is to have, such as --given detector=B; may be given several times.",
        metavar="COLUMN=VALUE",
        rich_help_panel=DRAWING,
    ),
]
FromOption = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="Use a file that `dualdiff export` wrote, in place of a run.",
        metavar="FILE",
        rich_help_panel=FILES,
    ),
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Load a TorchScript or a pt2 file with --from. Such a file can hold any program, which then runs with "
        "your rights. An ONNX file needs no trust.",
        rich_help_panel=FILES,
    ),
]
RunArgument = Annotated[
    Path | None,
    typer.Argument(
        help="Directory of a run; default: the newest run under runs/.",
        metavar="RUN",
        show_default=False,
        autocompletion=complete_runs,
    ),
]

NO_MEMORY = ("There is not enough memory for this.", "Ask for fewer rows or a smaller model, or use another machine.")
WORDS_OF_NO_MEMORY = ("can't allocate memory", "out of memory")
"""How torch says that there is no memory left, on the CPU and on a GPU; it is not always in the same case."""

P = ParamSpec("P")


def source(run: Path | None, exported: Path | None, *, device: str, trust: bool = False) -> Run | ExportedModel:
    """Find what ``sample`` and ``evaluate`` draw from: a run, the newest if none is named, or an exported file.

    Raises:
        InputError: both are named, or what is named does not exist, or no file is named that could be trusted.

    """
    from ..store.run import Run

    if exported is None:
        if trust:
            raise InputError(
                "--trust is about the file that --from names, and --from is not given.",
                "Name the file with --from, or leave --trust out.",
            )
        return Run.open(run)
    if run is not None:
        raise InputError(f"The run {run} and the file {exported} were both named.", "Leave one of them out.")
    from ..exporting.runtime import ExportedModel

    return ExportedModel.open(exported, device=device, trust=trust)


def console_for(output: str | Path | None, *, as_json: bool, quiet: bool) -> Console:
    """Make the console of a command that writes rows into a file, or with ``-`` to standard output.

    Raises:
        InputError: the record would stand among the rows.

    """
    rows = str(output) == "-"
    if rows and as_json:
        raise InputError("--json and --output - both write to standard output.", "Give --output a file.")
    return Console(as_json=as_json, quiet=quiet, rows=rows)


def handled(command: Callable[P, None]) -> Callable[P, None]:
    """Make a command that prints its errors and warnings in the project's form.

    An error that the user can mend becomes two sentences, the problem and the remedy, and an exit code. A warning
    becomes one line. Any other exception is a fault of the program and passes through. The help of the command is its
    docstring with each paragraph in one line, because Typer keeps the lines of a paragraph apart.
    """

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        console = Console(quiet=bool(kwargs.get("quiet")))
        debug = bool(kwargs.get("debug"))
        signals.begin()
        try:
            with warnings.catch_warnings():
                warnings.showwarning = lambda message, *_, **__: console.warn(str(message))
                command(*args, **kwargs)
        except BrokenPipeError:  # the program that reads standard output, such as `head`, has closed the pipe
            os._exit(0)
        except Exception as error:
            _fail(console, _explained(error), debug=debug)
        except KeyboardInterrupt:
            _fail(console, Interrupted(*signals.INTERRUPTED), debug=debug)

    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    wrapper.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return wrapper


def _explained(error: Exception) -> DualdiffError:
    """Give what the user is told about an exception.

    Raises:
        Exception: the same exception, if it is a fault of the program.

    """
    if _hides_a_stop(error) and not isinstance(error, Interrupted):
        return Interrupted(*signals.INTERRUPTED)
    if isinstance(error, DualdiffError):
        return error
    if isinstance(error, OSError):  # for example, a folder without write permission, or a full disk
        return unwritable(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error).lower() for words in WORDS_OF_NO_MEMORY)
    ):
        return InputError(*NO_MEMORY)
    raise error


def _hides_a_stop(error: BaseException) -> bool:
    """Say whether a library, such as NumPy, has answered a request to stop with an exception of its own."""
    chain: list[BaseException] = []
    before: BaseException | None = error
    while before is not None and before not in chain:  # an error that is raised again may be its own cause
        chain.append(before)
        before = before.__cause__ or before.__context__
    return any(isinstance(each, KeyboardInterrupt) for each in chain)


def unwritable(error: OSError) -> InputError:
    """Give the error that names the place where the system failed to read or write."""
    place = f"{error.filename}: " if error.filename else ""
    return InputError(
        f"{place}{error.strerror or error}.",
        "Name another place, or make this place readable and writable, with room on its disk.",
    )


def _fail(console: Console, error: DualdiffError, *, debug: bool) -> None:
    console.error(error, trace=traceback.format_exc() if debug else "")
    raise typer.Exit(error.exit_code) from None


def names(text: str | None) -> tuple[str, ...] | None:
    """Split names at commas: ``a, b`` becomes ("a", "b"). None stays None, and an empty text becomes None."""
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text else None


def cells(texts: list[str] | None) -> dict[str, str]:
    """Take the texts COLUMN=VALUE of ``--given`` apart.

    Raises:
        InputError: there is no equals sign, or nothing before it, or a column is given twice.

    """
    pairs: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.rpartition("=")  # `with_known_columns` knows where the name of the column ends
        if not equals or not name.strip():
            raise InputError(
                f"--given {text} is not of the form COLUMN=VALUE.", "Write, for example, --given detector=B."
            )
        if (column := name.strip()) in pairs:
            raise InputError(
                f"--given names the column '{column}' twice, with {pairs[column]} and with {value}.",
                "Give one value; for a choice of several, use --where, as in --where \"detector IN ('A', 'B')\".",
            )
        pairs[column] = value
    return pairs
