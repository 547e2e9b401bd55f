"""Multinomial diffusion against Bayes' theorem by enumeration, and its bound for a known distribution."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dualdiff_cli import seeding
from dualdiff_cli.diffusion.multinomial import Multinomial
from dualdiff_cli.diffusion.schedules.tables import Cosine

STEPS = 6
ALPHA_BAR = torch.tensor([0.95, 0.8, 0.55, 0.3, 0.1, 0.02], dtype=torch.float64)
SIZES = (3, 2, 4)
SHARES = torch.tensor([0.7, 0.25, 0.05], dtype=torch.float64)
"""A distribution of the first category."""


def kernels(size: int) -> list[Tensor]:
    """The transition matrices q(x_t = column | x_{t−1} = row) of all steps, from the definition."""
    alpha = ALPHA_BAR / torch.cat([torch.ones(1, dtype=torch.float64), ALPHA_BAR[:-1]])
    return [a * torch.eye(size, dtype=torch.float64) + (1 - a) / size for a in alpha]


def products(size: int) -> list[Tensor]:
    """The matrices q(x_{t−1} | x_0) of all steps, by multiplication; x_{−1} is x_0."""
    found = [torch.eye(size, dtype=torch.float64)]
    for kernel in kernels(size):
        found.append(found[-1] @ kernel)
    return found


@pytest.fixture
def three() -> Multinomial:
    return Multinomial(ALPHA_BAR, SIZES)


@pytest.fixture
def one() -> Multinomial:
    return Multinomial(ALPHA_BAR, SIZES[:1])


def every_value(diffusion: Multinomial) -> Tensor:
    """Rows of one-hot vectors: value k of all categories, as far as there are so many."""
    most = max(diffusion.sizes)
    places = torch.tensor([[min(k, size - 1) for size in diffusion.sizes] for k in range(most)])
    return diffusion.one_hot(places).double()


def test_noise_of_t_steps_is_the_product_of_the_single_steps(three: Multinomial) -> None:
    log_x0 = every_value(three)
    for t in range(STEPS):
        q = three.noisy(log_x0, torch.tensor([t])).exp()
        for size, part in zip(SIZES, q.split([*SIZES], dim=1), strict=True):
            assert_close(part[:size], products(size)[t + 1])


def test_the_posterior_is_that_of_bayes_for_every_pair_of_values(one: Multinomial) -> None:
    size = SIZES[0]
    values = every_value(one)
    for t in range(STEPS):
        before, kernel = products(size)[t], kernels(size)[t]
        for x0 in range(size):
            for xt in range(size):
                joint = before[x0] * kernel[:, xt]  # q(x_{t−1} | x_0) q(x_t | x_{t−1})
                found = one.posterior(values[[x0]], values[[xt]], torch.tensor([t])).exp()
                assert_close(found[0], joint / joint.sum(), atol=1e-12, rtol=1e-10)


def test_every_row_has_its_own_step(three: Multinomial) -> None:
    log_x0 = every_value(three)
    log_xt, t = log_x0.flip(0), torch.tensor([0, 5, 2, 3])
    together = three.posterior(log_x0, log_xt, t)
    for row in range(len(t)):
        alone = three.posterior(log_x0[[row]], log_xt[[row]], t[[row]])
        assert_close(together[[row]], alone)


def test_probabilities_of_each_category_sum_to_one_however_far_apart_the_categories_are(three: Multinomial) -> None:
    shift = torch.repeat_interleave(torch.tensor([-2000.0, 0.0, 3000.0]), torch.tensor(SIZES))
    log_p = three.normalised(torch.randn(5, 9, generator=seeding.torch_stream(0, "logits")) + shift)
    for part in log_p.exp().split([*SIZES], dim=1):
        assert_close(part.sum(dim=1), torch.ones(5))


def test_drawn_values_have_their_probabilities(three: Multinomial) -> None:
    p = torch.tensor([0.7, 0.25, 0.05, 0.1, 0.9, 0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    n = 40_000
    u = torch.rand(n, 9, generator=seeding.torch_stream(0, "uniform"), dtype=torch.float64)
    drawn = three.drawn(p.log().expand(n, -1), u).exp()
    assert_close(drawn.mean(dim=0), p, atol=4 * 0.5 / math.sqrt(n), rtol=0)
    assert torch.equal(three.one_hot(three.places(drawn)).double().exp().round(), drawn.round())


def expected_bound(diffusion: Multinomial, logits: Tensor) -> float:
    """The expectation of the whole bound over x_0 ~ SHARES and x_t, by enumeration, in nats."""
    values = every_value(diffusion)
    size = len(values)
    at_noise = products(size)[STEPS]
    total = float(SHARES @ (at_noise * (at_noise * size).log()).sum(dim=1))
    for t in range(STEPS):
        log_x0, log_xt = values.repeat_interleave(size, 0), values.repeat(size, 1)
        weight = (SHARES[:, None] * products(size)[t + 1]).flatten()
        terms = diffusion.bound_term(logits.expand(size**2, -1), log_x0, log_xt, torch.full((size**2,), t))
        total += float(weight @ terms)
    return total


def test_the_bound_of_a_known_distribution_is_its_entropy_and_what_is_left_at_the_last_step(one: Multinomial) -> None:
    """With the true reverse chain, E[bound] = H(x_0) + D(q(x_T) ‖ Cat(1/K)) exactly."""
    entropy = -float(SHARES @ SHARES.log())
    last = SHARES @ products(3)[-1]
    left = float(last @ (3 * last).log())
    assert expected_bound(one, SHARES.log()) == pytest.approx(entropy + left, rel=1e-9)


def test_the_bound_is_least_for_the_true_distribution(one: Multinomial) -> None:
    least = expected_bound(one, SHARES.log())
    for k in range(3):
        for shift in (-0.3, 0.3):
            logits = SHARES.log()
            logits[k] += shift
            assert expected_bound(one, logits) > least + 1e-3


def test_the_reverse_chain_of_the_true_distribution_ends_in_it() -> None:
    alpha_bar = Cosine(length=50).log_snr_table.sigmoid()
    diffusion = Multinomial(alpha_bar, SIZES[:1])
    n, stream = 20_000, seeding.torch_stream(0, "chain")

    def uniform() -> Tensor:
        return torch.rand(n, 3, generator=stream, dtype=torch.float64)

    log_x = diffusion.drawn(torch.zeros(n, 3, dtype=torch.float64), uniform())
    for t in reversed(range(50)):
        step = torch.tensor([t])
        log_x = diffusion.drawn(diffusion.posterior(SHARES.log().expand(n, -1), log_x, step), uniform())
    assert_close(log_x.exp().mean(dim=0), SHARES, atol=4 * 0.5 / math.sqrt(n), rtol=0)
