"""Rows around cells that are given, and the filling of gaps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import torch

from .. import seeding
from ..data import FloatArray, Given, TableEncoding
from ..diffusion.conditions import GuidedDenoiser
from ..diffusion.denoisers import Denoiser
from ..diffusion.mixtures import FullMixtureDenoiser
from ..diffusion.samplers import Sampler
from ..errors import InputError
from ..training.gaps import Mask, chunks_by_memory, rows_by_pattern

__all__ = ["conditioned_on", "decoding", "draw_by_denoiser", "fill_gaps"]


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


def fill_gaps(
    encoding: TableEncoding, rows: pl.DataFrame, draw: Callable[[FloatArray, Mask], FloatArray]
) -> pl.DataFrame:
    """Fill all gaps of the encoding's columns.

    Args:
        encoding: of the columns.
        rows: n rows with some or all of the columns, and perhaps others; null stands for a gap.
        draw: given features (n, width) and which of them are given, draws the others given these; (n, width).

    Returns:
        The rows, with the same columns in the same order.

    Raises:
        InputError: a value is so far from the learnt ones that nothing can be drawn given it.

    """
    known = [name for name in encoding.names if name in rows.columns]
    solved = encoding.solved(rows)
    features, given = _given_features(encoding, solved.select(known))
    completed = draw(features, given)
    _check_finite(completed, features, encoding, solved)
    cells = encoding.decode(completed)
    drawn = solved.with_columns(pl.coalesce(pl.col(name), cells[name]) for name in known)
    filled = encoding.with_derived(encoding.reconciled(drawn, solved))
    return rows.with_columns(pl.coalesce(pl.col(name), filled[name]).alias(name) for name in known)


def decoding(encoding: TableEncoding, given: Given | None) -> Callable[[FloatArray], pl.DataFrame]:
    """Give the function that turns features (n, width) into rows, in which given cells stand exactly."""

    def decode(features: FloatArray) -> pl.DataFrame:
        rows = encoding.decode(features)
        return rows if given is None else encoding.with_derived(given.put(rows))

    return decode


def draw_by_denoiser(
    denoiser: Denoiser, sampler: Sampler, features: FloatArray, given: Mask, *, seed: int
) -> FloatArray:
    """Draw the features that are not given, with a denoiser that takes given features; see `fill_gaps`."""
    drawn, noise, device = features.copy(), seeding.torch_stream(seed, "gaps"), denoiser.schedule.device
    entries = _matrix_entries(denoiser)
    for group in rows_by_pattern(~given):
        mixed = not (given[group] == given[group[0]]).all()
        # The noise is drawn for the whole group, so that the division into parts changes no row.
        of_group = torch.randn(sampler.draws, len(group), features.shape[1], generator=noise)
        parts = chunks_by_memory(group, ~given, entries)
        for places, draws in zip(parts, torch.split(of_group, [len(part) for part in parts], dim=1), strict=True):
            values, mask = torch.from_numpy(features[places]), torch.from_numpy(given[places if mixed else places[0]])
            draws = draws.to(device)
            conditioned = denoiser.conditioned(values.to(device), mask.to(device))
            with torch.no_grad():
                x = sampler(conditioned, draws[0], draws[1:]).cpu()
            drawn[places] = torch.where(mask, values, x).numpy()
    return drawn


def _matrix_entries(denoiser: Denoiser) -> int:
    """Count the numbers in the covariances of the Gaussian mixtures within a denoiser, K·d² for each mixture."""
    return sum(part.axes.numel() for part in denoiser.modules() if isinstance(part, FullMixtureDenoiser))


def _check_finite(completed: FloatArray, features: FloatArray, encoding: TableEncoding, rows: pl.DataFrame) -> None:
    """See that all drawn features, (n, width), are numbers.

    Raises:
        InputError: some are not, because of the value whose feature is the largest of its row.

    """
    lost = np.flatnonzero(~np.isfinite(completed).all(axis=1))
    if len(lost):
        farthest = int(np.abs(features[lost[0]]).argmax())
        name = next(name for name, span in zip(encoding.names, encoding.spans, strict=True) if farthest < span.stop)
        raise InputError(
            f"The column '{name}' has the value {rows[name][int(lost[0])]}, which is so far from the learnt values "
            "that the gaps of its row cannot be filled.",
            "Mend this value, or make it a gap.",
        )


def _given_features(encoding: TableEncoding, rows: pl.DataFrame) -> tuple[FloatArray, Mask]:
    """Give the features of the observed cells, and which features are given, both (n, width).

    Features that do not count for a cell are not given. A cell that is to be filled has to be present: where the model
    knows that cells may be missing, the feature that says so is given. Nothing is known of a column that the rows lack.
    In a row that lacks no cell of its columns all their features are given, so that nothing is drawn for these.
    """
    features = np.zeros((rows.height, encoding.width))
    given = np.zeros((rows.height, encoding.width), dtype=bool)
    learnt = rows.select(column.name for column in encoding.columns if column.width and column.name in rows.columns)
    complete = np.ones(rows.height, dtype=bool)
    for cells in learnt:
        complete &= cells.is_not_null().to_numpy()
    for column, span in zip(encoding.columns, encoding.spans, strict=True):
        if column.name in rows.columns:
            there = rows[column.name].is_not_null().to_numpy()
            features[there, span] = column.encode(rows[column.name].drop_nulls(), None)
            given[there, span] = ~column.unused(features[there, span]) | complete[there, None]
    for name, (feature, value) in encoding.presence.items():
        if name in rows.columns:
            features[:, feature], given[:, feature] = value, True
    return features, given
