"""The features of rows, with what gaps hide drawn from its distribution given the rest of the row.

The features that hold the value of a missing cell are unknown. If they are drawn from the column alone, a column with
20 % gaps loses a fifth of its correlations, and a model learns that. So the unused features u of each row are drawn
from their distribution given the used features z. This distribution p is fitted at the same time (stochastic
expectation maximisation: Celeux & Diebolt 1985; data augmentation: Tanner & Wong 1987). The two steps

    p ← fit to all rows (u, z),    u ~ p(u | z)

are repeated, first with one Gaussian p and then with the Gaussian mixture that suits the rows best. The features that
say whether a cell is there take no part, because no row shows the value of a missing cell. If gaps occur at random
given the observed cells, the completed rows become draws from the distribution of complete rows (Little & Rubin 2019,
ch. 10). What gaps of held-out rows hide is drawn from the last p, which has seen none of these rows.

A single draw of u adds its own chance to what is learnt from few rows. So the mixture is fitted to the draws of the
last M rounds together, and then each row is completed M times; a model can learn all completions (multiple imputation:
Rubin 1987).
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from .. import seeding
from ..data import Data, DiscreteSpan, FloatArray, TableEncoding
from ..diffusion.mixtures import condition
from .gaussians import Gaussians
from .mixture import dequantised, fit_mixture

__all__ = [
    "Mask",
    "chunks_by_memory",
    "completed_features",
    "draw_hidden",
    "held_out_features",
    "rows_by_pattern",
    "training_features",
]

LEAST_COMMON = 32
"""At least so many rows with the same gaps are a group of their own; rows whose gaps fewer rows have are mixed."""
MOST_MIXED = 256
"""The largest number of rows with different gaps in a group; each of these rows has matrices of its own."""
MOST_TOGETHER = 2048
"""The largest number of rows with the same gaps in a group."""
MOST_NUMBERS = 2**24
"""The largest number of entries of the matrices that exist at once."""
MOST_FEATURES = 64
"""With more features that hold values the matrices take too long, and gaps keep what their column alone has given."""
MOST_FITTED = 5_000
"""The two steps are repeated with at most so many rows; what the other rows hide is drawn once, from the last fit."""
ROUNDS = 10
"""How often the two steps are repeated with one Gaussian, and then with the mixture."""
MOST_COMPLETIONS = 5
"""M, the number of completions, if the rows of all completions are at most `MOST_FITTED`; with more rows M is less."""

Mask = npt.NDArray[np.bool_]
"""Which cells or features are hidden or given, (n, width)."""


def training_features(encoding: TableEncoding, rows: pl.DataFrame, *, seed: int) -> FloatArray:
    """Give training rows as features, (n, width), completed once; see the module.

    Args:
        encoding: fitted to the rows.
        rows: n rows.
        seed: of the noise on whole numbers and of what is drawn for gaps.

    """
    first: FloatArray = _completed(encoding, rows, seed=seed)[0][0]
    return first


def held_out_features(encoding: TableEncoding, data: Data, *, seed: int) -> FloatArray:
    """Give the held-out rows as features, (m, width); see `completed_features`."""
    features = _encoded_held_out(encoding, data, seed=seed)
    return completed_features(encoding, data, seed=seed)[1] if encoding.unused(features).any() else features


def completed_features(encoding: TableEncoding, data: Data, *, seed: int) -> tuple[FloatArray, FloatArray]:
    """Give the training rows and the held-out rows as features, (M, n, width) and (m, width).

    The training rows are completed M times, or once if nothing is hidden. What gaps of held-out rows hide is drawn
    from the distribution that was fitted to the training rows. If it were drawn from the column alone, a model that has
    learnt how the columns depend on each other would have a greater loss than a model of independent columns.

    Args:
        encoding: fitted to the training rows.
        data: both kinds of rows.
        seed: of the training.

    """
    training, fitted = _completed(encoding, data.train, seed=seed)
    held_out = _encoded_held_out(encoding, data, seed=seed)
    if fitted is not None:
        rng = seeding.stream(seed, "values behind held-out gaps")
        held_out = _redrawn(encoding, held_out, fitted, rng)
    return training, held_out


def _encoded_held_out(encoding: TableEncoding, data: Data, *, seed: int) -> FloatArray:
    """Encode the held-out rows, (m, width), with what gaps hide drawn from each column alone."""
    return encoding.encode(data.held_out, seeding.stream(seed, "dequantise held-out rows"))


def _completed(encoding: TableEncoding, rows: pl.DataFrame, *, seed: int) -> tuple[FloatArray, Gaussians | None]:
    """Give training rows as features (M, n, width), and the mixture from which the values behind gaps were drawn.

    The mixture is a density of the features that hold values. It is None where there are no gaps, or too many features.
    """
    features = encoding.encode(rows, seeding.stream(seed, "dequantise"))
    unused = encoding.unused(features)
    if not unused.any():
        return features[None], None
    places, discrete = _value_features(encoding)
    if len(places) > MOST_FEATURES:
        warnings.warn(
            f"What gaps and point masses hide is drawn from each column alone before training, because {len(places):,} "
            f"features hold values, more than {MOST_FEATURES}. The columns with gaps will depend less on other columns "
            "than the data show.",
            stacklevel=1,
        )
        return features[None], None
    rng = seeding.stream(seed, "values behind gaps")
    fitted = _fitted(features[:, places], unused[:, places], discrete, rng, seed=seed)
    completions = [_redrawn(encoding, features, fitted, rng) for _ in range(_number_of_completions(len(features)))]
    return (np.stack(completions) if len(completions) > 1 else completions[0][None]), fitted  # no copy of many rows


def _number_of_completions(n: int) -> int:
    """Give M, the number of completions of n rows."""
    return min(MOST_COMPLETIONS, max(1, MOST_FITTED // n))


def _value_features(encoding: TableEncoding) -> tuple[npt.NDArray[np.intp], list[DiscreteSpan]]:
    """Give the places of the features that hold values; the other features say whether a cell is there.

    The second value has the spans of few values among them. A span says where it starts among the features that hold
    values.
    """
    flags = [feature for feature, _ in encoding.presence.values()]
    values = np.setdiff1d(np.arange(encoding.width), flags)
    place_of = {int(feature): place for place, feature in enumerate(values)}
    discrete = [
        span.moved(place_of[span.start] - span.start) for span in encoding.layout.discrete if span.start in place_of
    ]
    return values, discrete


def _fitted(
    z: FloatArray, unused: Mask, discrete: Sequence[DiscreteSpan], rng: np.random.Generator, *, seed: int
) -> Gaussians:
    """Fit the mixture of the features z (n, width), of which some are unused; see the module."""
    fitted_to = rng.permutation(len(z))[:MOST_FITTED]
    z, hidden = z[fitted_to], unused[fitted_to]

    def drawn(z: FloatArray, p: Gaussians) -> FloatArray:
        return _snapped(draw_hidden(z, hidden, p, rng), hidden, discrete)

    for _ in range(ROUNDS):
        z = drawn(z, _shrunk_gaussian(z))
    fitted = fit_mixture(dequantised(z, discrete, seed=seed), seed=seed)
    recent: deque[FloatArray] = deque(maxlen=_number_of_completions(len(z)))
    for _ in range(ROUNDS):
        recent.append(drawn(z, fitted.gaussians))
        fitted = fitted.refit(dequantised(np.concatenate(recent), discrete, seed=seed))
    return fitted.gaussians


def _redrawn(encoding: TableEncoding, features: FloatArray, fitted: Gaussians, rng: np.random.Generator) -> FloatArray:
    """Draw the unused features of rows (n, width) from the mixture, given the other features of each row."""
    features, unused = features.copy(), encoding.unused(features)
    places, discrete = _value_features(encoding)
    hidden = unused[:, places]
    features[:, places] = _snapped(draw_hidden(features[:, places], hidden, fitted, rng), hidden, discrete)
    return features


def _shrunk_gaussian(z: FloatArray) -> Gaussians:
    """Fit one Gaussian with a shrunk covariance (Ledoit & Wolf 2004)."""
    from sklearn.covariance import LedoitWolf  # slow to import, and only tables with gaps need it

    fitted = LedoitWolf().fit(z)
    return Gaussians(np.ones(1), fitted.location_[None], fitted.covariance_[None])


def draw_hidden(z: FloatArray, hidden: Mask, gaussians: Gaussians, rng: np.random.Generator) -> FloatArray:
    """Draw the hidden features of rows z (n, width) from a mixture given the other features of the row; (n, width)."""
    z = z.copy()
    log_w = torch.from_numpy(np.log(gaussians.weights))
    mu, sigma = (torch.from_numpy(np.array(each)) for each in (gaussians.means, gaussians.covariances))
    entries = sigma.numel()
    for group in rows_by_pattern(hidden):
        for part in chunks_by_memory(group, hidden, entries):
            z[part] = _drawn(z[part], hidden[part], log_w, mu, sigma, rng)
    return z


def _drawn(
    z: FloatArray, hidden: Mask, log_w: Tensor, mu: Tensor, sigma: Tensor, rng: np.random.Generator
) -> FloatArray:
    """Draw the hidden features of the rows z (n, width) of one group; see `draw_hidden`."""
    shared = hidden[0] if (hidden == hidden[0]).all() else hidden
    weights, means, covariances = condition(log_w, mu, sigma, torch.from_numpy(z), torch.from_numpy(~shared))
    # The largest of log w plus Gumbel noise has the probabilities w.
    chosen = (weights + torch.from_numpy(rng.gumbel(size=tuple(weights.shape)))).argmax(1)
    rows = torch.arange(len(z))
    scales, axes = torch.linalg.eigh(covariances)
    factors = axes * scales.clamp(min=0).sqrt().unsqueeze(-2)
    factor = factors[chosen] if factors.dim() == 3 else factors[rows, chosen]
    noise = torch.from_numpy(rng.standard_normal(hidden.shape))
    drawn = means[rows, chosen] + (factor @ noise.unsqueeze(-1)).squeeze(-1)
    return np.where(hidden, drawn.numpy(), z)


def _snapped(z: FloatArray, drawn: Mask, discrete: Sequence[DiscreteSpan]) -> FloatArray:
    """Give drawn features that take few values the nearest of these values, (n, width)."""
    z = z.copy()
    for span in discrete:
        part = span.features
        z[:, part] = np.where(drawn[:, part], span.at(span.places(z)), z[:, part])
    return z


def rows_by_pattern(hidden: Mask) -> Iterator[npt.NDArray[np.intp]]:
    """Divide the rows that have gaps into groups, so that rows with the same gaps share the matrices of conditioning.

    Rows whose gaps few other rows have are mixed, and each of them has matrices of its own.

    Args:
        hidden: which cells or features are hidden, (n, width).

    Yields:
        The numbers of the rows of a group.

    """
    _, pattern_of, count = np.unique(hidden, axis=0, return_inverse=True, return_counts=True)
    pattern_of, some = pattern_of.reshape(-1), hidden.any(axis=1)
    common = count[pattern_of] >= LEAST_COMMON
    for pattern in np.unique(pattern_of[some & common]):
        places = np.flatnonzero(pattern_of == pattern)
        yield from np.split(places, range(MOST_TOGETHER, len(places), MOST_TOGETHER))
    rest = np.flatnonzero(some & ~common)
    yield from (part for part in np.split(rest, range(MOST_MIXED, len(rest), MOST_MIXED)) if len(part))


def chunks_by_memory(group: npt.NDArray[np.intp], hidden: Mask, entries: int) -> list[npt.NDArray[np.intp]]:
    """Divide a group of `rows_by_pattern` into chunks whose matrices have at most `MOST_NUMBERS` entries.

    Args:
        group: the numbers of the rows.
        hidden: see `rows_by_pattern`. Rows with the same gaps share their matrices, and stay one chunk.
        entries: the size of the matrices of one row, such as K·d².

    """
    mixed = not (hidden[group] == hidden[group[0]]).all()
    most = max(1, MOST_NUMBERS // max(1, entries)) if mixed else len(group)
    return np.split(group, range(most, len(group), most))
