"""Embeddings of points and times, which are the inputs of a network.

The paper embeds a point as

    e(x, t) = [φ(25·x_1), …, φ(25·x_d), φ(t)],    φ(s) = (sin(s·f_j), cos(s·f_j)),  f_j = 10000^(−j/63),  j = 0 … 63

(paper, "Networks"; φ is Vaswani et al. 2017, §3.5).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["EMBEDDING_WIDTH", "MultiscaleEmbedding", "PaperEmbedding", "SinusoidalEmbedding"]

EMBEDDING_WIDTH = 128
"""The width of φ: 64 sines and 64 cosines."""


class SinusoidalEmbedding(nn.Module):
    """φ(scale·s) for every entry of s.

    Args:
        width: the number of features, which is even.
        scale: the factor on s.

    """

    def __init__(self, width: int = EMBEDDING_WIDTH, *, scale: float = 1.0) -> None:
        super().__init__()
        half = width // 2
        frequencies = scale * 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / (half - 1))
        self.frequencies: Tensor
        self.register_buffer("frequencies", frequencies.float(), persistent=False)

    def forward(self, s: Tensor) -> Tensor:
        """Map s of any shape (…,) to (…, width)."""
        angles = s.unsqueeze(-1) * self.frequencies
        return _join([angles.sin(), angles.cos()], dim=-1)


class PaperEmbedding(nn.Module):
    """φ(25·x_i) for every coordinate of x; the share s of noise is not used.

    Args:
        dim: d, the number of columns.

    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.width = dim * EMBEDDING_WIDTH
        self.phi = SinusoidalEmbedding(scale=25.0)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        """Map x (n, d) and s (n or 1, 1) to (n, width)."""
        features: Tensor = self.phi(x).flatten(1)
        return features


class MultiscaleEmbedding(nn.Module):
    """(sin(f_j x_i), cos(f_j x_i))·exp(−f_j² s²/2) and x itself, with f_j in equal ratios from 1 to ``finest``.

    The mean of a sine over Gaussian noise of standard deviation s is the sine times exp(−f_j² s²/2). A feature thus
    vanishes at the noise levels that hide the detail that it resolves (integrated positional encoding: Barron et al.
    2021, "Mip-NeRF", eq. 14).

    Args:
        dim: d, the number of columns.
        finest: the highest frequency, in radians per unit of x.
        number: how many frequencies there are.

    """

    def __init__(self, dim: int, *, finest: float, number: int = EMBEDDING_WIDTH // 2) -> None:
        super().__init__()
        self.width = dim * (2 * number + 1)
        self.frequencies: Tensor
        frequencies = finest ** torch.linspace(0, 1, number, dtype=torch.float64)
        self.register_buffer("frequencies", frequencies.float(), persistent=False)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        """Map x (n, d) and s, (n or 1, 1) or, for a share of noise of each coordinate, (n, d), to (n, width)."""
        angles = x.unsqueeze(-1) * self.frequencies
        seen = torch.exp(-0.5 * (self.frequencies * s.unsqueeze(-1)) ** 2)
        return _join([(angles.sin() * seen).flatten(1), (angles.cos() * seen).flatten(1), x], dim=1)


def _join(features: list[Tensor], *, dim: int) -> Tensor:
    """Concatenate.

    Under autocast the next product rounds its input; rounding before the concatenation halves the memory traffic.
    """
    kind = features[0].device.type
    if torch.is_autocast_enabled(kind):
        features = [part.to(torch.get_autocast_dtype(kind)) for part in features]
    return torch.cat(features, dim=dim)
