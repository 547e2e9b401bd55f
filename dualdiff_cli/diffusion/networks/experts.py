"""The networks: one residual MLP, or several residual MLPs as experts that a gate mixes or the noise level chooses.

A network F maps noisy points x, the time t and the share s of noise in x (the standard deviation of the noise) to
vectors of the shape of x. A network knows nothing about noise schedules. An expert e_i is a residual MLP of the
embeddings of x and t. A gate mixes E experts by

    F(x, t) = Σ_i g_i·e_i(x, t),    g = (sigmoid(a), 1 − sigmoid(a)) for E = 2, softmax(a) for E > 2,

where the logits a depend on point and time, as in the paper, or on the time alone. Alternatively,

    F(x, t) = e_i(x, t),    i = ⌊E·t/T⌋,

where each expert has its own share of the noise levels, and only this expert is evaluated there.
"""

from __future__ import annotations

import bisect
import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ...config.sections import NetworkSettings
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
    """F(x, t): embeddings of point and time, and trunks on these embeddings.

    The weights are undefined until `reset` has drawn them; `build_network` does both.

    Args:
        config: the description of the network.
        dim: d, the number of columns.

    """

    def __init__(self, config: NetworkSettings, dim: int) -> None:
        super().__init__()
        self.dim, self.experts, self._config = dim, config.experts, config
        if config.embedding == "multiscale":
            assert config.finest_frequency is not None, "settled from the data before a run begins"
            self.point: PaperEmbedding | MultiscaleEmbedding = MultiscaleEmbedding(
                dim, finest=config.finest_frequency, number=config.frequencies
            )
        else:
            self.point = PaperEmbedding(dim)
        self.time = SinusoidalEmbedding()

    @abstractmethod
    def forward(self, x: Tensor, t: Tensor, s: Tensor, *, stratified: bool = False) -> Tensor:
        """Evaluate F(x, t).

        Args:
            x: noisy points, (n, d).
            t: times, (n,) or (1,).
            s: shares of noise, (n,) or (1,), or one of each coordinate, (n, d).
            stratified: whether t has one time in each of n equal slices of the time axis, in increasing order.

        Returns:
            (n, d).

        """

    def reset(self, generator: torch.Generator) -> None:
        """Draw the weights of all trunks."""
        for part in self.children():
            if isinstance(part, Trunk):
                part.reset(generator)

    def _embed(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        return self.point(x, s if s.dim() == 2 else s.unsqueeze(-1)), self.time(t)

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
    """One trunk; with the paper's settings, the paper's baseline.

    Args:
        config, dim: see `Network`.
        width: the width of the residual blocks.

    """

    def __init__(self, config: NetworkSettings, dim: int, *, width: int) -> None:
        super().__init__(config, dim)
        self.trunk = self._trunk(groups=1, width=width)

    def forward(self, x: Tensor, t: Tensor, s: Tensor, *, stratified: bool = False) -> Tensor:
        """F(x, t); see `Network.forward`."""
        del stratified
        output: Tensor = self.trunk(*self._embed(x, t, s))
        return output


class GatedExperts(Network):
    """Experts that a gate mixes; the paper's DualDiff has two.

    Args:
        config, dim: see `Network`.

    """

    def __init__(self, config: NetworkSettings, dim: int) -> None:
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
        """Evaluate the weights g for the arguments of `Network.forward`: (n, E), with rows that sum to one."""
        return self._weights(*self._embed(x, t, s)).expand(len(x), self.experts)

    def _weights(self, e_x: Tensor, e_t: Tensor) -> Tensor:
        logits: Tensor = self.gate_trunk(e_x, e_t)
        if self.experts == 2:
            g = torch.sigmoid(logits)
            return torch.cat([g, 1 - g], dim=-1)
        return torch.softmax(logits, dim=-1)


class ChosenExperts(Network):
    """Experts that each have an equal share of the time axis [0, T]; no gate is learned.

    A call with one time evaluates one expert. In a stratified batch each expert evaluates the same number of
    neighbouring rows. In any other batch all experts are evaluated and one answer per row is kept, so that no shape
    depends on the values of the times.

    Args:
        config, dim: see `Network`; the configuration has E ≥ 2 experts.
        span: T.

    """

    def __init__(self, config: NetworkSettings, dim: int, *, span: float) -> None:
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
        """Give the choice as weights, for the arguments of `Network.forward`: (n, E), each row a one and zeros."""
        del s
        numbers = torch.arange(self.experts, device=t.device)  # one_hot reads the values: it waits for a GPU
        return (self._choice(t).unsqueeze(-1) == numbers).to(x.dtype).expand(len(x), self.experts)

    def _choice(self, t: Tensor) -> Tensor:
        """⌊E·t/T⌋, the number of the expert, in the shape of t."""
        return (t * (self.experts / self.span)).long().clamp(0, self.experts - 1)


def _mix(outputs: Tensor, weights: Tensor) -> Tensor:
    """Σ_i g_i·e_i for outputs (E, n, d) and weights (n or 1, E): (n, d)."""
    return (outputs * weights.T.unsqueeze(2)).sum(0)


def build_network(config: NetworkSettings, dim: int, *, generator: torch.Generator, span: float = 100.0) -> Network:
    """Make the network that a configuration describes, with the initialisation of torch's linear layers.

    Args:
        config: the description of the network.
        dim: d, the number of columns.
        generator: draws the initial weights; a generator on the CPU.
        span: T, the length of the time axis as the network sees it.

    """
    network = _shaped(config, dim, span=span)
    network.reset(generator)
    return network


def _shaped(config: NetworkSettings, dim: int, *, span: float = 100.0) -> Network:
    """Make the network without drawing its weights."""
    if config.experts > 1:
        return ChosenExperts(config, dim, span=span) if config.gate_on == "level" else GatedExperts(config, dim)
    return ResidualMLP(config, dim, width=matched_width(config, dim) if config.match_parameters else config.width)


def count_parameters(network: nn.Module) -> int:
    """Count the trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def matched_width(config: NetworkSettings, dim: int) -> int:
    """Find the width at which one MLP comes closest in parameters to ``match_parameters`` experts and their gate."""

    def parameters(width: int) -> int:
        with torch.device("meta"):
            return count_parameters(ResidualMLP(config, dim, width=width))

    gated = config.model_copy(update={"experts": config.match_parameters, "match_parameters": 0})
    with torch.device("meta"):
        target = count_parameters(_shaped(gated, dim))
    # A block of width w has more than w² parameters, so the width is at most √target.
    above = bisect.bisect_left(range(1, math.isqrt(target) + 1), target, key=parameters) + 1
    return min(above, max(above - 1, 1), key=lambda width: abs(parameters(width) - target))
