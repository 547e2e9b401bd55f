"""Fill the gaps of a table with a run's model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from .. import seeding
from ..compute.device import choose_device
from ..data import read_table, write_chunks
from ..errors import InputError
from ..models import Model, load_model
from ..store.run import Run
from .inputs import with_types

__all__ = ["impute"]

ROWS_AT_ONCE = 100_000
"""The number of rows whose gaps are filled together."""


def impute(
    source: Run | Model | str | Path,
    table: str | Path | pl.DataFrame,
    *,
    output: str | Path | None = None,
    draws: int = 1,
    seed: int = 0,
    device: str = "auto",
) -> dict[str, Any]:
    """Draw every missing cell from its distribution given the other cells of its row; no other cell changes.

    Args:
        source: a finished run or its directory, or a model.
        table: a file, or a frame, with some or all of the model's columns; other columns are written as they are. NaN
            in a frame is a gap, too.
        output: the file that is written; None writes none, and the record then has the rows as "frame".
        draws: how many times the gaps are filled, independently. With more than one, the rows of all draws stand below
            each other, after a column ``draw`` that counts from 1.
        seed: of the drawn cells.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``, where a run's model is loaded.

    Returns:
        The record of the ``impute`` command's contract.

    Raises:
        InputError: there is no run, the run is not finished, the model cannot fill gaps, the table has no column of the
            model or none with a gap, or the output cannot be written.
        DeviceError: the device is not there.

    """
    if isinstance(source, str | Path):
        source = Run.open(source)
    model = load_model(source, device=choose_device(device)) if isinstance(source, Run) else source
    rows = table if isinstance(table, pl.DataFrame) else read_table(table, min_rows=1, whole=True).rows
    known = [name for name in model.encoding.names if name in rows.columns]
    if not known:
        raise InputError(
            f"The table has none of the model's columns, which are {', '.join(model.encoding.names)}.",
            "Give a table with columns of these names.",
        )
    rows = with_types(model, rows, known)
    # A column that was empty in the training stays empty.
    gaps = sum(rows[name].null_count() for name in known if model.encoding.can_hold_values(name))
    if draws < 1:
        raise InputError(f"{draws} draws are too few.", "Give 1 or more.")
    if draws > 1 and "draw" in rows.columns:
        raise InputError(
            "The table has a column 'draw' already, which is where the number of the draw would stand.",
            "Rename that column of the table, or ask for one draw.",
        )

    def filled() -> Iterator[pl.DataFrame]:
        for draw in range(1, draws + 1):
            for k, part in enumerate(rows.iter_slices(ROWS_AT_ONCE)):
                done = model.fill(part, seed=seeding.integer(seed, f"draw {draw}, part {k}")) if gaps else part
                number = pl.Series("draw", [draw], dtype=pl.Int64).new_from_index(0, done.height)
                yield done if draws == 1 else done.insert_column(0, number)

    record = {
        "run": str(source) if isinstance(source, Run) else None,
        "rows": rows.height,
        "cells_filled": gaps,
        "draws": draws,
        "seed": seed,
        "output": None if output is None else str(output),
    }
    if output is None:
        return record | {"frame": pl.concat(list(filled()))}
    write_chunks(output, filled(), rows=rows.height * draws)
    return record
