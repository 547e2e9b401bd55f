"""The networks: embeddings, residual MLPs, and experts mixed by a gate.

A network maps noisy points x, the time t and the share s of noise in x (its standard deviation) to vectors of x's
shape; it knows nothing of noise schedules. The paper embeds a point as

    e(x, t) = [φ(25·x_1), …, φ(25·x_d), φ(t)],    φ(s) = (sin(s·f_j), cos(s·f_j)),  f_j = 10000^(−j/63),  j = 0 … 63

(paper, "Networks"; φ is Vaswani et al. 2017, §3.5). An expert is a residual MLP of e, and a gated network returns

    F(x, t) = Σ_i g_i·e_i(x, t),    g = (σ(a), 1 − σ(a)) for two experts, softmax(a) for more,

with the gate's logits a computed from the point and the time, or from the time alone.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import ModelConfig

__all__ = ["GatedExperts", "ResidualMLP", "SinusoidalEmbedding", "build_network", "count_parameters", "matched_width"]

EMBEDDING_WIDTH = 128
Activation = Literal["relu", "silu"]


class SinusoidalEmbedding(nn.Module):
    """φ(scale·s) for every entry of s: (…,) → (…, width).

    Args:
        width: even number of features.
        scale: factor on s before the sines.

    """

    def __init__(self, width: int = EMBEDDING_WIDTH, *, scale: float = 1.0) -> None:
        super().__init__()
        half = width // 2
        frequencies = scale * 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / (half - 1))
        self.frequencies: Tensor
        self.register_buffer("frequencies", frequencies.float(), persistent=False)

    def forward(self, s: Tensor) -> Tensor:
        """Embed s."""
        angles = s.unsqueeze(-1) * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class PaperEmbedding(nn.Module):
    """φ(25·x_i) for every coordinate; the share of noise plays no part."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.width = dim * EMBEDDING_WIDTH
        self.phi = SinusoidalEmbedding(scale=25.0)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        """(n, d), (n or 1, 1) → (n, width)."""
        features: Tensor = self.phi(x).flatten(1)
        return features


class MultiscaleEmbedding(nn.Module):
    """(sin(f_j x_i), cos(f_j x_i))·exp(−f_j² s²/2) and x itself, f_j in equal ratios from 1 to the finest that matters.

    The factor is what Gaussian noise of width s leaves of a sine on average, so that a feature fades where the noise
    hides what it resolves (integrated positional encoding: Barron et al. 2021, "Mip-NeRF", eq. 14).

    Args:
        dim: number of columns d.
        finest: the highest frequency, in radians per unit of x.

    """

    def __init__(self, dim: int, *, finest: float) -> None:
        super().__init__()
        self.width = dim * (EMBEDDING_WIDTH + 1)
        self.frequencies: Tensor
        frequencies = finest ** torch.linspace(0, 1, EMBEDDING_WIDTH // 2, dtype=torch.float64)
        self.register_buffer("frequencies", frequencies.float(), persistent=False)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        """(n, d), (n or 1, 1) → (n, width)."""
        angles = x.unsqueeze(-1) * self.frequencies
        seen = torch.exp(-0.5 * (self.frequencies * s) ** 2).unsqueeze(1)
        return torch.cat([(angles.sin() * seen).flatten(1), (angles.cos() * seen).flatten(1), x], dim=1)


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


class _Embedded(nn.Module):
    """What every network begins with: the embeddings of point and time, and trunks of one configuration on them."""

    def __init__(self, config: ModelConfig, dim: int) -> None:
        super().__init__()
        self.dim, self.experts, self._config = dim, config.experts, config
        if config.embedding == "multiscale":
            assert config.finest_frequency is not None, "settled from the data before a run begins"
            self.point: PaperEmbedding | MultiscaleEmbedding = MultiscaleEmbedding(dim, finest=config.finest_frequency)
        else:
            self.point = PaperEmbedding(dim)
        self.time = SinusoidalEmbedding()

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


class ResidualMLP(_Embedded):
    """One trunk on the embedded point; with the paper's settings its baseline."""

    def __init__(self, config: ModelConfig, dim: int, *, width: int) -> None:
        super().__init__(config, dim)
        self.trunk = self._trunk(width=width)

    def forward(self, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """F(x, t): points (n, d), times and shares of noise (n,) or (1,) → (n, d)."""
        output: Tensor = self.trunk(*self._embed(x, t, s))
        return output


class GatedExperts(_Embedded):
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

    def forward(self, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """F(x, t): points (n, d), times and shares of noise (n,) or (1,) → (n, d)."""
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


def build_network(config: ModelConfig, dim: int) -> ResidualMLP | GatedExperts:
    """Make the network that a configuration describes, for d = dim columns, with torch's default initialisation."""
    if config.experts > 1:
        return GatedExperts(config, dim)
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
