"""What a user may want to say of the columns of a table, and the data cannot decide."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import polars as pl

from ..data import ColumnEncoding
from ..data.encoding.angle import AngleColumn

__all__ = ["angle_offers"]


def angle_offers(
    rows: pl.DataFrame, encodings: Iterable[ColumnEncoding], *, asked: Collection[str] = ()
) -> Iterator[str]:
    """Name the columns that may be angles by their names and ranges, and say how to make them angles.

    Args:
        rows: with the columns of the encodings.
        encodings: of the columns.
        asked: the columns whose kind was asked for.

    """
    for encoding in encodings:
        angle = None if encoding.name in asked else AngleColumn.offered(rows[encoding.name].drop_nulls())
        if angle is not None:
            yield (
                f"Column '{encoding.name}' may be an angle from {angle.low:g} to {angle.low + angle.period:g}. If both "
                "ends mean the same, give it the kind angle in a schema file."
            )
