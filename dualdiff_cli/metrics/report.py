"""All scores of one set of generated points, each beside its floor.

A floor is the same metric, computed in the same way, with fresh true points in place of the generated ones. The real
points are the same in the value and in its floor, so the scatter of the real points cancels where the two are compared.
Both are of equally many points, because most metrics depend on the number of points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import unknown_name
from ..seeding import subsample
from .registry import METRICS
from .score import NORMAL_95, ColumnPart, Points, Reference, Score, as_points, column_scale, median_rows

if TYPE_CHECKING:
    from ..data import Modes

__all__ = ["SCORED_FROM", "STANDARDISED", "score_generated"]

STANDARDISED = "standard deviations"
"""The unit that makes `score_generated` divide each column by its standard deviation."""

SCORED_FROM = 6
"""The number of held-out and of training points below which every score is unknown; of generated points it is refused.

It is the number of points that the most demanding metric needs: k + 1 for k = 5 neighbours."""


def score_generated(
    *,
    real: NDArray[Any],
    generated: NDArray[Any],
    perfect: Sequence[NDArray[Any]] | NDArray[Any] = (),
    training: NDArray[Any] | None = None,
    modes: Modes | None = None,
    published_real: NDArray[Any] | None = None,
    only: Collection[str] | None = None,
    unit: str = "data units",
    resolution: Sequence[float] | None = None,
    parts: Sequence[ColumnPart] | None = None,
    target: str | None = None,
    unused: Callable[[Points], NDArray[np.bool_]] | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Score]:
    """Score generated points against real ones that the model never saw.

    Where there are fewer perfect points than generated ones, each score that has its floor from them takes a random
    part of the generated points, as many as there are perfect ones. The divergences use all of these in up to five
    columns, and in more columns a part, at most 5,000 a side for d = 20 and in proportion to 1/√d. The scores of modes
    use all of them, and memorisation all held-out and all training points, as copies do with the training points. All
    else is computed from a part where the points are many. `n_real` and `n_generated` of each score say how many points
    it used. No metric needs memory that grows with the square of the number of points.

    Args:
        real: true points that took no part in the training, (n, d).
        generated: shape (m, d).
        perfect: true points in place of the generated ones, for the floors: arrays of shape (p, d) with p ≤ m, or one
            array of shape (R, p, d). They have to be independent of `real` and of `published_real`.
        training: all points that the model was trained on, (T, d), for memorisation and copies. A part of them would
            hide the copies of the others.
        modes: centres, radii and weights of the modes, in the units of the points, where the distribution has modes
            that are known; a plain tuple will do.
        published_real: the training points, where the divergence as the paper defines it is wanted too.
        only: names of the scores that are wanted; None takes all that the other arguments allow.
        unit: the unit of the columns, which is the unit of the transport distances. With "standard deviations" each
            column is divided by its standard deviation over `training`, or over `real` where `training` is None, and
            no score then depends on the units of the columns.
        resolution: for each column the distance of neighbouring values: 1 for whole numbers and 0 for real numbers. The
            divergences spread each value evenly over its resolution, because distances between repeated values are
            zero; all other scores take the values as they are. None where the points are real numbers or have been
            spread already.
        parts: which features belong to which column, for the scores of tables; None where the points are no table. A
            divergence is not computed if a column has features with few values.
        target: the column of `parts` that is to be predicted from the others; None where no column is.
        unused: says for points (n, d), in the units in which they are given, which of their features do not count,
            (n, d), such as the value of a gap; None where all of them do.
        seed: seed of everything random here.
        progress: called with the names of the scores that are computed next.

    Returns:
        Scores by name in the order of `METRICS`: kl_real_generated and kl_generated_real (bits), kl_published (bits;
        D(training points ‖ generated), with `published_real`), sliced_wasserstein, wasserstein2, classifier_two_sample,
        classifier_auc, with `parts` the scores of tables, with `target` tstr, with `training` memorisation and copies,
        and with `modes` mode_coverage, off_mode_share and mode_share_tv. A score for which the rows are too few has the
        value nan and a note that says so; of fewer than 6 real or training points that is every score.

    Raises:
        InputError: no real points, fewer than 6 generated or perfect ones, NaN or infinity, different numbers of
            columns, unfit modes, or an unknown name in `only`.

    """
    for name in only or ():
        if name not in METRICS:
            raise unknown_name("metric", name, METRICS)
    x = as_points(real, name="real", at_least=1)
    origin = median_rows(x)
    x = x - origin

    def moved(points: NDArray[Any], name: str, *, at_least: int = 1) -> Points:
        return as_points(points, name=name, at_least=at_least, columns=x.shape[1]) - origin

    y = moved(generated, "generated", at_least=SCORED_FROM)
    trained = None if training is None else moved(training, "training")
    # The columns are moved before they are divided; the other way round, a column far from zero would lose digits.
    scale = column_scale(x if trained is None else trained) if unit == STANDARDISED else np.ones(x.shape[1])
    reference = Reference(
        real=x / scale,
        training=None if trained is None else trained / scale,
        published_real=None if published_real is None else moved(published_real, "training") / scale,
        modes=None if modes is None else _moved_modes(modes, origin, scale),
        resolution=None if resolution is None else np.asarray(resolution, dtype=np.float64) / scale,
        parts=parts,
        target=target if parts is not None else None,
        unused=None if unused is None else lambda points: unused(points * scale + origin),
        unit=unit,
        seed=seed,
    )
    y = y / scale
    wanted_of = {
        metric: [name for name in metric.names if only is None or name in only]
        for metric in dict.fromkeys(METRICS.values())
        if getattr(reference, metric.needs) is not None
    }
    if too_few := _too_few(reference):
        unknown = Score(value=math.nan, unit="", ci95=None, n_real=len(x), n_generated=len(y), notes=(too_few,))
        return {
            name: replace(unknown, unit=metric.unit(name, reference))
            for metric, wanted in wanted_of.items()
            for name in wanted
        }
    draws = [moved(draw, "perfect", at_least=SCORED_FROM) / scale for draw in perfect]
    as_many = subsample(y, min(map(len, draws), default=len(y)), seed=seed, role="generated points")

    scores: dict[str, Score] = {}
    for metric, wanted in wanted_of.items():
        if not wanted:
            continue
        if progress is not None:
            progress(", ".join(wanted))
        floors = [] if metric.knows_floor else [metric.compute(reference, draw, intervals=False) for draw in draws]
        has_floor = bool(floors) and all(math.isfinite(floor[name].value) for floor in floors for name in wanted)
        found = metric.compute(reference, as_many if has_floor else y, intervals=True)
        scores |= {name: _with_floor(found[name], [floor[name] for floor in floors]) for name in wanted}
    return scores


def _too_few(reference: Reference) -> str | None:
    """Say which rows are too few for every score; None where there are enough."""
    sides = (
        ("held-out", reference.real),
        ("training", reference.training),
        ("training", reference.published_real),
    )
    for role, side in sides:
        if side is not None and len(side) < SCORED_FROM:
            rows = "row is" if len(side) == 1 else "rows are"
            return f"{len(side)} {role} {rows} too few for any score: at least {SCORED_FROM} are needed."
    return None


def _moved_modes(modes: Modes, origin: Points, scale: Points) -> Any:
    """Express modes in the units that the points are scored in."""
    centres, radii, weights = (np.asarray(part, dtype=np.float64) for part in modes)
    if centres.ndim != 2 or centres.shape[1] != len(origin):
        return centres, radii, weights  # refused by the metric, which names the shapes
    return (centres - origin) / scale, radii / scale, weights


def _with_floor(score: Score, perfect: Sequence[Score]) -> Score:
    if not perfect or math.isnan(score.value):  # no floor makes a value readable that the points do not determine
        return score
    values = [draw.value for draw in perfect if math.isfinite(draw.value)]
    if len(values) < len(perfect):
        return replace(score, notes=(*score.notes, "The perfect samples are too few for a floor of this score."))
    if len(values) > 1:
        spread: float | None = float(np.std(values, ddof=1))
    else:  # perfect samples scatter as those of a perfect model do
        spread = None if score.ci95 is None else (score.ci95[1] - score.ci95[0]) / (2 * NORMAL_95)
    return replace(score, floor=float(np.mean(values)), floor_spread=spread)
