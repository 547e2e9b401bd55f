"""What the data decides: settings that a configuration of a diffusion model leaves open."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from .peaks import find_peaks
from .schema import DiffusionConfig
from .sections import LARGEST_SIGMA_MIN, SettledConfig

__all__ = ["settle"]

NEIGHBOUR_QUERIES = 20_000
"""The largest number of rows whose neighbours are looked for; more would not change a median."""
LARGEST_OF_FOLDS = 0.005
"""The largest σ_min of a training in folds, whose rows lie too far apart to say how fine the distribution is."""
SMALLEST_SIGMA_MIN = 1e-4
OF_PEAK = 0.25
"""The largest σ_min beside a narrow peak, in units of its half-width: noise of this size hardly widens the peak."""
OF_TABLES = 0.25
"""The share of rows with given cells in the training on a table."""
DEFAULT_FREQUENCY = 100.0
"""The finest frequency, in radians per feature unit, under a schedule that has no σ_min of its own."""


def settle(config: DiffusionConfig, features: npt.NDArray[np.float64], *, table: bool = False) -> DiffusionConfig:
    """Fill in what the configuration leaves to the data, so that nothing of a run is left open.

    The least noise level σ_min is the median distance of a training row to its fifth-nearest neighbour, at most 0.02:
    below that distance there is nothing between the rows to learn, and a larger σ_min would blur what there is. In a
    training in folds it is 0.005. In both cases it is less where a feature has a narrow peak (`find_peaks`) that the
    noise would blur, but not less than 10⁻⁴. The finest frequency of the multiscale embedding is 1/σ_min. A model of
    a table learns the conditional distributions of its columns too, which nobody asks a density for. What is filled in
    is noted in ``config.settled``: if a configuration with such a note is used for another run, the data of
    that run decide anew.

    Args:
        config: what was asked for.
        features: the training rows as the network sees them, (n, width).
        table: whether the rows are those of a table, and not of a density.

    """
    config = unsettled(config)
    schedule, model, objective = config.schedule, config.model, config.objective
    open_conditional = objective.conditional is None
    if objective.conditional is None:
        coupled = objective.coupling != "independent" or objective.teacher is not None
        share = OF_TABLES if table and features.shape[1] > 1 and not coupled else 0.0
        objective = objective.model_copy(update={"conditional": share})
    open_sigma_min, open_frequency = schedule.sigma_min is None, model.finest_frequency is None
    if schedule.sigma_min is None and schedule.name in ("variance-exploding", "log-snr-uniform", "learned"):
        largest = LARGEST_OF_FOLDS if config.folds.number else min(_neighbour_distance(features), LARGEST_SIGMA_MIN)
        sigma_min = max(
            min([largest, *(OF_PEAK * peak.half_width for peak in find_peaks(features))]), SMALLEST_SIGMA_MIN
        )
        schedule = schedule.model_copy(update={"sigma_min": sigma_min})
    if model.embedding == "multiscale" and model.finest_frequency is None:
        finest = 1 / schedule.sigma_min if schedule.sigma_min is not None else DEFAULT_FREQUENCY
        model = model.model_copy(update={"finest_frequency": finest})
    settled = SettledConfig(
        sigma_min=schedule.sigma_min if open_sigma_min else None,
        finest_frequency=model.finest_frequency if open_frequency else None,
        conditional=objective.conditional if open_conditional else None,
    )
    parts = {"schedule": schedule, "objective": objective, "model": model, "settled": settled}
    return config.model_copy(update=parts)


def unsettled(config: DiffusionConfig) -> DiffusionConfig:
    """Leave to the data again what `settle` has filled in, unless it was changed since."""
    schedule, model, objective = config.schedule, config.model, config.objective
    if schedule.sigma_min == config.settled.sigma_min:
        schedule = schedule.model_copy(update={"sigma_min": None})
    if model.finest_frequency == config.settled.finest_frequency:
        model = model.model_copy(update={"finest_frequency": None})
    if objective.conditional == config.settled.conditional:
        objective = objective.model_copy(update={"conditional": None})
    parts = {"schedule": schedule, "objective": objective, "model": model, "settled": SettledConfig()}
    return config.model_copy(update=parts)


def _neighbour_distance(features: npt.NDArray[np.float64]) -> float:
    """Give the median distance of a row to its fifth-nearest neighbour among all rows (n, width).

    Neighbours beyond twice `LARGEST_SIGMA_MIN` are not looked for, which would take most of an hour in a table of a
    million rows and many columns: a median above `LARGEST_SIGMA_MIN` may be given as infinity, and one below it is
    exact.
    """
    from scipy.spatial import cKDTree  # slow to import

    # Rows are taken from all over the table, because a table may be sorted.
    asked = features[:: math.ceil(len(features) / NEIGHBOUR_QUERIES)]
    # The median of an even number is the mean of two distances, which is above the limit if one is above its double.
    distances, _ = cKDTree(features).query(asked, k=6, distance_upper_bound=2 * LARGEST_SIGMA_MIN, workers=-1)
    return float(np.median(distances[:, 5]))
