"""Rows around cells that are given, and the filling of gaps, with any denoiser that takes given features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from .. import seeding
from ..data import Given, TableEncoding
from ..diffusion.conditions import GuidedDenoiser
from ..diffusion.denoisers import Denoiser
from ..diffusion.samplers import BLOCK, Sampler

__all__ = ["GapFiller", "conditioned_on"]


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
        patterns, pattern_of = np.unique(gaps, axis=0, return_inverse=True)
        filled = rows.with_row_index("row")
        for k, pattern in enumerate(patterns):
            if not pattern.any():
                continue
            places = np.flatnonzero(pattern_of.reshape(-1) == k)
            missing = [name for name, gap in zip(known, pattern, strict=True) if gap]
            drawn = self._drawn(rows[places], missing, seeding.torch_stream(seed, f"gaps of pattern {k}"))
            new = drawn.select(missing).with_columns(pl.Series("row", places, dtype=pl.UInt32))
            filled = filled.update(new, on="row", how="left")
        return filled.drop("row")

    def _drawn(self, rows: pl.DataFrame, missing: list[str], noise: torch.Generator) -> pl.DataFrame:
        """Draw all columns that are missing in all n rows, or are not columns of the rows at all."""
        features, given = self._given(rows, missing)
        device = self.denoiser.schedule.device
        parts = []
        for values in torch.split(features, BLOCK):
            draws = torch.randn(self.sampler.draws, *values.shape, generator=noise).to(device)
            denoiser = self.denoiser.conditioned(values.to(device), given.to(device))
            with torch.no_grad():
                x = self.sampler(denoiser, draws[0], draws[1:]).cpu()
            parts.append(torch.where(given, values, x))
        return self.encoding.decode(torch.cat(parts).numpy())

    def _given(self, rows: pl.DataFrame, missing: list[str]) -> tuple[Tensor, Tensor]:
        """Give the features of the observed cells, (n, width), and which features are given, (width,).

        A cell that is to be filled has to be present: where the model knows that cells may be missing, the feature
        that says so is given.
        """
        features = np.zeros((rows.height, self.encoding.width))
        given = np.zeros(self.encoding.width, dtype=bool)
        for column, span in zip(self.encoding.columns, self.encoding.spans, strict=True):
            if column.name in rows.columns and column.name not in missing:
                features[:, span], given[span] = column.encode(rows[column.name], None), True
            elif (present := column.present_feature) is not None:
                place, value = present
                features[:, span.start + place], given[span.start + place] = value, True
        return torch.from_numpy(features), torch.from_numpy(given)
