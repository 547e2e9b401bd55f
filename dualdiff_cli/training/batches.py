"""Training batches: clean points, noise and times, and the target of the denoiser.

The plain target at x_t = α x + σ ε is the x that was noised. This target is unbiased, but its variance is that of the
posterior of x given x_t. The variance can be reduced without a network. Let the reference set R be K training points,
and let x be one of these points, all equally likely. The posterior mean of x given R and x_t is known:

    E[x | x_t, R] = Σ_k w_k R_k,    w = softmax_k(−‖x_t − α R_k‖² / 2σ²),

and E[E[x | x_t, R] | x_t] = E[x | x_t], so the posterior mean is a target for the same regression with less variance
(Rao–Blackwell). The more mass of the posterior R contains, the smaller is the variance. R is therefore a systematic
sample of a cell around x. The cells are the nodes of a k-d tree, and each noise level uses the depth of the tree whose
targets have the least variance. Xu et al. 2023, "Stable Target Field for Reduced Variance Score Estimation", use one
reference set for a whole batch, which is biased.

A batch is made in two halves. ``draw`` draws all random numbers, a few small tensors; ``make`` is a pure function of
these tensors, so a compiler can fuse it with the loss and a CUDA graph can replay it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from torch import Tensor

from .. import seeding
from ..diffusion.schedules import Schedule

__all__ = [
    "Batch",
    "Batches",
    "ConditionalBatches",
    "Draws",
    "PlainBatches",
    "PosteriorMeanBatches",
    "nearest_assignment",
    "passes",
]


class Batch(NamedTuple):
    """Clean points x and noise ε (n, d), times t (n,), and the correction E[x | x_t, R] − x (n, d) or None.

    ``given`` says which features the network is shown without noise, (n, d) bool; None where it is shown none.
    """

    x: Tensor
    epsilon: Tensor
    t: Tensor
    correction: Tensor | None
    given: Tensor | None = None


class Draws(NamedTuple):
    """The random numbers of a batch of n points.

    Attributes:
        points: the numbers that decide the clean points: row numbers (n,), or uniform numbers (3, n, 1).
        epsilon: noise, (n, d).
        u: the uniform numbers that decide the times, (n,), float64.
        shown: the uniform numbers that decide which features are given, (n, 2 + units); (0,) where none is.

    """

    points: Tensor
    epsilon: Tensor
    u: Tensor
    shown: Tensor


class Batches(ABC):
    """A source of batches.

    Args:
        schedule: gives the times.
        stratified: whether the times of a batch are spread evenly; see `Schedule.place`.

    """

    def __init__(self, schedule: Schedule, *, stratified: bool) -> None:
        self.schedule, self.stratified = schedule, stratified

    @abstractmethod
    def draw(self, n: int, draws: torch.Generator) -> Draws:
        """Draw all random numbers of a batch of n points; ``draws`` is a generator on the device of the points."""

    @abstractmethod
    def make(self, draws: Draws) -> Batch:
        """Make the batch from its random numbers; a pure function."""

    def __call__(self, n: int, draws: torch.Generator) -> Batch:
        """Draw a batch of n points with a generator on the device of the points."""
        return self.make(self.draw(n, draws))

    def _times(self, draws: Draws) -> Tensor:
        return self.schedule.place(draws.u, stratified=self.stratified)


class PlainBatches(Batches):
    """Points drawn with replacement, each with its own noise and time, and with the plain target.

    Args:
        points: clean training points, (N, d).
        schedule, stratified: see `Batches`.
        optimal_transport: whether points and noise of a batch are paired by `nearest_assignment`.
        noise: the noise that belongs to each point, (N, d); None draws new noise for every batch.

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
        """Draw row numbers, times and noise; see `Batches.draw`."""
        device = self.points.device
        rows = torch.randint(len(self.points), (n,), generator=draws, device=device)
        u = torch.rand(n, generator=draws, device=device, dtype=torch.float64)
        if self.noise is not None:
            return Draws(rows, self.noise[rows], u, u.new_empty(0))
        epsilon = torch.randn(n, self.points.shape[1], generator=draws, device=device)
        if self.optimal_transport:
            epsilon = epsilon[nearest_assignment(self.points[rows], epsilon)]
        return Draws(rows, epsilon, u, u.new_empty(0))

    def make(self, draws: Draws) -> Batch:
        """Look up the points; see `Batches.make`."""
        return Batch(self.points[draws.points], draws.epsilon, self._times(draws), None)


def passes(rows: Tensor, size: int, stream: torch.Generator) -> Iterator[Tensor]:
    """Give batches of rows without end, in a new order in each pass; the last batch of a pass may be smaller.

    Args:
        rows: (N, d).
        size: the number of rows of a batch.
        stream: of the orders, on the CPU, so that the batches are the same on every device.

    """
    while True:
        order = torch.randperm(len(rows), generator=stream).to(rows.device)
        yield from (rows[part] for part in torch.split(order, size))


def nearest_assignment(x: Tensor, epsilon: Tensor) -> Tensor:
    """Find the permutation π that minimises Σ‖x_i − ε_π(i)‖², exactly and on the CPU.

    Minibatch optimal transport (Pooladian et al. 2023, "Multisample Flow Matching", §3).

    Args:
        x, epsilon: (n, d).

    Returns:
        π, (n,), int64, on the device of x.

    """
    cost = torch.cdist(x, epsilon).square().cpu().numpy()
    return torch.from_numpy(linear_sum_assignment(cost)[1]).to(x.device)


class PosteriorMeanBatches(Batches):
    """Points whose target is the posterior mean over a reference set.

    Args:
        points: clean training points, (N, d).
        schedule, stratified: see `Batches`.
        references: K, the size of a reference set; N if K is larger than N.
        seed: the seed of the trial batches that choose the depth of the tree for each noise level.

    Attributes:
        NOISE_BINS: the number of equal slices of the time axis that have a depth of their own.
        TRIALS: the number of points of a trial batch.

    """

    NOISE_BINS = 32
    TRIALS = 256

    def __init__(
        self, points: Tensor, schedule: Schedule, *, references: int, stratified: bool = False, seed: int = 0
    ) -> None:
        super().__init__(schedule, stratified=stratified)
        tree = cKDTree(points.cpu().numpy(), leafsize=max(1, min(references, len(points)) // 2), balanced_tree=True)
        # A balanced tree splits at medians: in its order, the 2^l nodes at depth l are 2^l runs of equal length.
        self._columns = points[torch.tensor(tree.indices, device=points.device)].T.contiguous()
        self.K = min(references, len(points))
        self._strata = torch.arange(self.K, device=points.device)
        self._mean, self._variance = points.mean(0), points.var(0, correction=0)
        self._cells = 2.0 ** self._choose_depths(seeding.torch_stream(seed, "trials of reference sets", points.device))

    def draw(self, n: int, draws: torch.Generator) -> Draws:
        """Draw times and noise, and for each point a cell, an offset in the cell and which of the K points is x."""
        device = self._columns.device
        u = torch.rand(n, generator=draws, device=device, dtype=torch.float64)
        cells = torch.rand(3, n, 1, generator=draws, device=device)
        epsilon = torch.randn(n, len(self._columns), generator=draws, device=device)
        return Draws(cells, epsilon, u, u.new_empty(0))

    def make(self, draws: Draws) -> Batch:
        """Find the reference sets and compute the posterior means; see `Batches.make`."""
        t = self._times(draws)
        return self._make(draws, t, self._cells[self._bin(t)])

    def _make(self, draws: Draws, t: Tensor, cells: Tensor) -> Batch:
        (cell, offset, own), epsilon = draws.points, draws.epsilon
        N = self._columns.shape[1]
        cells = cells.unsqueeze(1)
        stride = N / (self.K * cells)
        # The reference set: K points at equal distances in a random cell of the tree. x is one of these points.
        rows = ((cell * cells).floor() * (N / cells) + offset * stride + self._strata * stride).long().clamp(max=N - 1)
        # Each column is one (n, K) matrix: a sum over the last axis of (n, K, d) would not fill the SIMD lanes.
        d = len(self._columns)
        R = self._columns.unsqueeze(1).expand(d, len(rows), N).gather(2, rows.expand(d, *rows.shape))
        index = (own * self.K).long().clamp(max=self.K - 1)
        x = R.gather(2, index.expand(d, -1, -1))
        alpha, sigma = self.schedule.alpha_sigma(t, epsilon)
        # ‖x_t − α R_k‖²/2σ² = ‖ε + (α/σ)(x − R_k)‖²/2, which avoids the difference of large numbers.
        away = R - x
        w = torch.softmax(-0.5 * (epsilon.T.unsqueeze(2) - alpha / sigma * away).square().sum(0), dim=1)
        return Batch(x.squeeze(2).T, epsilon, t, (w * away).sum(2).T)

    def _bin(self, t: Tensor) -> Tensor:
        fraction = (t - self.schedule.t_min) / (self.schedule.t_max - self.schedule.t_min)
        return (fraction * self.NOISE_BINS).long().clamp(0, self.NOISE_BINS - 1)

    def _choose_depths(self, draws: torch.Generator) -> Tensor:
        """Find the depth with the least variance of the targets, per slice of the time axis: (NOISE_BINS,), float."""
        device = self._columns.device
        depths = torch.arange(int(math.log2(self._columns.shape[1] / self.K)) + 1, device=device)
        middles = (torch.arange(self.NOISE_BINS, device=device, dtype=torch.float64) + 0.5) / self.NOISE_BINS
        times = self.schedule.t_min + middles * (self.schedule.t_max - self.schedule.t_min)
        found = [self._mean_square(t.expand(self.TRIALS), depth, draws) for t in times for depth in depths]
        return torch.stack(found).reshape(len(times), -1).argmin(1).float()

    def _mean_square(self, t: Tensor, depth: Tensor, draws: torch.Generator) -> Tensor:
        """Estimate the mean square of E[x | x_t, R] − f(x_t), which ranks the depths by the variance of the targets.

        For any function f this is the variance of the targets given x_t plus a term that is the same for all depths.
        The best linear prediction of x, f = μ + a (x_t − α μ) with a = α v/(α² v + σ²) for columns of mean μ and
        variance v, keeps that term small at every noise level, and with it the error of the estimate.

        Returns:
            Shape ().

        """
        batch = self._make(self.draw(len(t), draws), t, torch.pow(2.0, depth).expand(len(t)))
        assert batch.correction is not None
        alpha, sigma = self.schedule.alpha_sigma(t, batch.x)
        # x − f = (σ² (x − μ) − α v σ ε)/(α² v + σ²), which loses no digits at small σ.
        away = sigma**2 * (batch.x - self._mean) - alpha * sigma * self._variance * batch.epsilon
        away = away / (alpha**2 * self._variance + sigma**2)
        return (away + batch.correction).square().sum(1).mean()


class ConditionalBatches(Batches):
    """Batches in which the network is shown a random part of the features of some rows without noise.

    A share c of the rows is chosen. For each chosen row a probability is drawn, which is uniform on (0, 1), and each
    unit of features is given with this probability, so that every number of given units occurs. The target of such a
    row is the plain one: a posterior mean over a reference set knows nothing about the given features.

    Args:
        batches: the batches without given features.
        units: for each feature the number of its unit, (d,); see `data.FeatureLayout`.
        share: c.
        device: where the points are.

    """

    def __init__(
        self, batches: Batches, units: Sequence[int], *, share: float, device: torch.device | None = None
    ) -> None:
        super().__init__(batches.schedule, stratified=batches.stratified)
        self.batches, self.share, self.number = batches, share, max(units) + 1
        self.units = torch.tensor(units, device=device)

    def draw(self, n: int, draws: torch.Generator) -> Draws:
        """Draw a batch, and the numbers that decide which features are given; see `Batches.draw`."""
        drawn = self.batches.draw(n, draws)
        shape = (n, 2 + self.number)
        return drawn._replace(shown=torch.rand(shape, generator=draws, device=drawn.epsilon.device))

    def make(self, draws: Draws) -> Batch:
        """Make the batch, and decide which features are given; see `Batches.make`."""
        batch = self.batches.make(draws)
        chosen, probability = draws.shown[:, :1] < self.share, draws.shown[:, 1:2]
        units = chosen & (draws.shown[:, 2:] < probability)
        given = units.index_select(1, self.units)
        correction = batch.correction
        if correction is not None:
            correction = torch.where(units.any(1, keepdim=True), 0.0, correction)
        return batch._replace(given=given, correction=correction)
