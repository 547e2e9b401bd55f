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

import torch
from torch import Tensor, nn

from ...config.schema import ModelConfig
from .embeddings import EMBEDDING_WIDTH, MultiscaleEmbedding, PaperEmbedding, SinusoidalEmbedding
from .layers import Trunk

__all__ = [
    "ChosenExperts",
    "GatedExperts",
    "Network",
    "ResidualMLP",
    "build_network",
    "count_parameters",
    "matched_width",
]


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

    def _trunk(self, *, groups: int, width: int) -> Trunk:
        c = self._config
        return Trunk(
            groups,
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
        self.trunk = self._trunk(groups=1, width=width)

    def forward(self, x: Tensor, t: Tensor, s: Tensor, *, stratified: bool = False) -> Tensor:
        """F(x, t); see `Network.forward`."""
        del stratified
        output: Tensor = self.trunk(*self._embed(x, t, s))
        return output


class GatedExperts(Network):
    """Experts mixed by a gate; the paper's DualDiff is the case of two."""

    def __init__(self, config: ModelConfig, dim: int) -> None:
        super().__init__(config, dim)
        self.trunks = self._trunk(groups=config.experts, width=config.width)
        self.gate_trunk = Trunk(
            1,
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
        return _mix(self.trunks(e_x, e_t), self._weights(e_x, e_t))

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
        self.trunks = self._trunk(groups=config.experts, width=config.width)

    def forward(self, x: Tensor, t: Tensor, s: Tensor, *, stratified: bool = False) -> Tensor:
        """F(x, t); see `Network.forward`."""
        e_x, e_t = self._embed(x, t, s)
        output: Tensor
        if len(t) == 1:
            output = self.trunks(e_x, e_t, self._choice(t))
            return output
        if stratified and len(t) % self.experts == 0:
            rows = (self.experts, len(t) // self.experts, -1)
            output = self.trunks(e_x.reshape(rows), e_t.reshape(rows))
            return output.flatten(0, 1)
        return _mix(self.trunks(e_x, e_t), self.gate(x, t, s))

    def gate(self, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """The choice as weights: as for the network → (n, experts), each row a one among zeros."""
        del s
        numbers = torch.arange(self.experts, device=t.device)  # one_hot would look at the values, which waits for a GPU
        return (self._choice(t).unsqueeze(-1) == numbers).to(x.dtype).expand(len(x), self.experts)

    def _choice(self, t: Tensor) -> Tensor:
        """The expert's number, ⌊E·t/T⌋, of t's shape."""
        return (t * (self.experts / self.span)).long().clamp(0, self.experts - 1)


def _mix(outputs: Tensor, weights: Tensor) -> Tensor:
    """Σ_i g_i·e_i: (E, n, d), (n or 1, E) → (n, d)."""
    return (outputs * weights.T.unsqueeze(2)).sum(0)


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
