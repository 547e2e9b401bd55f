"""The face of every model: whatever rows can be drawn from, whoever made it.

A diffusion model, a kernel density, a Gaussian mixture and an exported file are models, so that ``sample`` and
``evaluate`` take any of them. Code that works with a `Model` never asks of which kind the model is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl

from .. import seeding
from ..compute.memory import require_memory
from ..config.schema import RunConfig
from ..data import Data, FloatArray, TableEncoding
from ..errors import InputError
from ..metrics import Score
from ..store.run import Run

if TYPE_CHECKING:
    from ..compute.execution import AnyPrecision, Switch
    from .noise import FromNoise

__all__ = ["AS_DRAWN", "Drawing", "DrawingOptions", "Model", "draw_blocks"]

ROWS_PER_BLOCK = 8192
"""Rows that are drawn together, from one stream."""


@dataclass(frozen=True)
class DrawingOptions:
    """How rows are drawn, for models that leave a choice.

    Attributes:
        sampler, steps: the sampler and its number of steps; None takes the model's own.
        precision: of the network's matrix products; ``auto`` takes bfloat16 where that is clearly faster.
        compile: whether the denoiser is compiled; ``auto`` compiles it where there are enough rows to repay it.
        given: cells that every row is to have, by the name of the column.
        guidance: how strongly the rows follow the given cells; 1 draws from the conditional distribution.
        frame: the largest number of rows of a chunk, for a caller who may stop; None leaves it to the model.
        least: the number of rows that such a caller takes at least, which says whether compiling is repaid.
        redraw: whether absurd rows are drawn again, as whoever uses the rows wants it; scores and pictures of a model
            take its rows as they are.

    """

    sampler: str | None = None
    steps: int | None = None
    precision: AnyPrecision = "float32"
    compile: Switch = "auto"
    given: Mapping[str, Any] = field(default_factory=dict)
    guidance: float = 1.0
    frame: int | None = None
    least: int | None = None
    redraw: bool = True

    def refuse(self, model: str, *, sampler: bool = True, given: bool = True) -> None:
        """Refuse the options that a model does not have.

        Args:
            model: what the model is called in the message.
            sampler: whether a sampler is refused, too.
            given: whether given cells are refused, too.

        Raises:
            InputError: such an option was given.

        """
        options = {
            "--sampler": sampler and self.sampler is not None,
            "--sample-steps": sampler and self.steps is not None,
            "--precision": self.precision != "float32",
            "--compile": self.compile != "auto",
            "--given": given and bool(self.given),
            "--guidance": self.guidance != 1,
        }
        for option, is_there in options.items():
            if is_there:
                raise InputError(f"{option} does not apply to {model}.", f"Leave {option} out.")


AS_DRAWN = DrawingOptions(redraw=False)
"""How rows are drawn that are looked at or scored."""


@dataclass
class Drawing:
    """Rows on their way.

    Attributes:
        chunks: the rows, in frames of bounded size.
        facts: how the rows were drawn, as plain values; complete once all chunks have been taken.
        from_noise: how noise becomes rows; None for a model whose rows do not come from noise alone.

    """

    chunks: Iterator[pl.DataFrame]
    facts: dict[str, Any] = field(default_factory=dict)
    from_noise: FromNoise | None = None


class Model(ABC):
    """Whatever rows can be drawn from.

    Attributes:
        config: what was asked for when the model was trained.
        encoding: between the columns of the rows and the features that the model works with.

    """

    config: RunConfig
    encoding: TableEncoding

    has_density: ClassVar[bool] = False
    """Whether the model has a density; a column may have none in its own unit all the same."""

    @property
    def takes_given(self) -> bool:
        """Whether rows can be drawn around given cells, and gaps be filled."""
        return False

    @abstractmethod
    def draw(self, n: int, *, seed: int, options: DrawingOptions = DrawingOptions()) -> Drawing:
        """Draw n rows in memory that does not grow with n; a row depends on the seed and on its number alone.

        Raises:
            InputError: the model does not have an option that was given.

        """

    def sample(self, n: int, *, seed: int, options: DrawingOptions = DrawingOptions()) -> pl.DataFrame:
        """Draw n rows as one frame; see `draw`.

        Raises:
            InputError: the machine has too little memory for so many rows, or see `draw`.

        """
        require_memory(n, self.encoding.width)
        return pl.concat(self.draw(n, seed=seed, options=options).chunks)

    def fill(self, rows: pl.DataFrame, *, seed: int) -> pl.DataFrame:
        """Draw the missing cells of rows given the other cells of the row; see `conditioning.fill_gaps`.

        Raises:
            InputError: the model cannot do so.

        """
        raise InputError(
            f"The model {self.config.model.name} cannot fill gaps.", "Train one that can, such as dual-expert."
        )

    def log_density(self, rows: pl.DataFrame, *, seed: int = 0) -> FloatArray:
        """Give the log of the density at n rows, in nats and in the columns' own units, (n,).

        Args:
            rows: with the model's columns.
            seed: of the noise that spreads whole numbers over their unit interval.

        Raises:
            InputError: the model has no density.

        """
        raise InputError(f"The model {self.config.model.name} has no density.", "Leave out what needs the likelihood.")

    def density_note(self, rows: pl.DataFrame, *, seed: int = 0) -> str:
        """Say in a sentence what is to be known about the log-density; nothing where it is exact."""
        del rows, seed
        return ""

    def losses(self, run: Run, data: Data, *, seed: int) -> dict[str, Score]:
        """Score what the model was trained to minimise; nothing for a model without such a loss."""
        del run, data, seed
        return {}


def draw_blocks(
    decode: Callable[[FloatArray], pl.DataFrame],
    block: Callable[[int, np.random.Generator], FloatArray],
    n: int,
    *,
    seed: int,
) -> Iterator[pl.DataFrame]:
    """Draw n rows block by block, each block with a stream of its own, so that n does not change a row.

    Args:
        decode: turns features (rows, width) into rows.
        block: draws a number of rows as features (rows, width) with a generator.
        n, seed: of the rows.

    """
    for k in range(-(-n // ROWS_PER_BLOCK)):
        features = block(ROWS_PER_BLOCK, seeding.stream(seed, f"block {k}"))
        yield decode(features[: n - k * ROWS_PER_BLOCK])
