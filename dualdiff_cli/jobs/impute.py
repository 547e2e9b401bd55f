"""Fill the gaps of a table with a run's model."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from .. import seeding
from ..data import check_table, read_table, write_chunks
from ..data.encoding.base import shortened
from ..data.formats import suffix_of
from ..data.restoring import put_back
from ..errors import InputError
from ..models import Model
from ..store.run import Run
from .inputs import opened, with_types

__all__ = ["impute"]

ROWS_AT_ONCE = 100_000
"""The number of rows whose gaps are filled together."""
OF_FEW_TYPES = (".npy", ".xlsx")
"""The formats that have a place for few types only: they get the types of the model."""


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
        output: the file that is written, or ``-`` for CSV on standard output; None writes none, and the record then has
            the rows as "frame".
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
    run, model = opened(source, device)
    rows, original = _read(table, model.encoding.names)
    known = [name for name in model.encoding.names if name in rows.columns]
    if not known:
        raise InputError(
            f"The table has none of the model's columns, which are {', '.join(model.encoding.names)}.",
            "Give a table with columns of these names.",
        )
    rows = with_types(model, rows, known)
    original = rows if original is None else _writable(original, rows, output)
    # A column that was empty in the training stays empty.
    _warn_of_unknown_values(model, rows.select(known))
    fillable = [name for name in known if model.encoding.can_hold_values(name)]
    gaps = sum(rows[name].null_count() for name in fillable)
    if draws < 1:
        raise InputError(f"{draws} draws are too few.", "Give 1 or more.")
    if draws > 1 and "draw" in rows.columns:
        raise InputError(
            "The table has a column 'draw' already, which is where the number of the draw would stand.",
            "Rename that column of the table, or ask for one draw.",
        )

    def filled() -> Iterator[pl.DataFrame]:
        for draw in range(1, draws + 1):
            parts = zip(rows.iter_slices(ROWS_AT_ONCE), original.iter_slices(ROWS_AT_ONCE), strict=True)
            for k, (part, done) in enumerate(parts):
                if gaps:
                    drawn = model.fill(part, seed=seeding.integer(seed, f"draw {draw}, part {k}"))
                    done = done.with_columns(put_back(done[name], part[name], drawn[name]) for name in fillable)
                number = pl.Series("draw", [draw], dtype=pl.Int64).new_from_index(0, done.height)
                yield done if draws == 1 else done.insert_column(0, number)

    record = {
        "run": None if run is None else str(run),
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


def _read(table: str | Path | pl.DataFrame, names: Collection[str]) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Give the rows in the types that models know, and the same rows as they were; None where they had no types.

    Args:
        table: a file, or a frame.
        names: the columns of the model; the other columns of a frame stay as they are.

    Raises:
        InputError: the table is refused; the remedy names no option, because `impute` has none for files.

    """
    try:
        if not isinstance(table, pl.DataFrame):
            source = read_table(table, min_rows=1, whole=True)
            return source.rows, source.original
        # A text in a frame is a text, whatever it reads like.
        known = [column for column in table if column.name in names and column.dtype != pl.String]
        if not known or not table.height:
            return table, table
        tidy = check_table(pl.DataFrame(known), name="the table", min_rows=1, whole=True).rows
        return table.with_columns(tidy), table
    except InputError as error:
        raise error.without_options("Mend these values, or leave the column out of the table.") from error


def _warn_of_unknown_values(model: Model, rows: pl.DataFrame) -> None:
    """Say which columns have values that the model has not learnt, and what becomes of them."""
    for column in rows:
        category = model.encoding.category(column.name)
        unknown = column.clear() if category is None else category.unknown(column)
        if len(unknown):
            cells = "1 cell has" if len(unknown) == 1 else f"{len(unknown):,} cells have"
            warnings.warn(
                f"In the column '{column.name}' {cells} a value that the model has not learnt, such as "
                f"'{shortened(unknown[0])}'. Such a cell stays; where other cells of its row are filled, it counts as "
                "the mean of the learnt values.",
                stacklevel=3,
            )


def _writable(original: pl.DataFrame, rows: pl.DataFrame, output: str | Path | None) -> pl.DataFrame:
    """Give the original columns, but in the type of the model those for whose type the output has no place."""
    suffix = ".parquet" if output is None else suffix_of(Path(output))
    if suffix in OF_FEW_TYPES:
        return rows
    if suffix == ".parquet":
        return original

    def has_no_text(dtype: pl.DataType) -> bool:
        # The text of a time in a zone would not say the zone.
        return isinstance(dtype, pl.Duration | pl.Time) or (
            isinstance(dtype, pl.Datetime) and dtype.time_zone is not None
        )

    return original.with_columns(rows[name] for name, dtype in original.schema.items() if has_no_text(dtype))
