"""Draw rows from a model into a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from ..compute.device import peak_memory_bytes
from ..data import require_space, with_known_columns, write_chunks
from ..errors import InputError
from ..models import DrawingOptions, Model
from ..store.run import Run
from .inputs import opened
from .moving import MOVES
from .selecting import Selection, equalities, most_candidates

__all__ = ["sample"]

CANDIDATES_AT_ONCE = 2_048
"""The number of rows that are drawn before a condition is tested again."""


def sample(
    source: Run | Model | str | Path,
    *,
    n: int,
    output: str | Path | None = None,
    seed: int = 0,
    options: DrawingOptions = DrawingOptions(),
    where: str | None = None,
    device: str = "auto",
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Draw n rows and stream them to a file, in memory that does not grow with n.

    Args:
        source: a finished run or its directory, or a model such as an exported file.
        n: number of rows.
        output: a file whose suffix says the format, or ``-`` for CSV on standard output. None names a file in the
            run's folder, or for a model without a run in the working directory.
        seed: the rows depend on the seed and on nothing else of the request; those that are moved on within a rare
            condition depend on n, too.
        options: how the rows are drawn, where the model leaves a choice, and the cells that are given.
        where: a condition that every row meets, as SQL takes it after WHERE. Columns that the condition sets equal to a
            value are given, where the model takes given cells; for the rest rows are drawn until enough meet it, or,
            where it is too rare for that, drawn rows are moved on within it.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``, where a run's model is loaded.
        on_progress: told how many rows have been written.

    Returns:
        The record of the ``sample`` command's contract.

    Raises:
        InputError: there is no run, the run is not finished, an option does not apply, the output cannot be written, or
            a row is not finite or far outside the range of the training rows at every attempt.
        DeviceError: the device is not there.

    Examples:
        >>> import dualdiff_cli as dualdiff
        >>> small = ["model.components=4", "data.points=500", "data.held_out_points=500"]
        >>> config = dualdiff.resolve(dataset="moons", model="mixture", settings=small)
        >>> run = dualdiff.train(config)["run"]
        >>> dualdiff.sample(run, n=1000, output="moons.parquet")["columns"]
        ['x', 'y']

    """
    if n < 1:
        raise InputError(f"{n} rows cannot be drawn.", "Ask for at least one row.")
    run, model = opened(source, device)
    options = replace(options, given=with_known_columns(options.given, model.encoding.names))
    started = time.perf_counter()
    selection = None if where is None else Selection(where)
    if where is not None and model.takes_given:
        equal = {**equalities(where), **options.given}
        can_be_given = partial(model.encoding.can_be_given, beside=equal)
        options = replace(
            options, given={name: value for name, value in equal.items() if name in options.given or can_be_given(name)}
        )
    if selection is None:
        drawing = model.draw(n, seed=seed, options=options)
        chunks = drawing.chunks
    else:
        options = replace(options, frame=CANDIDATES_AT_ONCE, least=n)
        drawing = model.draw(most_candidates(n), seed=seed, options=options)
        chunks = selection.rows(drawing.chunks, n, from_noise=drawing.from_noise, seed=seed)
    how = [drawing.facts[key] for key in ("sampler", "sample_steps") if key in drawing.facts]
    name = "-".join(map(str, [*(how or [model.config.model.name]), f"n{n}", f"seed{seed}.csv"]))
    target = str(output or (name if run is None else run.output_path("samples", name)))
    if target != "-":
        require_space(target, rows=n, columns=len(model.encoding.names))
    write_chunks(target, _reported(chunks, on_progress), rows=n)
    return {
        "run": None if run is None else str(run),
        "n": n,
        "columns": model.encoding.names,
        "sampler": None,
        "sample_steps": None,
        "network_evaluations": None,
        "redrawn": 0,
        **drawing.facts,
        **_conditions(options, selection),
        "seed": seed,
        "seconds": time.perf_counter() - started,
        "peak_memory_bytes": peak_memory_bytes(),
        "output": target,
    }


def _reported(chunks: Iterator[pl.DataFrame], on_progress: Callable[[int], None]) -> Iterator[pl.DataFrame]:
    done = 0
    for chunk in chunks:
        yield chunk
        done += chunk.height
        on_progress(done)


def _conditions(options: DrawingOptions, selection: Selection | None) -> dict[str, Any]:
    """Say which cells were given, and how many of the drawn rows met the condition."""
    facts: dict[str, Any] = {"given": dict(options.given)} if options.given else {}
    if selection is not None:
        rate = selection.accepted / max(selection.candidates, 1)
        facts |= {"where": selection.predicate, "candidates": selection.candidates, "acceptance_rate": rate}
        if (chains := selection.chains) is not None:
            facts["moved_rows"] = {
                "independent_rows": chains.independent,
                "moves": MOVES,
                "accepted_moves": chains.accepted / max(chains.proposed, 1),
            }
    return facts
