"""Networks of the folds of a cross-validation, trained and evaluated together as groups of one trunk.

Fold f of F learns all rows but one part of F. While the folds are trained, each is one MLP. Afterwards each band of
noise levels has the weights of the checkpoint that was best there on the rows which the fold had not seen, so that the
finished network has F·B MLPs for B bands, and

    F(x, t) = 1/F Σ_f e_{f,b}(x, t),    b = ⌊B·t/T⌋.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...config.sections import NetworkSettings
from .experts import Network

__all__ = ["ByFold", "FoldedMLP"]

BOUNDARY = 1e-5
"""In units of a band: more than the rounding of a time in float32, so that every precision chooses the same band."""


class FoldedMLP(Network):
    """The mean of the folds' MLPs, each with weights of its own in each band of noise levels.

    Args:
        config, dim: see `Network`.
        folds: F.
        bands: B; 1 while the folds are trained.
        span: T, the length of the time axis as the network sees it.

    """

    def __init__(self, config: NetworkSettings, dim: int, *, folds: int, bands: int, span: float) -> None:
        super().__init__(config, dim)
        self.folds, self.bands, self.span = folds, bands, span
        self.trunks = self._trunk(groups=folds * bands, width=config.width)

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Draw the weights; the output layer starts at zero, so that the untrained F is zero."""
        super().reset(generator)
        last = self.trunks.head[-1]
        for parameter in last.parameters():
            parameter.zero_()

    def forward(self, x: Tensor, t: Tensor, s: Tensor, *, stratified: bool = False) -> Tensor:
        """Evaluate F(x, t); see `Network.forward`."""
        del stratified
        e_x, e_t = self._embed(x, t, s)
        output: Tensor
        if len(t) == 1:
            chosen = self._band(t) * self.folds + torch.arange(self.folds, device=t.device)
            output = self.trunks(e_x, e_t, chosen)
            return output.mean(0) if self.folds > 1 else output
        groups = self.trunks(e_x, e_t).reshape(self.bands, self.folds, *x.shape)
        band = self._band(t).unsqueeze(-1) == torch.arange(self.bands, device=t.device)
        output = (groups.mean(1) * band.to(x.dtype).T.unsqueeze(2)).sum(0)
        return output

    def by_fold(self, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Evaluate each fold's MLP on rows of its own; x (F·n, d), t and s (F·n,), ordered by fold, to (F·n, d)."""
        assert self.bands == 1, "only a network in training"
        e_x, e_t = self._embed(x, t, s)
        rows = (self.folds, len(x) // self.folds, -1)
        output: Tensor = self.trunks(e_x.reshape(rows), e_t.reshape(rows))
        return output.reshape(x.shape)

    def _band(self, t: Tensor) -> Tensor:
        """The number of the band, ⌊B·t/T⌋, of the shape of t; on a boundary, but for rounding, the upper one."""
        return (t * (self.bands / self.span) + BOUNDARY).long().clamp(0, self.bands - 1)


class ByFold(nn.Module):
    """A `FoldedMLP` as the network of a denoiser whose rows are ordered by fold."""

    def __init__(self, network: FoldedMLP) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, s: Tensor, *, stratified: bool = False) -> Tensor:
        """See `FoldedMLP.by_fold`."""
        del stratified
        return self.network.by_fold(x, t, s)
