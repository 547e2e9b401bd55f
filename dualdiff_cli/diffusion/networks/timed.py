"""The network of TabDDPM (Kotelnikov et al. 2023, section 3): an MLP on the sum of the embedded row and time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .embeddings import EMBEDDING_WIDTH, SinusoidalEmbedding
from .layers import GroupedLinear

__all__ = ["TimedMLP"]


class TimedMLP(nn.Module):
    """MLP(Linear(x) + Linear(SiLU(Linear(φ(t))))), with ReLU between the layers of the MLP.

    The published dropout is left out, because the authors' search set it to zero on all tables. φ is the sinusoidal
    embedding of this project, whose frequencies are a little closer together than the authors'.

    Args:
        width: the number of entries of a row, of the input and of the output.
        hidden: the widths of the hidden layers of the MLP.
        generator: draws the weights.

    """

    def __init__(self, width: int, hidden: Sequence[int], *, generator: torch.Generator) -> None:
        super().__init__()
        embedded = EMBEDDING_WIDTH
        self.phi = SinusoidalEmbedding(embedded)
        self.row = GroupedLinear(1, width, embedded)
        self.time = nn.ModuleList([GroupedLinear(1, embedded, embedded), GroupedLinear(1, embedded, embedded)])
        self.layers = nn.ModuleList(GroupedLinear(1, a, b) for a, b in pairwise([embedded, *hidden, width]))
        for layer in self.modules():
            if isinstance(layer, GroupedLinear):
                layer.reset(0, generator)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Map rows x (n, width) and times t, (n,) or (1,), to (n, width)."""
        first, second = self.time
        h: Tensor = self.row(x) + second(functional.silu(first(self.phi(t))))
        *hidden, last = self.layers
        for layer in hidden:
            h = functional.relu(layer(h))
        out: Tensor = last(h)
        return out
