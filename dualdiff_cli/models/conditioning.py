"""Rows around cells that are given, and the filling of gaps, with any denoiser that takes given features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch

from .. import seeding
from ..data import FloatArray, Given, TableEncoding
from ..diffusion.conditions import GuidedDenoiser
from ..diffusion.denoisers import Denoiser
from ..diffusion.samplers import BLOCK, Sampler

__all__ = ["GapFiller", "conditioned_on"]

LEAST_COMMON = 32
"""So many rows with gaps in the same columns are filled on their own."""
MOST_MIXED = 256
"""The number of rows with gaps in different columns that are filled together: each has matrices of its own."""


def conditioned_on(denoiser: Denoiser, given: Given, *, guidance: float = 1.0) -> Denoiser:
    """Give the denoiser of rows with the given cells.

    Args:
        denoiser: of rows without given cells.
        given: the cells.
        guidance: W of `GuidedDenoiser`; 1 for the conditional distribution.

    """
    device = denoiser.schedule.device
    values, features = torch.from_numpy(given.values).unsqueeze(0), torch.from_numpy(given.given)
    conditioned = denoiser.conditioned(values.to(device), features.to(device))
    return conditioned if guidance == 1 else GuidedDenoiser(denoiser, conditioned, guidance)


@dataclass(frozen=True)
class GapFiller:
    """Draws the missing cells of rows from their distribution given the other cells of the row.

    Attributes:
        denoiser: one that takes given features.
        encoding: of the columns.
        sampler: the method.

    """

    denoiser: Denoiser
    encoding: TableEncoding
    sampler: Sampler

    def fill(self, rows: pl.DataFrame, *, seed: int) -> pl.DataFrame:
        """Fill all gaps of the encoding's columns; rows with the same gaps are drawn together.

        Args:
            rows: n rows with some or all of the columns, and perhaps others; null stands for a gap.
            seed: of the drawn cells.

        Returns:
            The rows, with the same columns in the same order.

        """
        known = [name for name in self.encoding.names if name in rows.columns]
        gaps = rows.select(pl.col(name).is_null() for name in known).to_numpy()
        features, given = self._given(rows.select(known))
        drawn, noise = np.zeros_like(features), seeding.torch_stream(seed, "gaps")
        device = self.denoiser.schedule.device
        for places in _together(gaps):
            own = given[places[0]] if (given[places] == given[places[0]]).all() else given[places]
            values, mask = torch.from_numpy(features[places]), torch.from_numpy(own)
            draws = torch.randn(self.sampler.draws, *values.shape, generator=noise).to(device)
            denoiser = self.denoiser.conditioned(values.to(device), mask.to(device))
            with torch.no_grad():
                x = self.sampler(denoiser, draws[0], draws[1:]).cpu()
            drawn[places] = torch.where(mask, values, x).numpy()
        cells = self.encoding.decode(drawn)
        return rows.with_columns(pl.coalesce(pl.col(name), cells[name]).alias(name) for name in known)

    def _given(self, rows: pl.DataFrame) -> tuple[FloatArray, np.ndarray]:
        """Give the features of the observed cells, and which features are given, both (n, width).

        A cell that is to be filled has to be present: where the model knows that cells may be missing, the feature that
        says so is given.
        """
        features = np.zeros((rows.height, self.encoding.width))
        given = np.zeros((rows.height, self.encoding.width), dtype=bool)
        for column, span in zip(self.encoding.columns, self.encoding.spans, strict=True):
            there = np.zeros(rows.height, dtype=bool)
            if column.name in rows.columns:
                there = rows[column.name].is_not_null().to_numpy()
                features[there, span] = column.encode(rows[column.name].drop_nulls(), None)
                given[there, span] = True
            if (present := column.present_feature) is not None:
                place, value = present
                features[~there, span.start + place], given[~there, span.start + place] = value, True
        return features, given


def _together(gaps: np.ndarray) -> Iterator[np.ndarray]:
    """Divide the rows that have gaps into parts whose gaps are filled together.

    Rows with gaps in the same columns share what conditioning costs; rows whose gaps few others have are mixed.

    Args:
        gaps: which cells are missing, (n, columns) bool.

    Yields:
        Numbers of rows, at most `BLOCK`, or at most `MOST_MIXED` for mixed rows.

    """
    _, pattern_of, count = np.unique(gaps, axis=0, return_inverse=True, return_counts=True)
    pattern_of, some = pattern_of.reshape(-1), gaps.any(axis=1)
    common = count[pattern_of] >= LEAST_COMMON
    for pattern in np.unique(pattern_of[some & common]):
        places = np.flatnonzero(pattern_of == pattern)
        yield from np.split(places, range(BLOCK, len(places), BLOCK))
    rest = np.flatnonzero(some & ~common)
    yield from (part for part in np.split(rest, range(MOST_MIXED, len(rest), MOST_MIXED)) if len(part))
