"""Rows that meet a rare condition: drawn rows that do, moved on within the condition.

A model's row is a function G(z) of standard normal noise z. The proposal

    z' = √(1 − β²) z + β ξ,    ξ ~ N(0, I),

leaves N(0, I) as it is, and is reversible, whatever β is (Cotter, Roberts, Stuart & White 2013, "MCMC methods for
functions: modifying old algorithms to make them faster", eq. 4.8), and also where only some components of z are moved,
so that a component on which the condition hardly depends can go far. So a chain that goes to z' where G(z') meets the
condition, and else stays, leaves the distribution of z given the condition as it is. The chains start at rows that were
drawn and met the condition, and have their distribution. So every row of a chain has exactly the distribution of a row
that was selected among drawn rows; only, the rows of a chain are not independent of each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from .. import seeding
from ..models import FromNoise

__all__ = ["MOST_CHAINS", "MOVES", "Chains"]

STEP_SIZES = (0.8, 0.5, 0.3, 0.2, 0.1)
"""β of one move after the other: large ones go far, small ones are accepted more often."""
ROUNDS = 8
"""The moves with all sizes are made so many times before the rows of the chains are taken."""
MOVES = ROUNDS * len(STEP_SIZES)
"""The number of moves between two rows of a chain."""
MOST_CHAINS = 2_048
"""So many chains run side by side at most."""

Accepts = Callable[[pl.DataFrame], npt.NDArray[np.bool_]]
"""Says which of n rows meet a condition, (n,)."""


class Chains:
    """Chains of rows that meet a condition.

    Args:
        from_noise: the model's function from noise to rows.
        accepts: the condition.
        starts: noise of rows that meet the condition, (draws, k, width). The noise of a row that was out of reach and
            had to be drawn again is left out.
        seed: of the moves.

    Attributes:
        independent: how many rows the chains start at.
        proposed, accepted: how many moves there have been.

    """

    def __init__(self, from_noise: FromNoise, accepts: Accepts, starts: Tensor, *, seed: int) -> None:
        rows, good = from_noise.rows(starts)
        holds = good & accepts(rows)
        self.independent = int(holds.sum())
        self._from_noise, self._accepts = from_noise, accepts
        self._starts, self._rows = starts[:, torch.from_numpy(holds)], rows.filter(holds)
        self._stream = seeding.torch_stream(seed, "moves within a condition")
        self.proposed = self.accepted = 0

    def rows(self, n: int) -> Iterator[pl.DataFrame]:
        """Give n rows, in frames with one row a chain; all chains have moved `MOVES` times between two frames."""
        chains = min(max(n, self.independent), MOST_CHAINS)
        number = np.arange(chains) % self.independent
        z, rows = self._starts[:, torch.from_numpy(number)], self._rows[number]
        for first in range(0, n, chains):
            for beta in STEP_SIZES * ROUNDS:
                z, rows = self._moved(z, rows, beta)
            yield rows.head(n - first)

    def _moved(self, z: Tensor, rows: pl.DataFrame, beta: float) -> tuple[Tensor, pl.DataFrame]:
        """Move the noise of about half the features of every chain, or leave the chain where it is."""
        xi = torch.randn(z.shape, generator=self._stream)
        features = torch.rand(z.shape[1:], generator=self._stream) < 0.5
        proposal = torch.where(features, math.sqrt(1 - beta**2) * z + beta * xi, z)
        candidates, good = self._from_noise.rows(proposal)
        moves = good & self._accepts(candidates)
        self.proposed += len(moves)
        self.accepted += int(moves.sum())
        # Of the two tables, one above the other, every chain takes the row of its own number.
        numbers = np.arange(len(moves)) + np.where(moves, 0, len(moves))
        return torch.where(torch.from_numpy(moves)[:, None], proposal, z), pl.concat([candidates, rows])[numbers]
