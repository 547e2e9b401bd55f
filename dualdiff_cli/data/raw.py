"""What a reader of one format hands on: the cells of a file, before its columns are converted."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

__all__ = ["RawTable"]


@dataclass(frozen=True, eq=False)
class RawTable:
    """A file as it was read, before its columns are converted.

    Attributes:
        frame: n rows; its own names of columns mean nothing where there is a header.
        notes: sentences about the file that the user should know.
        header: the names as the file has them, which may be empty or repeated; None takes those of the frame.
        decimal_comma: whether the numbers in texts have a decimal comma.
        separator: what separates the fields of a text file; the comma where each line has one field.
        typed: whether the format gives every column a type of its own, as JSON, Excel and text do not.

    """

    frame: pl.DataFrame
    notes: tuple[str, ...]
    header: list[str] | None = None
    decimal_comma: bool = False
    separator: str = ","
    typed: bool = False
