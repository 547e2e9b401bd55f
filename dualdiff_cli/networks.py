"""The networks: residual MLPs, alone or as experts that a gate mixes or the noise level chooses.

A network maps noisy points x, the time t and the share s of noise in x (its standard deviation) to vectors of x's
shape; it knows nothing of noise schedules. An expert is a residual MLP of the embeddings e(x), e(t), and several of
them make

    F(x, t) = Σ_i g_i·e_i(x, t),    g = (σ(a), 1 − σ(a)) for two experts, softmax(a) for more,

with the gate's logits a computed from the point and the time (the paper's), or from the time alone; or

    F(x, t) = e_i(x, t),    i = ⌊E·t/T⌋,

where each of the E experts has its own share of the noise levels and is the only one evaluated there.
"""

from __future__ import annotations

import bisect
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import ModelConfig
from .embeddings import EMBEDDING_WIDTH, MultiscaleEmbedding, PaperEmbedding, SinusoidalEmbedding

__all__ = [
    "ChosenExperts",
    "GatedExperts",
    "Network",
    "ResidualMLP",
    "build_network",
    "count_parameters",
    "matched_width",
]

Activation = Literal["relu", "silu"]


class SplitLinear(nn.Linear):
    """Linear on [e_x, e_t] as W_x e_x + W_t e_t + b, where e_t may be a single row: then it is a bias for the batch."""

    def __init__(self, width_x: int, width_t: int, width_out: int) -> None:
        super().__init__(width_x + width_t, width_out)
        self.width_x = width_x

    def forward(self, e_x: Tensor, e_t: Tensor) -> Tensor:  # type: ignore[override]
        """(n, width_x), (n or 1, width_t) → (n, width_out); without e_x's columns as many rows as e_t."""
        from_t = functional.linear(e_t, self.weight[:, self.width_x :], self.bias)
        return functional.linear(e_x, self.weight[:, : self.width_x]) + from_t if self.width_x else from_t


class ResidualBlock(nn.Module):
    """h + Linear(act(h + b_t)), with a bias b_t = Linear(e_t) that starts at zero, or without one."""

    def __init__(self, width: int, *, activation: Activation, width_t: int) -> None:
        super().__init__()
        self.activation = getattr(functional, activation)
        self.linear = nn.Linear(width, width)
        self.time = nn.Linear(width_t, width) if width_t else None
        if self.time is not None:
            nn.init.zeros_(self.time.weight)
            nn.init.zeros_(self.time.bias)

    def forward(self, h: Tensor, e_t: Tensor) -> Tensor:
        """(n, width), (n or 1, width_t) → (n, width)."""
        shifted = h if self.time is None else h + self.time(e_t)
        output: Tensor = h + self.linear(self.activation(shifted))
        return output


class Trunk(nn.Module):
    """An MLP on the embedding: first layer, residual blocks, head. Expert and gate are both of this kind.

    Args:
        width_x, width_t: of the embeddings of point and time.
        width, blocks: of the body.
        head_hidden: hidden widths of the head.
        out: outputs.
        activation: between layers.
        time_bias: whether every block is told the time, and not the first layer only.

    """

    def __init__(
        self,
        width_x: int,
        width_t: int,
        *,
        width: int,
        blocks: int,
        head_hidden: Sequence[int],
        out: int,
        activation: Activation,
        time_bias: bool,
    ) -> None:
        super().__init__()
        self.activation = getattr(functional, activation)
        self.first = SplitLinear(width_x, width_t, width)
        self.blocks = nn.ModuleList(
            ResidualBlock(width, activation=activation, width_t=width_t if time_bias else 0) for _ in range(blocks)
        )
        self.head = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([width, *head_hidden, out]))

    def forward(self, e_x: Tensor, e_t: Tensor) -> Tensor:
        """(n, width_x), (n or 1, width_t) → (n, out)."""
        h: Tensor = self.first(e_x, e_t)
        for block in self.blocks:
            h = block(h, e_t)
        for layer in self.head:
            h = layer(self.activation(h))
        return h


class Network(nn.Module, ABC):
    """F(x, t): the embeddings of point and time, and trunks of one configuration on them."""

    def __init__(self, config: ModelConfig, dim: int) -> None:
        super().__init__()
        self.dim, self.experts, self._config = dim, config.experts, config
        if config.embedding == "multiscale":
            assert config.finest_frequency is not None, "settled from the data before a run begins"
            self.point: PaperEmbedding | MultiscaleEmbedding = MultiscaleEmbedding(dim, finest=config.finest_frequency)
        else:
            self.point = PaperEmbedding(dim)
        self.time = SinusoidalEmbedding()

    @abstractmethod
    def forward(self, x: Tensor, t: Tensor, s: Tensor, *, stratified: bool = False) -> Tensor:
        """F(x, t), (n, d).

        Args:
            x: points, (n, d).
            t, s: times and shares of noise, (n,) or (1,).
            stratified: whether t has one time in each of n equal slices of its axis, in rising order.

        """

    def _embed(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        return self.point(x, s.unsqueeze(-1)), self.time(t)

    def _trunk(self, *, width: int) -> Trunk:
        c = self._config
        return Trunk(
            self.point.width,
            EMBEDDING_WIDTH,
            width=width,
            blocks=c.blocks,
            head_hidden=c.head_hidden,
            out=self.dim,
            activation=c.activation,
            time_bias=c.time_bias,
        )


class ResidualMLP(Network):
    """One trunk on the embedded point; with the paper's settings its baseline."""

    def __init__(self, config: ModelConfig, dim: int, *, width: int) -> None:
        super().__init__(config, dim)
        self.trunk = self._trunk(width=width)

    def forward(self, x: Tensor, t: Tensor, s: Tensor, *, stratified: bool = False) -> Tensor:
        """F(x, t); see `Network.forward`."""
        del stratified
        output: Tensor = self.trunk(*self._embed(x, t, s))
        return output


class GatedExperts(Network):
    """Experts mixed by a gate; the paper's DualDiff is the case of two."""

    def __init__(self, config: ModelConfig, dim: int) -> None:
        super().__init__(config, dim)
        self.trunks = nn.ModuleList(self._trunk(width=config.width) for _ in range(config.experts))
        self.gate_trunk = Trunk(
            self.point.width if config.gate_on == "point" else 0,
            EMBEDDING_WIDTH,
            width=config.gate_hidden[0],
            blocks=0,
            head_hidden=config.gate_hidden[1:],
            out=1 if config.experts == 2 else config.experts,
            activation="relu",
            time_bias=False,
        )

    def forward(self, x: Tensor, t: Tensor, s: Tensor, *, stratified: bool = False) -> Tensor:
        """F(x, t); see `Network.forward`."""
        del stratified
        e_x, e_t = self._embed(x, t, s)
        outputs = torch.stack([trunk(e_x, e_t) for trunk in self.trunks], dim=-1)
        return (outputs * self._weights(e_x, e_t).unsqueeze(1)).sum(-1)

    def gate(self, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """g(x, t): as for the network → (n, experts), rows that sum to one."""
        return self._weights(*self._embed(x, t, s)).expand(len(x), self.experts)

    def _weights(self, e_x: Tensor, e_t: Tensor) -> Tensor:
        logits: Tensor = self.gate_trunk(e_x, e_t)
        if self.experts == 2:
            g = torch.sigmoid(logits)
            return torch.cat([g, 1 - g], dim=-1)
        return torch.softmax(logits, dim=-1)


class ChosenExperts(Network):
    """Experts that each have an equal share of the time axis [0, T], with no gate to learn.

    A point costs one expert. In a stratified batch every expert has the same number of neighbouring rows; in any other
    all are evaluated and one is kept, so that no shape depends on the times.

    Args:
        config: its ``experts`` is E ≥ 2.
        dim: number of columns d.
        span: T, the length of the time axis.

    """

    def __init__(self, config: ModelConfig, dim: int, *, span: float) -> None:
        super().__init__(config, dim)
        self.span = span
        self.trunks = nn.ModuleList(self._trunk(width=config.width) for _ in range(config.experts))

    def forward(self, x: Tensor, t: Tensor, s: Tensor, *, stratified: bool = False) -> Tensor:
        """F(x, t); see `Network.forward`."""
        e_x, e_t = self._embed(x, t, s)
        if len(t) == 1:
            return self._alone(e_x, e_t, self._choice(t))
        if stratified and len(t) % self.experts == 0:
            rows = zip(self.trunks, e_x.chunk(self.experts), e_t.chunk(self.experts), strict=True)
            return torch.cat([trunk(*row) for trunk, *row in rows])
        outputs = torch.stack([trunk(e_x, e_t) for trunk in self.trunks], dim=-1)
        return (outputs * self.gate(x, t, s).unsqueeze(1)).sum(-1)

    def gate(self, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """The choice as weights: as for the network → (n, experts), each row a one among zeros."""
        del s
        return functional.one_hot(self._choice(t), self.experts).to(x.dtype).expand(len(x), self.experts)

    def _choice(self, t: Tensor) -> Tensor:
        """The expert's number, ⌊E·t/T⌋, of t's shape."""
        return (t * (self.experts / self.span)).long().clamp(0, self.experts - 1)

    def _alone(self, e_x: Tensor, e_t: Tensor, choice: Tensor) -> Tensor:
        """Evaluate one expert: (n, width_x), (1, width_t), (1,) → (n, d).

        Its weights are selected on the device: the number of an expert that had to be known here would be a wait for a
        GPU, and a constant in a traced graph.
        """
        states = [dict(trunk.named_parameters()) for trunk in self.trunks]
        weights = {
            name: torch.stack([state[name] for state in states]).index_select(0, choice).squeeze(0)
            for name in states[0]
        }
        output: Tensor = torch.func.functional_call(self.trunks[0], weights, (e_x, e_t))
        return output


def build_network(config: ModelConfig, dim: int, *, span: float = 100.0) -> Network:
    """Make the network that a configuration describes, with torch's default initialisation.

    Args:
        config: the description.
        dim: number of columns d.
        span: length of the time axis, as the network sees it.

    """
    if config.experts > 1:
        return ChosenExperts(config, dim, span=span) if config.gate_on == "level" else GatedExperts(config, dim)
    return ResidualMLP(config, dim, width=matched_width(config, dim) if config.match_parameters else config.width)


def count_parameters(network: nn.Module) -> int:
    """Count the trainable numbers."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def matched_width(config: ModelConfig, dim: int) -> int:
    """Width at which one network comes closest to ``config.match_parameters`` experts and their gate in parameters."""

    def parameters(width: int) -> int:
        with torch.device("meta"):
            return count_parameters(ResidualMLP(config, dim, width=width))

    gated = config.model_copy(update={"experts": config.match_parameters, "match_parameters": 0})
    with torch.device("meta"):
        target = count_parameters(build_network(gated, dim))
    # A block of width w has more than w² parameters, so the width sought is no larger than √target.
    above = bisect.bisect_left(range(1, math.isqrt(target) + 1), target, key=parameters) + 1
    return min(above, max(above - 1, 1), key=lambda width: abs(parameters(width) - target))
