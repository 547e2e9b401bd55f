"""Embeddings of points and times: what a network sees in place of plain numbers.

The paper embeds a point as

    e(x, t) = [φ(25·x_1), …, φ(25·x_d), φ(t)],    φ(s) = (sin(s·f_j), cos(s·f_j)),  f_j = 10000^(−j/63),  j = 0 … 63

(paper, "Networks"; φ is Vaswani et al. 2017, §3.5).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["EMBEDDING_WIDTH", "MultiscaleEmbedding", "PaperEmbedding", "SinusoidalEmbedding"]

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
        return _join([angles.sin(), angles.cos()], dim=-1)


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
        return _join([(angles.sin() * seen).flatten(1), (angles.cos() * seen).flatten(1), x], dim=1)


def _join(features: list[Tensor], *, dim: int) -> Tensor:
    """Concatenate; where products round their factors, these are rounded first, and half as much memory is written."""
    kind = features[0].device.type
    if torch.is_autocast_enabled(kind):
        features = [part.to(torch.get_autocast_dtype(kind)) for part in features]
    return torch.cat(features, dim=dim)
