"""The rows that a configuration names: the same ones every time they are asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import permutations
from typing import TYPE_CHECKING, Any

import polars as pl

from ..config.schema import RunConfig
from ..data import Data, TableEncoding, load_data
from ..errors import InputError
from ..store.run import Run

if TYPE_CHECKING:
    from ..exporting.runtime import ExportedModel

__all__ = ["IN_MEMORY", "data_of_file", "data_of_run", "load_run_data", "with_types"]

IN_MEMORY = "memory"
"""The ``source`` in the provenance of rows that were given from Python and are in no file."""


def load_run_data(config: RunConfig, *, learnt: Collection[str] = ()) -> Data:
    """Draw or read training and held-out rows.

    Args:
        config: of a run.
        learnt: see `load_data`.

    Raises:
        InputError: see `load_data`.

    """
    return load_data(
        config.dataset,
        seed=config.seed,
        n_train=config.data.points,
        n_held_out=config.data.held_out_points,
        columns=config.data.columns,
        missing=config.data.missing,
        kinds=config.data.kinds,
        held_out_fraction=config.data.held_out_fraction,
        learnt=learnt,
    )


def data_of_run(run: Run) -> Data:
    """Draw or read the rows that a run was begun on.

    Raises:
        InputError: the file has changed since, or an earlier version read other rows of the file, so that rows which
            the run has learnt could be taken for held-out ones; or the rows were given from Python and are in no file.

    """
    before = run.load_data()
    _check_kept(before, f"the run {run}")
    # An earlier version may have learnt a column that is now taken for an identifier.
    data = load_run_data(run.config, learnt=(before or {}).get("columns") or ())
    _check_unchanged(data, before, f"the run {run} was begun", "Restore it, or start a new run.")
    return data


def data_of_file(exported: ExportedModel) -> Data:
    """Draw or read the rows that the run behind an exported file was begun on.

    Raises:
        InputError: the data file has changed since, or the rows were given from Python and are in no file.

    """
    before = exported.metadata.get("data")
    _check_kept(before, f"the run behind {exported.path}")
    data = load_run_data(exported.config, learnt=(before or {}).get("columns") or ())
    _check_unchanged(data, before, f"the run behind {exported.path} was begun", "Restore it, or use --against.")
    return data


def with_types(
    encoding: TableEncoding,
    rows: pl.DataFrame,
    known: Iterable[str],
    *,
    exact: bool = True,
    others: str = "the model has learnt",
) -> pl.DataFrame:
    """Give columns the types that they had in training: a column of gaps only has none of its own.

    NaN, which arrays and pandas have for a gap, becomes null.

    Args:
        encoding: has the types.
        rows: n rows of a table that is not the training file.
        known: the columns of the rows that the encoding has, too.
        exact: whether numbers get their type, too; otherwise they stay as they are, also 1.5 or NaN among whole
            numbers.
        others: what has the types, in messages.

    Raises:
        InputError: a column has values that the type of the training does not hold.

    """
    types = encoding.types
    for name in known:
        if not exact and rows[name].dtype.is_numeric() and types[name].is_numeric():
            continue
        own = rows[name].fill_nan(None) if rows[name].dtype.is_float() else rows[name]
        try:
            typed = own.cast(types[name])
        except pl.exceptions.PolarsError:
            typed = None
        # Between numbers and dates polars would count days or microseconds.
        counted = any(a.is_numeric() and b.is_temporal() for a, b in permutations((own.dtype, types[name])))
        if typed is None or (own.null_count() < len(own) and (counted or not typed.cast(own.dtype).equals(own))):
            raise InputError(
                f"The column '{name}' of the table has the type {own.dtype}, and {others} {types[name]}.",
                "Give tables whose columns have the same types.",
            )
        _check_text(encoding, own, typed, others)
        rows = rows.with_columns(typed)
    return rows


def _check_text(encoding: TableEncoding, own: pl.Series, typed: pl.Series, others: str) -> None:
    """Refuse numbers in place of texts, such as 501 for '00501', unless each of them, as a text, is a learnt value.

    Raises:
        InputError: the column is such a one.

    """
    if typed.dtype != pl.String or own.dtype in (pl.String, pl.Categorical, pl.Enum) or not typed.drop_nulls().len():
        return
    category = encoding.category(own.name)
    if category is None or category.unknown(typed).len():
        such = "" if category is None else f", such as '{category.levels[0]}'"
        raise InputError(
            f"The column '{own.name}' of the table has the type {own.dtype}, and {others} String{such}.",
            "Write the column as text in the same form, for example with leading zeros.",
        )


def _check_kept(before: dict[str, Any] | None, whose: str) -> None:
    if before is not None and before.get("source") == IN_MEMORY:
        raise InputError(
            f"The rows that {whose} was trained on were given from Python, and no file holds them.",
            "Score files instead, with `dualdiff evaluate --samples FILE --against FILE`; or stay in Python, where "
            "DualDiff.evaluate takes the rows.",
        )


def _check_unchanged(data: Data, before: dict[str, Any] | None, since: str, remedy: str) -> None:
    if before is None:
        return
    if before.get("sha256") != data.provenance.get("sha256"):
        raise InputError(f"The file {data.name} has changed since {since}.", remedy)
    if any(before.get(part) not in (None, data.provenance[part]) for part in ("train_rows", "held_out_rows")):
        raise InputError(
            f"This version reads another number of rows from {data.name} than the version with which {since}, so that "
            "learnt rows could be taken for held-out ones.",
            "Start a new run.",
        )
