"""Fill the gaps of a table with a run's model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from .. import seeding
from ..data import check_table, read_cells, write_chunks
from ..data.encoding.base import ColumnEncoding, shortened
from ..data.encoding.skewed import FARTHEST
from ..data.formats import suffix_of
from ..data.raw import RawTable
from ..data.restoring import put_back
from ..data.texts import without_marks
from ..errors import InputError
from ..models import Model
from ..store.run import Run
from .inputs import opened, with_types

__all__ = ["impute"]

ROWS_AT_ONCE = 100_000
"""The number of rows whose gaps are filled together."""
OF_FEW_TYPES = (".npy", ".xlsx")
"""The formats that have a place for few types only: they get the types of the model."""
CSV = (".csv", ".csv.gz", "")
"""The formats called CSV, which some programs write with another separator than the comma; standard output, which is
called ``-``, has no suffix."""
OF_TEXTS = (*CSV, ".tsv", ".tsv.gz")
"""The formats in which every cell is a text."""
SAME = 1e-6
"""Features that differ by no more than this are those of the same number."""
FRAME = ".parquet"
"""The format that has the types of a frame."""


def impute(
    source: Run | Model | str | Path,
    table: str | Path | pl.DataFrame,
    *,
    output: str | Path | None = None,
    draws: int = 1,
    seed: int = 0,
    device: str = "auto",
    on_note: Callable[[str], None] = lambda note: None,
) -> dict[str, Any]:
    """Draw every missing cell from its distribution given the other cells of its row; no other cell changes.

    Args:
        source: a finished run or its directory, or a model.
        table: a file, or a frame, with some or all of the model's columns; other columns are written as they are. NaN
            in a frame is a gap, too.
        output: the file that is written, or ``-`` for CSV on standard output; None writes none, and the record then has
            the rows as "frame". Texts stay texts in a text file; a file of another format than the table, and the frame
            of a text file, get the types that the texts stand for.
        draws: how many times the gaps are filled, independently. With more than one, the rows of all draws stand below
            each other, after a column ``draw`` that counts from 1.
        seed: of the drawn cells.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``, where a run's model is loaded.
        on_note: told each sentence about the file that the user should know.

    Returns:
        The record of the ``impute`` command's contract.

    Raises:
        InputError: there is no run, the run is not finished, the model cannot fill gaps, the table is refused, has no
            rows or no column of the model, or the output cannot be written.
        DeviceError: the device is not there.

    """
    run, model = opened(source, device)
    read = _read(table, on_note)
    known = [name for name in model.encoding.names if name in read.raw.frame.columns]
    if not known:
        raise InputError(
            f"The table has none of the model's columns, which are {', '.join(model.encoding.names)}.",
            "Give a table with columns of these names.",
        )
    types = model.encoding.types
    # A text in a frame is a text, whatever it reads like, unless the model has learnt another type.
    texts = {name for name in known if read.raw.frame[name].dtype == types[name] == pl.String}
    parsed = [name for name in known if name not in texts or not isinstance(table, pl.DataFrame)]
    rows = with_types(model.encoding, read.parsed(read.raw.frame, parsed, learnt=types), known)
    rows = rows.with_columns(without_marks(rows[name]) for name in texts)  # the training reads them as gaps, too
    original = read.writable(rows, known, FRAME if output is None else suffix_of(Path(output)))
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
                    done = done.with_columns(
                        put_back(done[name], part[name], drawn[name], decimal_comma=read.raw.decimal_comma)
                        for name in fillable
                    )
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
    write_chunks(output, filled(), rows=rows.height * draws, separator=read.separator(suffix_of(Path(output))))
    return record


@dataclass(frozen=True, eq=False)
class _Table:
    """A table as it was read.

    Attributes:
        name: what the table is called in messages.
        suffix: of the file; `FRAME` for a frame.
        raw: the cells.
        on_note: see `impute`.

    """

    name: str
    suffix: str
    raw: RawTable
    on_note: Callable[[str], None]

    def parsed(
        self, rows: pl.DataFrame, names: Collection[str], *, learnt: Mapping[str, pl.DataType] = MappingProxyType({})
    ) -> pl.DataFrame:
        """Give rows in which these columns have the types that models know.

        Args:
            rows: n rows.
            names: of the columns.
            learnt: see `read_table`.

        Raises:
            InputError: a column is refused; the remedy names no option, because `impute` has none for files.

        """
        if not names:
            return rows
        commas = self.raw.decimal_comma
        try:
            table = check_table(
                rows.select(names), name=self.name, min_rows=1, whole=True, decimal_comma=commas, learnt=learnt
            )
        except InputError as error:
            raise error.without_options("Mend these values, or leave the column out of the table.") from error
        if not self.raw.typed:  # what has a type of its own keeps it
            for note in table.notes:
                self.on_note(note)
        return rows.with_columns(table.rows)

    def separator(self, suffix: str) -> str:
        """Give what separates the fields of CSV that is written: what does so in a table that is CSV, too."""
        return self.raw.separator if {suffix, self.suffix} <= set(CSV) else ","

    def writable(self, rows: pl.DataFrame, known: Collection[str], suffix: str) -> pl.DataFrame:
        """Give the rows, before their gaps are filled, as a file of a format can hold them.

        Args:
            rows: the rows, of which the known columns have the types of the model.
            known: the columns of the model.
            suffix: of the file that is written.

        """
        read = self.raw.frame
        if self.raw.typed and suffix == FRAME:
            return read
        if suffix in OF_TEXTS or (self.raw.typed and suffix not in OF_FEW_TYPES):
            without = [name for name, dtype in read.schema.items() if _has_no_text(dtype)]
            typed = self.parsed(rows, [name for name in without if name not in known])
            return read.with_columns(typed[name] for name in without)
        if suffix == self.suffix:
            return rows
        return self.parsed(rows, [name for name in read.columns if name not in known])


def _read(table: str | Path | pl.DataFrame, on_note: Callable[[str], None]) -> _Table:
    """Read the cells of a file, or take those of a frame.

    Raises:
        InputError: the file is refused, or the frame has no rows.

    """
    if not isinstance(table, pl.DataFrame):
        raw = read_cells(table)
        for note in raw.notes:
            on_note(note)
        return _Table(str(table), suffix_of(Path(table)), raw, on_note)
    if not table.height:
        raise InputError("The table has no rows.", "Give a table with at least one row.")
    return _Table("the table", FRAME, RawTable(table, (), typed=True), on_note)


def _has_no_text(dtype: pl.DataType) -> bool:
    """Say whether the text of a value would not say the value: that of a time in a zone would not say the zone."""
    return isinstance(dtype, pl.Duration | pl.Time) or (isinstance(dtype, pl.Datetime) and dtype.time_zone is not None)


def _warn_of_unknown_values(model: Model, rows: pl.DataFrame) -> None:
    """Say which columns have values that the model has not learnt or cannot draw, and what becomes of them."""
    encodings = dict(zip(model.encoding.names, model.encoding.columns, strict=True))
    for column in rows:
        category = model.encoding.category(column.name)
        unknown = _impossible(encodings[column.name], column) if category is None else category.unknown(column)
        if len(unknown):
            cells = "1 cell has" if len(unknown) == 1 else f"{len(unknown):,} cells have"
            what = "cannot draw" if category is None else "has not learnt"
            effect = (
                "what is filled in its row may be far off."
                if category is None
                else "where other cells of its row are filled, it counts as the mean of the learnt values."
            )
            warnings.warn(
                f"In the column '{column.name}' {cells} a value that the model {what}, such as "
                f"'{shortened(unknown[0])}'. Such a cell stays; {effect}",
                stacklevel=3,
            )


def _impossible(encoding: ColumnEncoding, column: pl.Series) -> pl.Series:
    """Give the numbers of a column that come back from their features as others, by more than what a step rounds."""
    cells = column.drop_nulls()
    if not encoding.width or not cells.dtype.is_numeric() or not len(cells):
        return cells.clear()
    features = encoding.encode(cells, None)
    back = encoding.series(encoding.values(features))
    far = np.abs(encoding.encode(back, None) - features) > max(encoding.resolution, SAME)
    # A positive column takes all other numbers for its least one.
    least = ((cells <= 0) & (back > 0)).to_numpy() & (features <= -FARTHEST).any(axis=1)
    return cells.filter(pl.Series(far.any(axis=1) | least))
