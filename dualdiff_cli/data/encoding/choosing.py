"""The kind of a column: the one that a user asked for, the first one that suits, or the one that a file names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from ...config.registry import ASKED_KINDS, COLUMN_KINDS, IDENTIFIER
from ...errors import InputError
from .base import ColumnEncoding

__all__ = ["fit_column", "read_column"]

LEAST_SPREAD = 1e-140
"""The least difference of the least and the largest value of a column: the square of a smaller one is no number."""
KINDS_IN_OWN_UNITS = ("integer", "number")
"""The kinds whose features can keep the unit of their column."""
KINDS_OF_SHAPE = ("missing", "masses", "rounded", "decimal", "bounded", "skewed")
"""The kinds that need values of a certain shape; a schema of a whole file may name one that its training rows lack.
All but the first are kinds of numbers."""


def fit_column(
    column: pl.Series, *, standardise: bool, after: str | None = None, kind: str | None = None
) -> ColumnEncoding:
    """Choose the kind of a column and fit the encoding to the training rows.

    Args:
        column: n values, some of which may be missing.
        standardise: see `ColumnEncoding.fit`.
        after: only kinds that stand later in ``COLUMN_KINDS`` are tried; None tries all kinds.
        kind: the name of the kind that was asked for; None chooses the first kind that suits the column, and so does
            a kind of `KINDS_OF_SHAPE` whose shape the values do not have. The kind of a column with gaps is that of
            its observed values, and a column without any value is constant whatever was asked for.

    Raises:
        InputError: no kind suits the column, or the kind that was asked for does not.

    """
    if 0 < column.null_count() == len(column):
        empty: ColumnEncoding = COLUMN_KINDS["constant"].fit(column, standardise=standardise)
        return empty
    _check_spread(column)
    if kind not in (None, "missing") and column.null_count():
        around: ColumnEncoding = COLUMN_KINDS["missing"].fit(column, standardise=standardise, kind=kind)
        return around
    if kind is not None and COLUMN_KINDS[kind].takes(column):
        asked: ColumnEncoding = COLUMN_KINDS[kind].fit(column, standardise=standardise)
        return asked
    names = list(COLUMN_KINDS)
    tried = names[names.index(after) + 1 :] if after else names
    if not standardise:
        tried = [name for name in tried if name in KINDS_IN_OWN_UNITS]
    lenient = kind in KINDS_OF_SHAPE and (column.dtype.is_numeric() or kind == "missing")
    for name in tried if kind is None or lenient else []:
        chosen: type[ColumnEncoding] = COLUMN_KINDS[name]
        found = None if chosen.on_request else chosen.proposed(column, standardise=standardise)
        if found is not None:
            return found
    raise InputError(
        f"The column '{column.name}' of type {column.dtype} cannot be learnt{f' as {kind}' if kind else ''}.",
        f"Leave the column out with --columns, or ask for a kind that suits it: {', '.join(_kinds_for(column))}.",
    )


def _kinds_for(column: pl.Series) -> list[str]:
    """Give the kinds that a user can ask for and that can encode the column."""
    if column.n_unique() == 1:  # without a request such a column is constant
        return [IDENTIFIER]
    return [kind for kind in ASKED_KINDS if kind == IDENTIFIER or COLUMN_KINDS[kind].takes(column)]


def _check_spread(column: pl.Series) -> None:
    """Refuse numbers that differ, but by so little that their variance is zero.

    Raises:
        InputError: the column is such a one.

    """
    if not column.dtype.is_float():
        return
    spread = float(column.max()) - float(column.min())  # type: ignore[arg-type]
    if 0 < spread < LEAST_SPREAD:
        raise InputError(
            f"The values of the column '{column.name}' differ by {spread:.1g} only, which vanishes when it is squared.",
            "Give the column in another unit, or leave the column out with --columns.",
        )


def read_column(column: Any) -> Any:
    """Read an encoding that was written as plain values, by the class of its kind; an encoding stays as it is.

    Raises:
        InputError: there is no such kind.

    """
    if not isinstance(column, Mapping):
        return column
    return COLUMN_KINDS[COLUMN_KINDS.check(str(column.get("kind")))].model_validate(column)
