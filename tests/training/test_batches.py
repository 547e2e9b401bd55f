from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from dualdiff_cli.diffusion.schedules import Schedule
from dualdiff_cli.diffusion.schedules.continuous import LogSNRUniform, StraightLine, VarianceExploding
from dualdiff_cli.diffusion.schedules.tables import LinearBeta
from dualdiff_cli.training.batches import Batch, PlainBatches, PosteriorMeanBatches, nearest_assignment

WIDE = LogSNRUniform(sigma_min=0.01, sigma_max=5.0)
DRAWS = 40_000


def cloud(n: int, d: int = 2, *, seed: int = 0) -> Tensor:
    """Two separate clusters of unequal size and width, off the origin: nothing about them is symmetric."""
    points = 0.3 * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    points[n // 3 :] = 0.5 * points[n // 3 :] + 1.5
    return points + 0.5


def at_level(ratio: float) -> Schedule:
    """A schedule that is all of one noise level σ/α."""
    return LogSNRUniform(sigma_min=ratio, sigma_max=ratio * (1 + 1e-6))


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noisy(batch: Batch, schedule: Schedule) -> Tensor:
    return schedule.add_noise(batch.x.double(), batch.epsilon.double(), batch.t)


def exact_mean(points: Tensor, batch: Batch, schedule: Schedule) -> Tensor:
    """E[x | x_t] over all the points, by Bayes' rule from the Gaussian densities, in float64."""
    alpha, sigma = (c[:, None] for c in schedule(batch.t))
    squares = (noisy(batch, schedule)[:, None] - alpha[:, None] * points.double()).square().sum(-1)
    density = torch.exp(-squares / (2 * sigma**2))
    return density @ points.double() / density.sum(1, keepdim=True)


def target(batch: Batch) -> Tensor:
    assert batch.correction is not None
    return batch.x.double() + batch.correction.double()


def at_depth(points: Tensor, ratio: float, *, references: int, depth: int, n: int = DRAWS) -> Batch:
    """A batch at one noise level and one depth of the tree."""
    return with_depth(PosteriorMeanBatches(points, at_level(ratio), references=references), depth)(n, draws())


def with_depth(batches: PosteriorMeanBatches, depth: int) -> PosteriorMeanBatches:
    batches._cells = torch.full_like(batches._cells, 2.0**depth)
    return batches


def rows_drawn(points: Tensor, batch: Batch) -> Tensor:
    """How often each point was drawn, (N,)."""
    distances = torch.cdist(batch.x, points, compute_mode="donot_use_mm_for_euclid_dist")
    assert float(distances.min(1).values.max()) == 0
    return torch.bincount(distances.argmin(1), minlength=len(points))


# What the targets are


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("ratio", [0.05, 0.3, 1.0, 4.0])
def test_targets_are_unbiased_whatever_the_depth_and_the_level(ratio: float, depth: int) -> None:
    """E[target | x_t] = E[x | x_t] just where the target's error is orthogonal to every function of x_t."""
    points, schedule = cloud(64), at_level(ratio)
    batch = at_depth(points, ratio, references=16, depth=depth)
    x_t = noisy(batch, schedule)
    error = target(batch) - exact_mean(points, batch, schedule)
    unit = (x_t - x_t.mean(0)) / x_t.std(0)
    near = torch.exp(-((noisy(batch, schedule) - points[5]).square().sum(1, keepdim=True)) / 0.1)
    functions = [torch.ones_like(x_t), unit, unit.flip(1), unit**2, unit.prod(1, keepdim=True), (3 * unit).sin(), near]
    for h in functions:
        products = error * h
        standard_error = products.std(0) / math.sqrt(DRAWS)
        assert (products.mean(0).abs() <= 4.5 * standard_error).all()


@pytest.mark.parametrize("ratio", [0.1, 0.5, 2.0])
def test_regressing_on_the_targets_is_regressing_on_the_points(ratio: float) -> None:
    """As above without the exact mean: plain and corrected targets have the same products with functions of x_t."""
    points, schedule = cloud(64), at_level(ratio)
    batch = PosteriorMeanBatches(points, schedule, references=16)(DRAWS, draws())
    assert batch.correction is not None
    x_t = noisy(batch, schedule)
    for h in (torch.ones_like(x_t), x_t, x_t.square(), x_t.cos(), (x_t[:, :1] > 1).double()):
        difference = h * batch.correction
        assert (difference.mean(0).abs() <= 4.5 * difference.std(0) / math.sqrt(DRAWS)).all()


@pytest.mark.parametrize(("ratio", "factor"), [(0.05, 0.4), (0.15, 0.35), (0.4, 0.25), (1.0, 0.02), (4.0, 0.004)])
def test_targets_keep_a_small_share_of_the_variance_of_plain_ones(ratio: float, factor: float) -> None:
    points, schedule = cloud(64), at_level(ratio)
    batch = PosteriorMeanBatches(points, schedule, references=16)(20_000, draws())
    mean = exact_mean(points, batch, schedule)
    plain, kept = ((goal - mean).square().mean() for goal in (batch.x.double(), target(batch)))
    assert kept < factor * plain


@pytest.mark.parametrize(
    "schedule", [WIDE, LinearBeta(), VarianceExploding(sigma_min=0.01, sigma_max=5), StraightLine()]
)
@pytest.mark.parametrize("references", [64, 65, 1000])
def test_with_all_points_for_reference_the_target_is_the_exact_posterior_mean(
    references: int, schedule: Schedule
) -> None:
    points = cloud(64)
    batch = PosteriorMeanBatches(points, schedule, references=references)(2000, draws())
    torch.testing.assert_close(target(batch), exact_mean(points, batch, schedule), rtol=0, atol=1e-5)


@pytest.mark.parametrize("d", [1, 7])
def test_any_number_of_columns_will_do(d: int) -> None:
    points = cloud(50, d)
    batch = PosteriorMeanBatches(points, WIDE, references=50)(500, draws())
    assert batch.x.shape == batch.epsilon.shape == (500, d)
    torch.testing.assert_close(target(batch), exact_mean(points, batch, WIDE), rtol=0, atol=1e-5)
    few = PosteriorMeanBatches(points, WIDE, references=8)(500, draws())
    assert rows_drawn(points, few).sum() == 500


@pytest.mark.parametrize("n", [1, 3])
def test_a_batch_may_be_smaller_than_its_reference_sets(n: int) -> None:
    batch = PosteriorMeanBatches(cloud(64), WIDE, references=16)(n, draws())
    assert batch.correction is not None
    assert batch.x.shape == batch.epsilon.shape == batch.correction.shape == (n, 2)
    assert batch.t.shape == (n,)


def test_one_point_for_reference_leaves_the_plain_target() -> None:
    batch = PosteriorMeanBatches(cloud(64), WIDE, references=1)(100, draws())
    assert batch.correction is not None
    assert not batch.correction.any()


def test_columns_that_do_not_vary_and_points_that_coincide_do_no_harm() -> None:
    points = torch.cat([cloud(60, 1).repeat_interleave(2, 0), torch.ones(120, 1)], dim=1)
    batch = PosteriorMeanBatches(points, WIDE, references=16)(500, draws())
    assert target(batch).isfinite().all()
    assert (target(batch)[:, 1] - 1).abs().max() < 1e-6


# What is drawn


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("n", [64, 97])  # cells of equal and of unequal size
def test_every_point_is_drawn_equally_often(n: int, depth: int) -> None:
    points = cloud(n)
    counts = rows_drawn(points, at_depth(points, 0.3, references=16, depth=depth, n=20_000))
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_plain_batches_draw_every_point_equally_often() -> None:
    points = cloud(97)
    assert chisquare(rows_drawn(points, PlainBatches(points, WIDE)(20_000, draws())).numpy()).pvalue > 1e-3


def test_noise_is_standard_and_independent_of_the_points() -> None:
    batch = at_depth(cloud(64), 0.3, references=16, depth=2, n=50_000)
    together = torch.cat([batch.x, batch.epsilon], dim=1).T
    assert (batch.epsilon.mean(0).abs() < 4 / math.sqrt(50_000)).all()
    assert (batch.epsilon.var(0) - 1).abs().max() < 4 * math.sqrt(2 / 50_000)
    assert torch.corrcoef(together)[:2, 2:].abs().max() < 4 / math.sqrt(50_000)


@pytest.mark.parametrize("stratified", [True, False])
def test_stratified_times_fall_one_into_each_slice(stratified: bool) -> None:
    points = cloud(64)
    for batches in (
        PlainBatches(points, WIDE, stratified=stratified),
        PosteriorMeanBatches(points, WIDE, references=16, stratified=stratified),
    ):
        slices = (batches(100, draws()).t * 100).floor().tolist()
        assert (sorted(slices) == list(range(100))) == stratified


def test_the_same_generator_gives_the_same_batch_and_goes_on_to_another() -> None:
    points = cloud(64)
    for batches in (
        PlainBatches(points, WIDE),
        PlainBatches(points, WIDE, optimal_transport=True),
        PosteriorMeanBatches(points, WIDE, references=16, seed=3),
    ):
        generator = draws(7)
        first, second, again = batches(20, generator), batches(20, generator), batches(20, draws(7))
        for a, b, c in zip(first, second, again, strict=True):
            assert (a is None and c is None) or torch.equal(a, c)
            assert a is None or not torch.equal(a, b)


def test_the_same_seed_gives_the_same_batches_and_the_global_random_state_plays_no_part() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = PosteriorMeanBatches(cloud(200), WIDE, references=16, seed=3)(20, draws())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = PosteriorMeanBatches(cloud(200), WIDE, references=16, seed=3)(20, draws())
    assert first.given is None
    assert again.given is None
    assert all(torch.equal(a, b) for a, b in zip(first[:4], again[:4], strict=True))


# Depths


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_reference_sets_are_drawn_from_smaller_cells_where_there_is_less_noise(seed: int) -> None:
    points = torch.randn(4096, 2, generator=draws(1))
    depth = PosteriorMeanBatches(points, WIDE, references=64, seed=seed)._cells.log2()
    assert len(depth) == 32
    quarters = depth.reshape(4, 8).mean(1).tolist()
    assert quarters[0] > 4  # of 6
    assert quarters[0] > quarters[1] > quarters[2]
    assert quarters[3] == 0  # where the noise hides every structure, all points are each other's reference


@pytest.mark.parametrize("ratio", [0.2, 1.0, 4.0])
def test_no_other_depth_has_targets_of_much_less_variance(ratio: float) -> None:
    points, schedule = cloud(512), at_level(ratio)
    batches = PosteriorMeanBatches(points, schedule, references=32)
    chosen, spread = batches._cells.log2().long(), []
    for depth in range(5):
        batch = with_depth(batches, depth)(3000, draws())
        spread.append((target(batch) - exact_mean(points, batch, schedule)).square().mean())
    assert torch.stack(spread)[chosen].mean() < 1.4 * min(spread)


# Optimal transport


@pytest.mark.parametrize("d", [1, 3])
def test_the_assignment_is_the_best_of_all_permutations(d: int) -> None:
    x, epsilon = torch.randn(2, 5, d, generator=draws(d))

    def cost(order: Iterable[int]) -> float:
        return sum(math.dist(x[i].tolist(), epsilon[j].tolist()) ** 2 for i, j in enumerate(order))

    best = nearest_assignment(x, epsilon).tolist()
    assert sorted(best) == list(range(5))
    assert cost(best) == pytest.approx(min(cost(order) for order in itertools.permutations(range(5))), rel=1e-5)


def test_optimal_transport_gives_the_noise_of_a_batch_to_other_points_of_it() -> None:
    points = cloud(64)
    free, matched = (PlainBatches(points, WIDE, optimal_transport=ot)(50, draws()) for ot in (False, True))
    assert torch.equal(free.x, matched.x)
    assert torch.equal(free.t, matched.t)
    assert torch.equal(free.epsilon.sort(0).values, matched.epsilon.sort(0).values)
    squares = [(batch.x - batch.epsilon).square().sum() for batch in (free, matched)]
    assert squares[1] < 0.8 * squares[0]
