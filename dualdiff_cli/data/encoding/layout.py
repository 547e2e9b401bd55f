"""Which features take few values, and which are given together: what training and denoisers know of an encoding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray

__all__ = ["DiscreteSpan", "FeatureLayout"]


@dataclass(frozen=True)
class DiscreteSpan:
    """Features that take few values: b is one-hot or, with a width of one, b is 0 or 1, and the features are μ + s·b.

    The *place* of a value is the position of the 1 in b or, with a width of one, b itself. A denoiser uses the span to
    answer with the mean of the values under their posterior probabilities.

    Attributes:
        start, width: which features, counted from the first feature of the column or of the table.
        shift: μ, one number a feature.
        scale: s, the same for all features of the span.

    """

    start: int
    width: int
    shift: tuple[float, ...]
    scale: float

    @property
    def features(self) -> slice:
        """Which features of a row these are."""
        return slice(self.start, self.start + self.width)

    def moved(self, start: int) -> Self:
        """Give the same span for features that begin so many places later."""
        return replace(self, start=self.start + start)

    def places(self, z: FloatArray) -> npt.NDArray[np.int64]:
        """Give the place of the value that is nearest to the features of each row, (n,).

        Args:
            z: all features of n rows, (n, d).

        """
        b = (z[:, self.features] - np.array(self.shift)) / self.scale
        places: npt.NDArray[np.int64] = b.argmax(axis=1) if self.width > 1 else (b[:, 0] > 0.5).astype(np.int64)
        return places

    def at(self, places: npt.NDArray[np.int64]) -> FloatArray:
        """Compute the features μ + s·b of values at places (n,), (n, width)."""
        b = places[:, None] == (np.arange(self.width) if self.width > 1 else 1)
        features: FloatArray = np.array(self.shift) + self.scale * b
        return features


@dataclass(frozen=True)
class FeatureLayout:
    """What training and denoisers have to know about the features of a table.

    Attributes:
        units: for each feature the number of its unit, ascending; the features of a unit are given together, or hidden
            together.
        discrete: the features that take few values.

    """

    units: tuple[int, ...]
    discrete: tuple[DiscreteSpan, ...] = ()

    @classmethod
    def plain(cls, width: int) -> Self:
        """Give the layout of so many continuous features, each a unit of its own."""
        return cls(tuple(range(width)))

    @property
    def width(self) -> int:
        """How many features there are."""
        return len(self.units)

    @property
    def numbers(self) -> list[int]:
        """Which features are numbers: all those that no discrete span has."""
        taken = {k for span in self.discrete for k in range(self.width)[span.features]}
        return [k for k in range(self.width) if k not in taken]
