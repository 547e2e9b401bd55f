"""Rows of a diffusion model around cells that are given, and the filling of gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch
from torch import Tensor

from .. import seeding
from ..data import Given
from ..diffusion.conditions import GuidedDenoiser
from ..diffusion.denoisers import Denoiser
from ..diffusion.samplers import BLOCK, Sampler, build_sampler
from ..errors import InputError

if TYPE_CHECKING:
    from .diffusion import DiffusionModel

__all__ = ["conditioned_on", "fill_gaps"]


def conditioned_on(model: DiffusionModel, given: Given, *, guidance: float = 1.0) -> Denoiser:
    """Give the denoiser of rows with the given cells.

    Args:
        model: the model.
        given: the cells.
        guidance: W of `GuidedDenoiser`; 1 for the conditional distribution.

    Raises:
        InputError: the model was not trained for conditions.

    """
    values = torch.from_numpy(given.values).unsqueeze(0).to(model.device)
    conditioned = _conditioned(model, values, torch.from_numpy(given.given).to(model.device))
    return conditioned if guidance == 1 else GuidedDenoiser(model.denoiser, conditioned, guidance)


def fill_gaps(model: DiffusionModel, rows: pl.DataFrame, *, seed: int) -> pl.DataFrame:
    """Draw the missing cells of rows from their distribution given the row's other cells.

    Args:
        model: the model.
        rows: n rows with some or all of the model's columns; null stands for a gap.
        seed: of the drawn cells.

    Returns:
        The rows with the same columns, where every gap of a column of the model is filled.

    Raises:
        InputError: the model was not trained for conditions.

    """
    encoding, sampler = model.encoding, build_sampler(model.config.sampling)
    known = [name for name in encoding.names if name in rows.columns]
    gaps = rows.select(pl.col(name).is_null() for name in known).to_numpy()
    filled = rows.with_row_index("row")
    drawn = []
    patterns, pattern_of = np.unique(gaps, axis=0, return_inverse=True)
    for k, pattern in enumerate(patterns):
        places = np.flatnonzero(pattern_of.reshape(-1) == k)
        if pattern.any():
            missing = [name for name, gap in zip(known, pattern, strict=True) if gap]
            drawn.append((places, missing, _fill(model, rows[places], missing, sampler, seed=seed, pattern=k)))
    for places, missing, values in drawn:
        new = values.select(missing).with_columns(pl.Series("row", places, dtype=pl.UInt32))
        filled = filled.update(new, on="row", how="left")
    return filled.drop("row")


def _fill(
    model: DiffusionModel, rows: pl.DataFrame, missing: list[str], sampler: Sampler, *, seed: int, pattern: int
) -> pl.DataFrame:
    """Draw the columns that are missing in all n rows, or are not columns of the rows at all."""
    features, given = _features(model, rows, missing)
    noise = seeding.torch_stream(seed, f"gaps of pattern {pattern}")
    parts = []
    for first in range(0, len(rows), BLOCK):
        values = features[first : first + BLOCK]
        draws = torch.randn(sampler.draws, *values.shape, generator=noise)
        denoiser = _conditioned(model, values.to(model.device), given.to(model.device))
        with torch.no_grad():
            x = sampler(denoiser, draws[0].to(model.device), draws[1:].to(model.device)).cpu()
        parts.append(torch.where(given, values, x))
    return model.encoding.decode(torch.cat(parts).numpy())


def _features(model: DiffusionModel, rows: pl.DataFrame, missing: list[str]) -> tuple[Tensor, Tensor]:
    """Give the features of the observed cells, (n, width), and which features are given, (width,).

    A cell that is to be filled has to be present: where the model knows that cells may be missing, the feature that
    says so is given.
    """
    encoding = model.encoding
    features = np.zeros((rows.height, encoding.width))
    given = np.zeros(encoding.width, dtype=bool)
    for column, span in zip(encoding.columns, encoding.spans, strict=True):
        if column.name in rows.columns and column.name not in missing:
            features[:, span], given[span] = column.encode(rows[column.name], None), True
        elif (present := column.present_feature) is not None:
            place, value = present
            features[:, span.start + place], given[span.start + place] = value, True
    return torch.from_numpy(features), torch.from_numpy(given)


def _conditioned(model: DiffusionModel, values: Tensor, given: Tensor) -> Denoiser:
    if not model.takes_given:
        raise InputError(
            "This model has not learnt to draw some columns when others are given.",
            "Train it with --set objective.conditional=0.25, or use --where, which selects among drawn rows.",
        )
    return model.denoiser.conditioned(values, given)
