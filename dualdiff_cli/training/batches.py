"""Training batches: clean points, noise and times, and what the denoiser should say.

The plain target at x_t = α x + σ ε is the x that was noised: unbiased, but as noisy as the posterior is wide. Its noise
can be taken out without a network. Let R be K training points and x any one of them, all equally likely. Given R and
x_t the posterior mean of x is known,

    E[x | x_t, R] = Σ_k w_k R_k,    w = softmax_k(−‖x_t − α R_k‖² / 2σ²),

and E[E[x | x_t, R] | x_t] = E[x | x_t]: the same regression with less variance (Rao–Blackwell). It becomes the smaller,
the more of the posterior's mass R holds, so R is a systematic sample of a cell around x: cells are the nodes of a k-d
tree, and for every noise level that level of the tree is used whose targets vary least. Xu et al. 2023, "Stable Target
Target Field for Reduced Variance Score Estimation", weigh one reference set for a whole batch, which is biased.

A batch is made in two halves. ``draw`` takes all that is random from a generator, a few small tensors; ``make`` is a
pure function of them, which a compiler may fuse with the loss and a graph may replay.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from torch import Tensor

from .. import seeding
from ..diffusion.schedules import Schedule

__all__ = ["Batch", "Batches", "Draws", "PlainBatches", "PosteriorMeanBatches", "nearest_assignment"]


class Batch(NamedTuple):
    """Clean points x, noise ε (n, d), times (n,), and E[x | x_t, R] − x (n, d) where a reference set is used."""

    x: Tensor
    epsilon: Tensor
    t: Tensor
    correction: Tensor | None


class Draws(NamedTuple):
    """The random part of a batch of n.

    Attributes:
        points: what says which clean points: row numbers (n,), or uniform numbers (3, n, 1).
        epsilon: noise, (n, d).
        u: uniform numbers that say which times, (n,), float64.

    """

    points: Tensor
    epsilon: Tensor
    u: Tensor


class Batches(ABC):
    """Draws batches.

    Args:
        schedule: gives the times.
        stratified: spread the times of a batch evenly.

    """

    def __init__(self, schedule: Schedule, *, stratified: bool) -> None:
        self.schedule, self.stratified = schedule, stratified

    @abstractmethod
    def draw(self, n: int, draws: torch.Generator) -> Draws:
        """Take all the randomness of n training points from the given generator."""

    @abstractmethod
    def make(self, draws: Draws) -> Batch:
        """Make the batch; a pure function of what was drawn."""

    def __call__(self, n: int, draws: torch.Generator) -> Batch:
        """Draw n training points with all their randomness from the given generator."""
        return self.make(self.draw(n, draws))

    def _times(self, draws: Draws) -> Tensor:
        return self.schedule.place(draws.u, stratified=self.stratified)


class PlainBatches(Batches):
    """Points with replacement, each with noise and a time of its own.

    Args:
        points: clean training points, (N, d).
        schedule, stratified: see `Batches`.
        optimal_transport: let each point meet the noise of a least-cost matching of the batch.
        noise: the noise that each point always meets, (N, d); None draws it afresh.

    """

    def __init__(
        self,
        points: Tensor,
        schedule: Schedule,
        *,
        stratified: bool = False,
        optimal_transport: bool = False,
        noise: Tensor | None = None,
    ) -> None:
        super().__init__(schedule, stratified=stratified)
        self.points, self.noise, self.optimal_transport = points, noise, optimal_transport

    def draw(self, n: int, draws: torch.Generator) -> Draws:
        """Draw rows, times and noise, matched if so asked."""
        device = self.points.device
        rows = torch.randint(len(self.points), (n,), generator=draws, device=device)
        u = torch.rand(n, generator=draws, device=device, dtype=torch.float64)
        if self.noise is not None:
            return Draws(rows, self.noise[rows], u)
        epsilon = torch.randn(n, self.points.shape[1], generator=draws, device=device)
        if self.optimal_transport:
            epsilon = epsilon[nearest_assignment(self.points[rows], epsilon)]
        return Draws(rows, epsilon, u)

    def make(self, draws: Draws) -> Batch:
        """Look the points up."""
        return Batch(self.points[draws.points], draws.epsilon, self._times(draws), None)


def nearest_assignment(x: Tensor, epsilon: Tensor) -> Tensor:
    """Match each point with one noise so that Σ‖x_i − ε_π(i)‖² is least, exactly; x, ε (n, d) → π (n,).

    Minibatch optimal transport (Pooladian et al. 2023, "Multisample Flow Matching", §3); it runs on the CPU.
    """
    cost = torch.cdist(x, epsilon).square().cpu().numpy()
    return torch.from_numpy(linear_sum_assignment(cost)[1]).to(x.device)


class PosteriorMeanBatches(Batches):
    """Points with the posterior mean over a reference set as their target.

    Args:
        points: clean training points, (N, d).
        schedule, stratified: see `Batches`.
        references: K, the size of a reference set, at most N.
        seed: of the trials that choose the tree's level for each noise level.

    """

    NOISE_BINS = 32
    TRIALS = 256

    def __init__(
        self, points: Tensor, schedule: Schedule, *, references: int, stratified: bool = False, seed: int = 0
    ) -> None:
        super().__init__(schedule, stratified=stratified)
        tree = cKDTree(points.cpu().numpy(), leafsize=max(1, min(references, len(points)) // 2), balanced_tree=True)
        # A balanced tree splits at medians: in its order the 2^l nodes of a level are 2^l equal runs.
        self._columns = points[torch.from_numpy(tree.indices).to(points.device)].T.contiguous()
        self.K = min(references, len(points))
        self._strata = torch.arange(self.K, device=points.device)
        self._mean, self._variance = points.mean(0), points.var(0, correction=0)
        self._cells = 2.0 ** self._choose_depths(seeding.torch_stream(seed, "trials of reference sets", points.device))

    def draw(self, n: int, draws: torch.Generator) -> Draws:
        """Draw times, noise, and for each point a cell, an offset in it and which of its K points is x."""
        device = self._columns.device
        u = torch.rand(n, generator=draws, device=device, dtype=torch.float64)
        cells = torch.rand(3, n, 1, generator=draws, device=device)
        return Draws(cells, torch.randn(n, len(self._columns), generator=draws, device=device), u)

    def make(self, draws: Draws) -> Batch:
        """Find the reference sets and weigh them."""
        t = self._times(draws)
        return self._make(draws, t, self._cells[self._bin(t)])

    def _make(self, draws: Draws, t: Tensor, cells: Tensor) -> Batch:
        (cell, offset, own), epsilon, _ = draws
        N = self._columns.shape[1]
        cells = cells.unsqueeze(1)
        stride = N / (self.K * cells)
        # K points at equal distances through a random cell of the tree, of which x is any one
        rows = ((cell * cells).floor() * (N / cells) + offset * stride + self._strata * stride).long().clamp(max=N - 1)
        # One (n, K) matrix a column: sums over a handful of columns would leave a processor's lanes empty.
        d = len(self._columns)
        R = self._columns.unsqueeze(1).expand(d, len(rows), N).gather(2, rows.expand(d, *rows.shape))
        index = (own * self.K).long().clamp(max=self.K - 1)
        x = R.gather(2, index.expand(d, -1, -1))
        alpha, sigma = (c.to(epsilon.dtype).reshape(-1, 1) for c in self.schedule(t))
        # ‖x_t − α R_k‖²/2σ² = ‖ε + (α/σ)(x − R_k)‖²/2, without the difference of large numbers
        away = R - x
        w = torch.softmax(-0.5 * (epsilon.T.unsqueeze(2) - alpha / sigma * away).square().sum(0), dim=1)
        return Batch(x.squeeze(2).T, epsilon, t, (w * away).sum(2).T)

    def _bin(self, t: Tensor) -> Tensor:
        fraction = (t - self.schedule.t_min) / (self.schedule.t_max - self.schedule.t_min)
        return (fraction * self.NOISE_BINS).long().clamp(0, self.NOISE_BINS - 1)

    def _choose_depths(self, draws: torch.Generator) -> Tensor:
        """Find, for each bin of time, the depth whose targets vary least; (NOISE_BINS,), float."""
        device = self._columns.device
        depths = torch.arange(int(math.log2(self._columns.shape[1] / self.K)) + 1, device=device)
        middles = (torch.arange(self.NOISE_BINS, device=device, dtype=torch.float64) + 0.5) / self.NOISE_BINS
        times = self.schedule.t_min + middles * (self.schedule.t_max - self.schedule.t_min)
        spread = [self._spread(t.expand(self.TRIALS), depth, draws) for t in times for depth in depths]
        return torch.stack(spread).reshape(len(times), -1).argmin(1).float()

    def _spread(self, t: Tensor, depth: Tensor, draws: torch.Generator) -> Tensor:
        """Estimate how much the targets vary: the mean square of E[x | x_t, R] − f(x_t), shape ().

        That is their variance plus what no depth changes. The best linear guess of x, f = μ + a (x_t − α μ) with
        a = α v/(α² v + σ²) for columns of mean μ and variance v, leaves little of the latter at every level.
        """
        batch = self._make(self.draw(len(t), draws), t, torch.pow(2.0, depth).expand(len(t)))
        assert batch.correction is not None
        alpha, sigma = (c.to(batch.x.dtype).unsqueeze(1) for c in self.schedule(t))
        # x − f = (σ² (x − μ) − α v σ ε)/(α² v + σ²), which does not cancel at small σ
        away = sigma**2 * (batch.x - self._mean) - alpha * sigma * self._variance * batch.epsilon
        away = away / (alpha**2 * self._variance + sigma**2)
        spread: Tensor = (away + batch.correction).square().sum(1).mean()
        return spread
