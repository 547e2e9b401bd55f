"""What a job starts from: a model, and the rows that a configuration names, which are the same every time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ..compute.device import choose_device
from ..config.schema import RunConfig
from ..data import Data, TableEncoding, check_table, load_data, split_table
from ..errors import InputError
from ..models import Model, load_model
from ..models.diffusion import DiffusionModel
from ..seeding import stream
from ..store.run import Run

if TYPE_CHECKING:
    from ..exporting.runtime import ExportedModel

__all__ = [
    "IN_MEMORY",
    "ROWS_IN_MEMORY",
    "data_of_file",
    "data_of_run",
    "diffusion_model",
    "halves",
    "load_run_data",
    "opened",
    "rows_in_memory",
    "with_types",
]

IN_MEMORY = "memory"
"""The ``source`` in the provenance of rows that were given from Python and are in no file."""
ROWS_IN_MEMORY = "rows from Python"
"""What such rows are called in a run's configuration and in messages."""


def opened(source: Run | Model | str | Path, device: str) -> tuple[Run | None, Model]:
    """Give a run and its model, or None and a model that is none of a run.

    Args:
        source: a finished run or its directory, or a model such as an exported file.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``, where a run's model is loaded.

    Raises:
        InputError: there is no run, or the run is not finished.
        DeviceError: the device is not there.

    """
    if isinstance(source, Model):
        return None, source
    run = Run.open(source)
    return run, load_model(run, device=choose_device(device))


def diffusion_model(model: Model, fault: str, remedy: str) -> DiffusionModel:
    """Give a model as a diffusion model.

    Raises:
        InputError: the model is of another kind. The problem is the sentence "The model NAME ``fault``."

    """
    if not isinstance(model, DiffusionModel):
        raise InputError(f"The model {model.config.model.name} {fault}.", remedy)
    return model


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


def rows_in_memory(rows: pl.DataFrame, config: RunConfig, *, container: str) -> Data:
    """Split rows that were given from Python and are in no file.

    Args:
        rows: n rows.
        config: says which columns are learnt and how the rows are split.
        container: the type in which the rows were given; see `data.containers.CONTAINERS`.

    Raises:
        InputError: the rows are refused.

    """
    try:
        table = check_table(rows, name=ROWS_IN_MEMORY, columns=config.data.columns, missing=config.data.missing)
    except InputError as error:
        remedy = 'Mend the rows, or set "data.columns" or "data.missing" in the settings of the DualDiff.'
        raise error.without_options(remedy) from error
    return split_table(
        table,
        name=ROWS_IN_MEMORY,
        origin={"source": IN_MEMORY, "container": container},
        seed=config.seed,
        named=config.data.columns or (),
        kinds=config.data.kinds,
        fraction=config.data.held_out_fraction,
    )


def halves(name: str, rows: pl.DataFrame, *, seed: int) -> Data:
    """Let one half of n true rows stand for the truth, and the other half for perfect samples, in place of learnt rows.

    The rows are drawn into the halves, because two halves of sorted rows are unlike.
    """
    order = stream(seed, "halves").permutation(rows.height)
    half = rows.height // 2
    return Data(name, rows[order[half:]], rows[order[:half]], None, {}, learnt=False)


def data_of_run(run: Run) -> Data:
    """Draw or read the rows that a run was begun on.

    Raises:
        InputError: the file has changed since, or an earlier version read other rows of the file, so that rows which
            the run has learnt could be taken for held-out ones; or the rows were given from Python and are in no file.

    """
    return _data_as_before(run.config, run.load_data(), f"the run {run}", "Restore it, or start a new run.")


def data_of_file(exported: ExportedModel) -> Data:
    """Draw or read the rows that the run behind an exported file was begun on.

    Raises:
        InputError: the data file is not there or has changed since, or the rows were given from Python and are in
            no file.

    """
    before, whose = exported.metadata.get("data"), f"the run behind {exported.path}"
    if before and before.get("source") == "file" and not Path(exported.config.dataset).exists():
        raise InputError(
            f"The file {exported.config.dataset}, which {whose} was begun on, is not here.",
            "Run the command in the folder in which `dualdiff export` was run, or restore the file.",
        )
    remedy = "Restore it, or score files with `dualdiff evaluate --samples FILE --against FILE`."
    return _data_as_before(exported.config, before, whose, remedy)


def _data_as_before(config: RunConfig, before: Mapping[str, Any] | None, whose: str, remedy: str) -> Data:
    """Draw or read rows, and see that they are those of before; None is for a provenance that nobody has noted."""
    if before is None:
        return load_run_data(config)
    if before.get("source") == IN_MEMORY:
        raise InputError(
            f"The rows that {whose} was trained on were given from Python, and no file holds them.",
            "The commands evaluate, report, plot, explore and animate need these rows, and sample, impute, score and "
            "export do not. In Python DualDiff.evaluate takes rows, and `dualdiff evaluate --samples FILE --against "
            "FILE` scores files.",
        )
    # An earlier version may have learnt a column that is now taken for an identifier.
    data = load_run_data(config, learnt=before.get("columns") or ())
    if before.get("sha256") != data.provenance.get("sha256"):
        raise InputError(f"The file {data.name} has changed since {whose} was begun.", remedy)
    if any(before.get(part) not in (None, data.provenance[part]) for part in ("train_rows", "held_out_rows")):
        raise InputError(
            f"This version reads another number of rows from {data.name} than the version with which {whose} was "
            "begun, so that learnt rows could be taken for held-out ones.",
            "Start a new run.",
        )
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
            kept = own.null_count() == len(own) or typed.cast(own.dtype).equals(own)
        except pl.exceptions.PolarsError:
            kept = False
        # Between numbers and dates polars would count days or microseconds.
        counted = any(a.is_numeric() and b.is_temporal() for a, b in permutations((own.dtype, types[name])))
        if not kept or (counted and own.null_count() < len(own)):
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
