"""The only place where a random generator is made: one seed, one independent stream a role.

A role is a word for what the numbers are used for, such as "weights" or "batches". Streams of different roles, and of
different seeds, are statistically independent (NumPy's ``SeedSequence``, whose spawn key is the role), so that nothing
which is drawn for one purpose repeats what is drawn for another. This package never seeds or reads a global generator;
for another package that reads NumPy's, `global_numpy` seeds it for the length of a block and then restores it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import polars as pl
    import torch

__all__ = ["block_stream", "global_numpy", "integer", "shuffled", "stream", "subsample", "torch_stream"]

AnyRows = TypeVar("AnyRows", "np.ndarray[Any, Any]", "pl.DataFrame", "torch.Tensor")


def stream(seed: int, role: str) -> np.random.Generator:
    """Make NumPy's generator for a role.

    Args:
        seed: not negative.
        role: what the numbers are used for.

    """
    return np.random.default_rng(_sequence(seed, role))


def torch_stream(seed: int, role: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Make torch's generator for a role, on a device."""
    import torch

    return torch.Generator(device).manual_seed(int(_sequence(seed, role).generate_state(1, np.uint64)[0] >> 1))


def integer(seed: int, role: str) -> int:
    """Draw the seed of a generator that a library makes for itself, such as scikit-learn's ``random_state``; < 2³²."""
    return int(_sequence(seed, role).generate_state(1, np.uint32)[0])


def shuffled(rows: AnyRows, most: int, rng: np.random.Generator) -> AnyRows:
    """Draw at most so many of n rows without replacement, in random order.

    Args:
        rows: an array or a tensor (n, …), or a frame.
        most: the largest number of rows that are drawn.
        rng: decides the order.

    """
    return rows[rng.permutation(len(rows))[:most]]


def subsample(rows: AnyRows, most: int, *, seed: int, role: str) -> AnyRows:
    """Give all rows as they are, or so many of them drawn at random where there are more; see `shuffled`.

    The first rows would not do in place of random ones: a table may be sorted.
    """
    return rows if len(rows) <= most else shuffled(rows, most, stream(seed, role))


@contextmanager
def global_numpy(seed: int, role: str) -> Iterator[None]:
    """Seed NumPy's global generator while the block calls another package that reads it, and restore it afterwards."""
    before = np.random.get_state()  # noqa: NPY002 - the other package leaves no choice
    np.random.seed(integer(seed, role))  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def block_stream(seed: int, block: int) -> np.random.Generator:
    """Make the generator of one block of samples: counter-based Philox with the key (seed, block).

    The stream is not told apart by a role but by the block's number, because programs without this package make the
    same noise for an exported sampler: all they need is NumPy and the two numbers.
    """
    return np.random.Generator(np.random.Philox(key=[seed, block]))


def _sequence(seed: int, role: str) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=tuple(role.encode()))
