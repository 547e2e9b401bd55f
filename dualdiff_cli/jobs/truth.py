"""True rows, and the scores of generated rows against them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from typing import TypeAlias

import numpy as np
import polars as pl

from .. import seeding
from ..data import Data, FloatArray, TableEncoding, draw
from ..errors import InputError
from ..metrics import ColumnPart, Score, score_generated
from .inputs import with_types

__all__ = ["REAL", "Announce", "Truth"]

REAL = 100_000
"""The largest number of rows that stand for the truth, as in the paper."""
FLOOR_DRAWS = 3
"""The number of draws of perfect samples that the floors are averaged over."""
_FEW_GAPS = 0.05
"""The largest share of gaps in a column of scored rows that is filled without a warning."""

Announce: TypeAlias = Callable[[str], None]
"""Told what is being computed."""


class Truth:
    """True rows as the scores need them: arrays in comparable units.

    A density is scored in data units, as the paper does. The columns of a file may differ in unit, so they are divided
    by the standard deviation of the training rows.

    Args:
        data: training and held-out rows.
        real: the rows that stand for the truth; at most `REAL` of them are used.
        n_generated: the number of rows that will be scored, which is that of the perfect samples where a density gives
            them; a file's perfect samples are training rows, of which there may be fewer.
        seed: of the perfect samples, and of everything random in the scores.

    """

    def __init__(self, data: Data, real: pl.DataFrame, n_generated: int, *, seed: int) -> None:
        self._data, self._seed = data, seed
        self.encoding = TableEncoding.fit(data.train, standardise=False) if data.density else data.encoding
        self.unit = "data units" if data.density else "standard deviations"
        self.real = self.prepare(seeding.subsample(real, REAL, seed=seed, role="true rows"))
        self.training = self.prepare(data.train)
        if data.density:
            draws = [draw(data.density, n_generated, seed=seed, role=f"perfect {k}") for k in range(FLOOR_DRAWS)]
            self.perfect = [self.prepare(rows) for rows in draws]
        else:
            shuffled = seeding.stream(seed, "perfect").permutation(self.training)
            parts = min(FLOOR_DRAWS, len(shuffled) // n_generated) or 1
            self.perfect = np.array_split(shuffled[: parts * n_generated], parts)

    def prepare(self, rows: pl.DataFrame) -> FloatArray:
        """Turn n rows into an array (n, width) in the units of the scores.

        A gap in a column without gaps among the training rows has no feature: the middle of the column takes its place,
        and a warning says so if there are more than a few. Another one says where a column of one value has others.

        Raises:
            InputError: a column has another type than among the training rows.

        """
        others_are = "training" if self._data.learnt else "true"
        for name in self.encoding.unlike_constants(rows):
            warnings.warn(
                f"The column '{name}' has other values in the rows that are scored than its only one in the "
                f"{others_are} rows, and no score sees this.",
                stacklevel=2,
            )
        learnt = [column.name for column in self.encoding.columns if column.width]
        others = "the rows that it is scored with have"
        for name in learnt:
            gaps = rows[name].null_count() if name in rows.columns else 0
            if gaps > _FEW_GAPS * rows.height and name not in self.encoding.presence:
                warnings.warn(
                    f"The column '{name}' has {gaps:,} missing values in {rows.height:,} rows that are scored, and "
                    f"none in the {others_are} rows. The scores take a value from the middle of the column for each "
                    "gap.",
                    stacklevel=2,
                )
        return self.encoding.encode(with_types(self.encoding, rows, learnt, exact=False, others=others), None)

    def score(
        self,
        generated: pl.DataFrame,
        *,
        metrics: Collection[str] | None = None,
        target: str | None = None,
        announce: Announce = lambda what: None,
    ) -> dict[str, Score]:
        """Score generated rows, also by how close they are to the training rows if a model has learnt these.

        See `score_generated`.

        Args:
            generated: with the columns of the data.
            metrics: the names of the wanted scores; None takes all of them.
            target: the column that is to be predicted from the others; None where no column is.
            announce: told what is being computed.

        Raises:
            InputError: there are too few rows, a metric is unknown, a column has another type than the data, or the
                data are no table with such a target.

        """
        density = self._data.density
        parts = None if density else _parts(self.encoding)
        if target is not None and target not in {part.column for part in parts or ()}:
            known = ", ".join(dict.fromkeys(part.column for part in parts or ()))
            raise InputError(
                f"'{target}' is no column that can be predicted.",
                f"Give one of {known} to --target." if parts else "Leave --target out: a density has no target.",
            )
        return score_generated(
            real=self.real,
            generated=self.prepare(generated),
            perfect=self.perfect,
            # The paper's definition is about its own densities; the floor of a file comes from its training rows.
            published_real=self.training[:REAL] if density else None,
            training=self.training if self._data.learnt else None,
            modes=density.modes if density else None,
            only=metrics,
            unit=self.unit,
            resolution=self.encoding.resolution.tolist(),
            parts=parts,
            target=target,
            unused=self.encoding.unused,
            seed=self._seed,
            progress=announce,
        )


def _parts(encoding: TableEncoding) -> list[ColumnPart]:
    """Say which features of a table belong together: those of a discrete span, and every other feature by itself."""
    parts = []
    numbers = set(encoding.layout.numbers)
    for column, span in zip(encoding.columns, encoding.spans, strict=True):
        parts += [ColumnPart(column.name, k, 1, False) for k in range(span.start, span.stop) if k in numbers]
        parts += [ColumnPart(column.name, span.start + part.start, part.width, True) for part in column.discrete]
    return parts
