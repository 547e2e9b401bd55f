"""The networks: sinusoidal embeddings, residual MLPs, and experts mixed by a gate.

A network maps (x, t) to a vector of x's shape and knows nothing of noise schedules. One point is embedded as

    e(x, t) = [φ(25·x_1), …, φ(25·x_d), φ(t)],    φ(s) = (sin(s·f_j), cos(s·f_j)),  f_j = 10000^(−j/63),  j = 0 … 63

(paper, "Networks"; φ is Vaswani et al. 2017, §3.5), an expert is a residual MLP of e, and a gated network returns

    F(x, t) = Σ_i g_i(x, t)·e_i(x, t),    g = (σ(a), 1 − σ(a)) for two experts, softmax(a) for more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import ModelConfig

__all__ = ["GatedExperts", "ResidualMLP", "SinusoidalEmbedding", "build_network", "count_parameters", "matched_width"]

EMBEDDING_WIDTH = 128


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


class PointEmbedding(nn.Module):
    """e(x, t), kept as its two parts so that one time for a whole batch is embedded once."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.width_x, self.width_t = dim * EMBEDDING_WIDTH, EMBEDDING_WIDTH
        self.x = SinusoidalEmbedding(scale=25.0)
        self.t = SinusoidalEmbedding()

    def forward(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """(n, d) and (n,) or (1,) → (n, 128·d) and (n, 128) or (1, 128)."""
        return self.x(x).flatten(1), self.t(t)


class SplitLinear(nn.Linear):
    """Linear on [e_x, e_t] as W_x e_x + W_t e_t + b, where e_t may be a single row: then it is a bias for the batch."""

    def __init__(self, width_x: int, width_t: int, width_out: int) -> None:
        super().__init__(width_x + width_t, width_out)
        self.width_x = width_x

    def forward(self, e_x: Tensor, e_t: Tensor) -> Tensor:  # type: ignore[override]
        """(n, width_x), (n or 1, width_t) → (n, width_out)."""
        weight_x, weight_t = self.weight[:, : self.width_x], self.weight[:, self.width_x :]
        return functional.linear(e_x, weight_x) + functional.linear(e_t, weight_t, self.bias)


class ResidualBlock(nn.Module):
    """h + Linear(ReLU(h))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        """(n, width) → (n, width)."""
        output: Tensor = h + self.linear(functional.relu(h))
        return output


def _head(width_in: int, hidden: Sequence[int], width_out: int) -> nn.Sequential:
    """ReLU and Linear in turn through the hidden widths to width_out."""
    widths = [width_in, *hidden, width_out]
    layers = [layer for a, b in pairwise(widths) for layer in (nn.ReLU(), nn.Linear(a, b))]
    return nn.Sequential(*layers)


class Trunk(nn.Module):
    """An MLP on the embedding: first layer, residual blocks, head. Expert and gate are both of this kind."""

    def __init__(
        self, embedding: PointEmbedding, *, width: int, blocks: int, head_hidden: Sequence[int], out: int
    ) -> None:
        super().__init__()
        self.first = SplitLinear(embedding.width_x, embedding.width_t, width)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.head = _head(width, head_hidden, out)

    def forward(self, e_x: Tensor, e_t: Tensor) -> Tensor:
        """(n, width_x), (n or 1, width_t) → (n, out)."""
        output: Tensor = self.head(self.blocks(self.first(e_x, e_t)))
        return output


class ResidualMLP(nn.Module):
    """The paper's baseline: one trunk on the embedded point."""

    experts = 1

    def __init__(self, dim: int, *, width: int = 256, blocks: int = 3, head_hidden: Sequence[int] = ()) -> None:
        super().__init__()
        self.embedding = PointEmbedding(dim)
        self.trunk = Trunk(self.embedding, width=width, blocks=blocks, head_hidden=head_hidden, out=dim)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """F(x, t): (n, d) and (n,) or (1,) → (n, d)."""
        output: Tensor = self.trunk(*self.embedding(x, t))
        return output


class GatedExperts(nn.Module):
    """Experts mixed by a gate; the paper's DualDiff is the case of two.

    Args:
        dim: number of columns d.
        experts: how many, at least two.
        width, blocks, head_hidden: of each expert.
        gate_hidden: hidden widths of the gate, at least one.

    """

    def __init__(
        self,
        dim: int,
        *,
        experts: int = 2,
        width: int = 256,
        blocks: int = 3,
        head_hidden: Sequence[int] = (),
        gate_hidden: Sequence[int] = (256,),
    ) -> None:
        super().__init__()
        self.experts = experts
        self.embedding = PointEmbedding(dim)
        self.trunks = nn.ModuleList(
            Trunk(self.embedding, width=width, blocks=blocks, head_hidden=head_hidden, out=dim) for _ in range(experts)
        )
        logits = 1 if experts == 2 else experts
        self.gate_trunk = Trunk(self.embedding, width=gate_hidden[0], blocks=0, head_hidden=gate_hidden[1:], out=logits)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """F(x, t): (n, d) and (n,) or (1,) → (n, d)."""
        e_x, e_t = self.embedding(x, t)
        outputs = torch.stack([trunk(e_x, e_t) for trunk in self.trunks], dim=-1)
        return (outputs * self._weights(e_x, e_t).unsqueeze(1)).sum(-1)

    def gate(self, x: Tensor, t: Tensor) -> Tensor:
        """g(x, t): (n, d) and (n,) or (1,) → (n, experts); rows sum to one."""
        return self._weights(*self.embedding(x, t))

    def _weights(self, e_x: Tensor, e_t: Tensor) -> Tensor:
        logits: Tensor = self.gate_trunk(e_x, e_t)
        if self.experts == 2:
            g = torch.sigmoid(logits)
            return torch.cat([g, 1 - g], dim=-1)
        return torch.softmax(logits, dim=-1)


def build_network(config: ModelConfig, dim: int) -> ResidualMLP | GatedExperts:
    """Make the network that a configuration describes, for d = dim columns, with torch's default initialisation."""
    if config.experts == 1:
        width = matched_width(config, dim) if config.match_parameters else config.width
        return ResidualMLP(dim, width=width, blocks=config.blocks, head_hidden=config.head_hidden)
    return GatedExperts(
        dim,
        experts=config.experts,
        width=config.width,
        blocks=config.blocks,
        head_hidden=config.head_hidden,
        gate_hidden=config.gate_hidden,
    )


def count_parameters(network: nn.Module) -> int:
    """Count the trainable numbers."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def matched_width(config: ModelConfig, dim: int) -> int:
    """Width at which one network has as many parameters as ``config.match_parameters`` experts and their gate.

    A single network of width w has p(w) = b·w² + (128(d + 1) + 1 + b + h)·w + c parameters, with b blocks and h = c = d
    for a head of one layer; otherwise h is the first of its hidden widths and c counts h and all the layers behind it.
    The answer is the whole number nearest to the positive root of p(w) = target.
    """
    gated = config.model_copy(update={"experts": config.match_parameters, "match_parameters": 0})
    with torch.device("meta"):
        target = count_parameters(build_network(gated, dim))
    b = config.blocks
    head = [*config.head_hidden, dim]
    constant = head[0] + sum((m + 1) * n for m, n in pairwise(head))
    linear = EMBEDDING_WIDTH * (dim + 1) + 1 + b + head[0]
    return round((math.sqrt(linear**2 + 4 * b * (target - constant)) - linear) / (2 * b))
