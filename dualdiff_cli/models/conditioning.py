"""Rows of a diffusion model around cells that are given, and the filling of gaps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch
from torch import Tensor

from .. import seeding
from ..data import FloatArray, Given
from ..diffusion.conditions import GuidedDenoiser
from ..diffusion.denoisers import Denoiser
from ..diffusion.samplers import BLOCK, build_sampler
from ..errors import InputError

if TYPE_CHECKING:
    from .diffusion import DiffusionModel

__all__ = ["conditioned_on", "fill_gaps"]

LEAST_COMMON = 32
"""So many rows with gaps in the same columns are filled on their own."""
MOST_MIXED = 256
"""The number of rows with gaps in different columns that are filled together: each has matrices of its own."""


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
    features, given = _features(model, rows.select(known))
    drawn = np.zeros_like(features)
    noise = seeding.torch_stream(seed, "gaps")
    for places in _together(gaps):
        own = given[places[0]] if (given[places] == given[places[0]]).all() else given[places]
        values, mask = torch.from_numpy(features[places]), torch.from_numpy(own)
        draws = torch.randn(sampler.draws, *values.shape, generator=noise)
        denoiser = _conditioned(model, values.to(model.device), mask.to(model.device))
        with torch.no_grad():
            x = sampler(denoiser, draws[0].to(model.device), draws[1:].to(model.device)).cpu()
        drawn[places] = torch.where(mask, values, x).numpy()
    cells = encoding.decode(drawn)
    return rows.with_columns(pl.coalesce(pl.col(name), cells[name]).alias(name) for name in known)


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


def _features(model: DiffusionModel, rows: pl.DataFrame) -> tuple[FloatArray, np.ndarray]:
    """Give the features of the observed cells, and which features are given, both (n, width).

    A cell that is to be filled has to be present: where the model knows that cells may be missing, the feature that
    says so is given.
    """
    encoding = model.encoding
    features = np.zeros((rows.height, encoding.width))
    given = np.zeros((rows.height, encoding.width), dtype=bool)
    for column, span in zip(encoding.columns, encoding.spans, strict=True):
        there = np.zeros(rows.height, dtype=bool)
        if column.name in rows.columns:
            there = rows[column.name].is_not_null().to_numpy()
            features[there, span] = column.encode(rows[column.name].drop_nulls(), None)
            given[there, span] = True
        if (present := column.present_feature) is not None:
            place, value = present
            features[~there, span.start + place], given[~there, span.start + place] = value, True
    return features, given


def _conditioned(model: DiffusionModel, values: Tensor, given: Tensor) -> Denoiser:
    if not model.takes_given:
        raise InputError(
            "This model has not learnt to draw some columns when others are given.",
            "Train it with --set objective.conditional=0.25, or use --where, which selects among drawn rows.",
        )
    return model.denoiser.conditioned(values, given)
