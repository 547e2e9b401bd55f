"""All metrics: to add one, write a function of the shape of `Compute` in a file of its own and add one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol

from .classifier import classifier_tests
from .closeness import closeness_to_training
from .columns import association, distances_of_columns
from .divergence import kl_generated_real, kl_published, kl_real_generated
from .manifold import shares_of_manifolds
from .modes import scores_of_modes
from .prediction import prediction_of_target, unit_of_target
from .score import Points, Reference, Score
from .transport import exact_transport, sliced_transport

__all__ = ["METRICS", "Compute", "Metric"]


class Compute(Protocol):
    """A function that scores generated points, (m, d), against a reference."""

    def __call__(self, reference: Reference, generated: Points, *, intervals: bool) -> Mapping[str, Score]:
        """Give the scores by name; without `intervals`, a score may leave out an interval that takes long."""


@dataclass(frozen=True)
class Metric:
    """A function and the scores that it gives.

    Attributes:
        compute: the function.
        names: the names of its scores.
        units: the unit of each score, or a function that knows it from the reference.
        needs: the field of `Reference` without which the scores cannot be computed; `real` is always there.
        knows_floor: whether the function gives the floors, too, which then are not those of perfect samples.

    """

    compute: Compute
    names: tuple[str, ...]
    units: tuple[str | Callable[[Reference], str], ...]
    needs: str = "real"
    knows_floor: bool = False

    def unit(self, name: str, reference: Reference) -> str:
        """Give the unit of the score of this name."""
        unit = self.units[self.names.index(name)]
        return unit if isinstance(unit, str) else unit(reference)


_UNIT_OF_COLUMNS: Callable[[Reference], str] = attrgetter("unit")
"""The distances are in the unit of the columns."""


METRICS: Mapping[str, Metric] = {
    name: metric
    for metric in (
        Metric(kl_real_generated, ("kl_real_generated",), ("bits",)),
        Metric(kl_generated_real, ("kl_generated_real",), ("bits",)),
        Metric(kl_published, ("kl_published",), ("bits",), needs="published_real"),
        Metric(sliced_transport, ("sliced_wasserstein",), (_UNIT_OF_COLUMNS,)),
        Metric(exact_transport, ("wasserstein2",), (_UNIT_OF_COLUMNS,)),
        Metric(classifier_tests, ("classifier_two_sample", "classifier_auc"), ("accuracy", "AUC")),
        Metric(distances_of_columns, ("column_distance", "worst_column"), ("fraction", "fraction"), needs="parts"),
        Metric(association, ("association",), ("correlation",), needs="parts"),
        Metric(
            shares_of_manifolds,
            ("precision", "recall", "density", "coverage"),
            ("fraction", "fraction", "balls", "fraction"),
            needs="parts",
        ),
        Metric(prediction_of_target, ("tstr",), (unit_of_target,), needs="target"),
        Metric(
            closeness_to_training,
            ("memorisation", "copies"),
            ("fraction", "fraction"),
            needs="training",
            knows_floor=True,
        ),
        Metric(scores_of_modes, ("mode_coverage", "off_mode_share", "mode_share_tv"), ("fraction",) * 3, needs="modes"),
    )
    for name in metric.names
}
"""Each score's name and the metric that gives the score, in the order in which scores are shown."""
