"""Score rows of a table with a run's model: the log of the model's density at each row."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from .. import seeding
from ..data import FloatArray, read_table, write_chunks
from ..errors import InputError
from ..models import Model
from ..store.run import Run
from .diagnose import CHECKED_ROWS, density_notes
from .inputs import opened, with_types

__all__ = ["log_densities", "score"]

SCORE_COLUMN = "log2_density"
"""The column of the file that is written."""
NOTE_ON_STEPS = (
    "Whole numbers and fixed decimals are spread evenly over their step before the density is evaluated, so that the "
    "values depend a little on the seed."
)


def score(
    source: Run | Model | str | Path,
    table: str | Path | pl.DataFrame,
    *,
    output: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    announce: Callable[[str], None] = lambda what: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> dict[str, Any]:
    """Give the binary logarithm of the model's density at every row of a table, in the units of the columns.

    Args:
        source: a finished run or its directory, or a model.
        table: a file, or a frame, with all columns of the model in any order; other columns are not looked at.
        output: the file that is written, with the one column ``log2_density`` and one value a row, in the order of the
            table; None writes none, and the record then has the values as "frame".
        seed: of the noise that spreads whole numbers over their unit interval.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``, where a run's model is loaded.
        announce: told what is being computed.
        on_note: told each sentence about the file that the user should know.

    Returns:
        The record of the ``score`` command: "run", "rows", "unit", "mean", "note", "seed" and "output". The mean is
        None where a value is not finite.

    Raises:
        InputError: there is no run, the run is not finished, the model or a column has no density, the table lacks a
            column or has a missing cell or a value that a column cannot have, or the output cannot be written.
        DeviceError: the device is not there.

    """
    run, model = opened(source, device)
    _check_density(model)
    rows = table if isinstance(table, pl.DataFrame) else _read(table, model.encoding.types, on_note)
    if not rows.height:
        raise InputError("The table has no rows.", "Give a table with at least one row.")
    rows = _complete_rows(model, rows)
    _check_values(model, rows)
    announce(f"density at {rows.height:,} rows")
    values = model.log_density(rows, seed=seed) / math.log(2)
    frame = pl.DataFrame({SCORE_COLUMN: values})
    mean = float(values.mean())
    notes = [NOTE_ON_STEPS] if model.encoding.resolution.any() else []
    checked = seeding.subsample(rows, CHECKED_ROWS, seed=seed, role="checked rows")
    notes += density_notes(model, checked, seed=seed)
    record = {
        "run": None if run is None else str(run),
        "rows": rows.height,
        "unit": "bits",
        "mean": mean if math.isfinite(mean) else None,
        "note": " ".join(notes),
        "seed": seed,
        "output": None if output is None else str(output),
    }
    if output is None:
        return record | {"frame": frame}
    write_chunks(output, [frame], rows=frame.height)
    return record


def log_densities(model: Model, rows: pl.DataFrame, *, seed: int) -> FloatArray:
    """Give the log of the model's density at n rows, in nats and in the units of the columns, (n,).

    Args:
        model: any model.
        rows: with the model's columns in any order, and perhaps others.
        seed: see `score`.

    Raises:
        InputError: the model or a column has no density, or the rows lack a column, have a column of another type or a
            missing cell.

    """
    _check_density(model)
    return model.log_density(_complete_rows(model, rows), seed=seed)


def _read(table: str | Path, types: Mapping[str, pl.DataType], on_note: Callable[[str], None]) -> pl.DataFrame:
    """Read the model's columns of a file, with every row, and tell the notes of reading.

    Raises:
        InputError: the file is refused; the remedy names no option, because `score` has none for files.

    """
    try:
        found = read_table(table, columns=[*types], min_rows=1, whole=True, learnt=types)
    except InputError as error:
        raise error.without_options("Mend these values.") from error
    for note in found.notes:
        on_note(note)
    return found.rows


def _check_density(model: Model) -> None:
    """Refuse a model without a density, and one with columns that have no density in their own units.

    Raises:
        InputError: the model is one of these.

    """
    if not model.has_density:
        raise InputError(
            f"The model {model.config.model.name} has no density.",
            "Score rows with another model, such as dual-expert.",
        )
    columns = model.encoding.columns
    without = [c for c in columns if c.log_slope(np.zeros((1, c.width))) is None]
    if without:
        names = ", ".join(f"'{column.name}' ({column.kind})" for column in without)
        others = shlex.quote(",".join(column.name for column in columns if column not in without) or "a,b")
        gaps = any(column.present_feature is not None for column in without)
        raise InputError(
            f"The model has no density, because these columns have none in their own units: {names}.",
            f"Train a model of numbers alone, with `train --columns {others}`"
            + (" and, for columns with gaps, `train --missing drop`." if gaps else "."),
        )


def _complete_rows(model: Model, rows: pl.DataFrame) -> pl.DataFrame:
    """Give the model's columns of the rows the types of the training, in the order of the training.

    Raises:
        InputError: a column is not there or has another type, or a cell is missing.

    """
    names = model.encoding.names
    lacking = [name for name in names if name not in rows.columns]
    if lacking:
        raise InputError(
            f"The table has no column '{lacking[0]}', which the model has learnt.",
            f"Give a table with the columns {', '.join(names)}.",
        )
    rows = with_types(model.encoding, rows.select(names), names)
    for column in rows:
        gaps = column.null_count()
        if gaps and model.encoding.can_hold_values(column.name):  # a column that was empty in the training stays empty
            first = int(column.is_null().arg_max() or 0)
            raise InputError(
                f"The column '{column.name}' of the table has {gaps:,} missing cell{'s' if gaps > 1 else ''}, the "
                f"first one in row {first + 1:,}: a row with a gap has no density.",
                "Fill the gaps, for example with `dualdiff impute`, or leave these rows out.",
            )
    return rows


def _check_values(model: Model, rows: pl.DataFrame) -> None:
    """Refuse values at which the density of a column is zero, such as a negative one where none can be drawn.

    An estimator scores such rows with the smooth density behind the bounds, because the selection of models compares
    means over rows that may lie a little outside of the range of the training rows.

    Raises:
        InputError: there is such a value.

    """
    decoded = model.encoding.decode(model.encoding.encode(rows, None))
    for column in model.encoding.columns:
        cells = rows[column.name]
        wrong = np.flatnonzero(_differ(cells, decoded[column.name]))
        if len(wrong):
            raise InputError(
                f"The column '{column.name}' cannot have the value {cells[int(wrong[0])]} of row {wrong[0] + 1:,}: it "
                f"is learnt as {column.summary}, and {len(wrong):,} of {len(cells):,} rows have such a value.",
                "Leave these rows out, or train a model on rows that include such values.",
            )


def _differ(cells: pl.Series, decoded: pl.Series) -> npt.NDArray[np.bool_]:
    """Say which cells (n,) come back from their features as other values; texts and dates are those of constants."""
    if not cells.dtype.is_numeric():
        return np.array(cells.ne_missing(decoded))
    x, back = (side.cast(pl.Float64).to_numpy() for side in (cells, decoded))
    scale = float(np.abs(x[np.isfinite(x)]).max(initial=0.0))
    differ: npt.NDArray[np.bool_] = ~np.isfinite(x) | ~np.isclose(x, back, rtol=1e-6, atol=1e-9 * scale)
    differ &= ~(cells.is_null() & decoded.is_null()).to_numpy()
    return differ
