"""What rows are given in from Python: each type becomes a polars frame, and frames go back in the type of the rows.

A new type is one entry of `CONTAINERS`. pandas is never imported here unless the user's own rows are of pandas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ..errors import InputError
from .names import column_names

__all__ = ["CONTAINERS", "Container", "container_of"]


@dataclass(frozen=True)
class Container:
    """A type of rows.

    Attributes:
        suits: says whether rows are of this type.
        take: makes a frame of n rows; the second argument gives the names of the columns for a type without names.
        give: makes rows of this type from a frame.

    """

    suits: Callable[[Any], bool]
    take: Callable[[Any, Sequence[str] | None], pl.DataFrame]
    give: Callable[[pl.DataFrame], Any]


def _of_polars(rows: Any, names: Sequence[str] | None) -> pl.DataFrame:
    del names
    frame: pl.DataFrame = rows.collect() if isinstance(rows, pl.LazyFrame) else rows
    return frame


def _of_pandas(rows: Any, names: Sequence[str] | None) -> pl.DataFrame:
    """Read a data frame whose labels may be numbers; its index is left out."""
    del names
    rows = rows.rename(columns=str)
    if len(repeated := rows.columns[rows.columns.duplicated()]):
        raise InputError(f"The rows have several columns '{repeated[0]}'.", "Give each column a name of its own.")
    return pl.from_pandas(rows)


def _of_arrow(rows: Any, names: Sequence[str] | None) -> pl.DataFrame:
    del names
    try:
        return pl.DataFrame(rows)
    except pl.exceptions.DuplicateError as error:
        raise InputError("Several columns of the rows have the same name.", "Give each a name of its own.") from error


def _of_array(rows: Any, names: Sequence[str] | None) -> pl.DataFrame:
    try:
        array = np.asarray(rows)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"The rows are no array: {error}.", "Give every row the same number of values.") from error
    if array.ndim not in (1, 2) or array.dtype.kind not in "biuf" or not array.size:
        raise InputError(
            f"The rows are an array of type {array.dtype} and shape {array.shape}.",
            "Give an array (n,) or (n, columns) of real numbers, or a data frame.",
        )
    array = array.reshape(len(array), -1)
    array = array.astype(np.float32) if array.dtype == np.float16 else array
    names = column_names(array.shape[1]) if names is None else names
    if len(names) != array.shape[1]:
        raise InputError(
            f"The rows have {array.shape[1]} columns, and the model has {len(names)}.",
            f"Give the columns {', '.join(names)}.",
        )
    return pl.DataFrame({name: array[:, i] for i, name in enumerate(names)})


CONTAINERS: dict[str, Container] = {
    "polars": Container(lambda rows: isinstance(rows, pl.DataFrame | pl.LazyFrame), _of_polars, lambda frame: frame),
    "pandas": Container(
        lambda rows: type(rows).__module__.partition(".")[0] == "pandas" and hasattr(rows, "columns"),
        _of_pandas,
        lambda frame: frame.to_pandas(),
    ),
    "arrow": Container(lambda rows: hasattr(rows, "__arrow_c_stream__"), _of_arrow, lambda frame: frame.to_arrow()),
    "numpy": Container(lambda rows: True, _of_array, lambda frame: frame.to_numpy()),
}
"""The types of rows by name; the first that suits is taken."""


def container_of(rows: Any) -> str:
    """Give the name of the type of rows in `CONTAINERS`."""
    return next(name for name, container in CONTAINERS.items() if container.suits(rows))
