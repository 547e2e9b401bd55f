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
    "GroupedLinear",
    "Network",
    "ResidualMLP",
    "build_network",
    "count_parameters",
    "matched_width",
    "round_products",
]

Activation = Literal["relu", "silu"]


class GroupedLinear(nn.Module):
    """x_i W_i + b_i for each of E groups: one batched product in place of E.

    The groups have an axis of their own, before the rows; where there is one group, or one that is chosen, there is
    no such axis.

    Args:
        groups: E.
        width_in, width_out: of every group.

    """

    def __init__(self, groups: int, width_in: int, width_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(groups, width_in, width_out))
        self.bias = nn.Parameter(torch.empty(groups, 1, width_out))

    @torch.no_grad()
    def reset(self, group: int) -> None:
        """Draw one group's weights as torch's linear layers do: uniform up to 1/√width_in."""
        _, width_in, width_out = self.weight.shape
        bound = width_in**-0.5
        self.weight[group] = torch.empty(width_out, width_in, device=self.weight.device).uniform_(-bound, bound).T
        self.bias[group] = torch.empty(1, width_out, device=self.bias.device).uniform_(-bound, bound)

    def forward(self, x: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Map each group's rows, or the same rows by each.

        Args:
            x: (n, width_in) or (E, n, width_in).
            chosen: the number of the only group that is wanted, (1,); its weights are selected where they are: a number
                that had to be known here would be a wait for a GPU, and a constant in a traced graph.

        Returns:
            (E, n, width_out), or (n, width_out) of one group.

        """
        return self._product(x, *self._wanted(chosen))

    def _wanted(self, chosen: Tensor | None) -> tuple[Tensor, Tensor]:
        if chosen is None:
            return self.weight, self.bias
        return self.weight.index_select(0, chosen), self.bias.index_select(0, chosen)

    @staticmethod
    def _product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if len(weight) == 1:
            return functional.linear(x, weight.squeeze(0).t(), bias.flatten())
        return torch.baddbmm(bias, x.expand(len(weight), -1, -1), weight)


class SplitLinear(GroupedLinear):
    """GroupedLinear on [e_x, e_t], where e_t may be a single row: then what it gives is a bias for all rows of e_x."""

    def __init__(self, groups: int, width_x: int, width_t: int, width_out: int) -> None:
        super().__init__(groups, width_x + width_t, width_out)
        self.width_x = width_x

    def forward(self, e_x: Tensor, e_t: Tensor, chosen: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """e_x (n, width_x), e_t (n or 1, width_t), with or without an axis of groups; as `GroupedLinear.forward`.

        Without e_x's columns there are as many rows as e_t has.
        """
        weight, bias = self._wanted(chosen)
        if not self.width_x:
            return self._product(e_t, weight, bias)
        if e_t.shape[-2] > 1:
            return self._product(torch.cat([e_x, e_t], dim=-1), weight, bias)
        row = self._product(e_t, weight[:, self.width_x :], bias)
        return self._product(e_x, weight[:, : self.width_x], row.reshape(bias.shape))


class ResidualBlock(nn.Module):
    """h + Linear(act(h + b_t)), with a bias b_t = Linear(e_t) that starts at zero, or without one."""

    def __init__(self, groups: int, width: int, *, activation: Activation, width_t: int) -> None:
        super().__init__()
        self.activation = getattr(functional, activation)
        self.linear = GroupedLinear(groups, width, width)
        self.time = GroupedLinear(groups, width_t, width) if width_t else None

    def reset(self, group: int) -> None:
        """Draw one group's weights."""
        self.linear.reset(group)
        if self.time is not None:
            self.time.reset(group)
            with torch.no_grad():
                self.time.weight[group] = 0
                self.time.bias[group] = 0

    def forward(self, h: Tensor, e_t: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Map h (E, n, width) or (n, width) of one group, e_t (n or 1, width_t) or one each → as h."""
        shifted = h if self.time is None else h + self.time(e_t, chosen)
        output: Tensor = h + self.linear(self.activation(shifted), chosen)
        return output


class Trunk(nn.Module):
    """E MLPs of one shape on the embedding: first layers, residual blocks, heads. Experts and gate are of this kind.

    Args:
        groups: E.
        width_x, width_t: of the embeddings of point and time.
        width, blocks: of the body.
        head_hidden: hidden widths of the head.
        out: outputs.
        activation: between layers.
        time_bias: whether every block is told the time, and not the first layer only.

    """

    def __init__(
        self,
        groups: int,
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
        self.first = SplitLinear(groups, width_x, width_t, width)
        told = width_t if time_bias else 0
        self.blocks = nn.ModuleList(
            ResidualBlock(groups, width, activation=activation, width_t=told) for _ in range(blocks)
        )
        self.head = nn.ModuleList(GroupedLinear(groups, a, b) for a, b in pairwise([width, *head_hidden, out]))
        for group in range(groups):  # one MLP after the other, so that each is what it would be alone
            for layer in (self.first, *self.blocks, *self.head):
                layer.reset(group)

    def forward(self, e_x: Tensor, e_t: Tensor, chosen: Tensor | None = None) -> Tensor:
        """e_x (n, width_x), e_t (n or 1, width_t), or one each → (E, n, out), or (n, out) of one group."""
        h: Tensor = self.first(e_x, e_t, chosen)
        for block in self.blocks:
            h = block(h, e_t, chosen)
        for layer in self.head:
            h = layer(self.activation(h), chosen)
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
        return functional.one_hot(self._choice(t), self.experts).to(x.dtype).expand(len(x), self.experts)

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


def round_products(network: nn.Module, dtype: torch.dtype) -> None:
    """Keep the weights of all products in a lower precision, in place, in which autocasting would round them anew."""
    for layer in network.modules():
        if isinstance(layer, GroupedLinear):
            layer.to(dtype)


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
