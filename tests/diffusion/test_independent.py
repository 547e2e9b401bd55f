"""The posterior mean of independent features, against other ways to compute it."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from dualdiff_cli import seeding
from dualdiff_cli.data import DiscreteSpan
from dualdiff_cli.diffusion.discrete import DiscreteMeans
from dualdiff_cli.diffusion.independent import IndependentDenoiser, Marginal
from dualdiff_cli.diffusion.mixtures import MixtureDenoiser
from dualdiff_cli.diffusion.schedules import Schedule
from dualdiff_cli.diffusion.schedules.continuous import LogSNRUniform, VarianceExploding

SCHEDULE = LogSNRUniform(sigma_min=0.01, sigma_max=10.0)
TIMES = torch.tensor([0.0, 0.3, 0.6, 1.0], dtype=torch.float64)
FIRST = Marginal(*(torch.tensor(values).double() for values in ([0.2, 0.8], [-1.0, 0.5], [0.04, 0.3])))
SECOND = Marginal(*(torch.tensor(values).double() for values in ([0.5, 0.1, 0.4], [0.0, 2.0, -1.5], [0.01, 0.2, 1.0])))


def noisy(n: int = 20, d: int = 2) -> Tensor:
    return 2 * torch.randn(n, d, generator=seeding.torch_stream(0, "noisy points"), dtype=torch.float64)


@pytest.mark.parametrize("schedule", [SCHEDULE, VarianceExploding(sigma_min=0.01, sigma_max=10.0)])
def test_the_answer_is_that_of_the_mixture_of_all_pairs_of_components(schedule: Schedule) -> None:
    pairs = list(itertools.product(zip(*FIRST, strict=True), zip(*SECOND, strict=True)))
    weights = torch.stack([a[0] * b[0] for a, b in pairs])
    means, variances = (torch.stack([torch.stack([a[i], b[i]]) for a, b in pairs]) for i in (1, 2))
    whole = MixtureDenoiser(weights, means, variances.sqrt(), schedule)
    denoiser = IndependentDenoiser.of([FIRST, SECOND], schedule)
    for t in TIMES:
        torch.testing.assert_close(denoiser(noisy(), t), whole(noisy(), t), rtol=1e-9, atol=1e-9)
    each = torch.linspace(0, 1, 20, dtype=torch.float64)
    torch.testing.assert_close(denoiser(noisy(), each), whole(noisy(), each), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("K", [2, 3, 7])
def test_a_density_with_more_components_is_the_same_density(K: int) -> None:
    padded = FIRST.padded(K)
    assert [len(values) for values in padded] == [K] * 3
    assert float(padded.weights.sum()) == pytest.approx(1)
    x = torch.linspace(-4, 4, 50, dtype=torch.float64).unsqueeze(1)

    def density(marginal: Marginal) -> Tensor:
        weights, means, variances = marginal
        return (weights * torch.distributions.Normal(means, variances.sqrt()).log_prob(x).exp()).sum(1)

    torch.testing.assert_close(density(padded), density(FIRST))


def test_features_with_few_values_have_the_posterior_means_of_their_shares() -> None:
    span = DiscreteSpan(start=1, width=2, scale=2.0, shift=(-0.6, -1.4))  # shares 0.3 and 0.7
    unknown = Marginal(torch.ones(1), torch.zeros(1), torch.ones(1))
    denoiser = IndependentDenoiser.of([FIRST, unknown, unknown], SCHEDULE, DiscreteMeans([span]))
    x_t, t = noisy(d=3), TIMES[1]
    alpha, sigma = (c.reshape(1, 1) for c in SCHEDULE(t))
    expected = DiscreteMeans([span])(torch.zeros(20, 3).double(), torch.zeros(20, 3).double(), x_t, alpha, sigma)
    torch.testing.assert_close(denoiser(x_t, t)[:, 1:], expected[:, 1:])
    torch.testing.assert_close(denoiser(x_t, t)[:, :1], IndependentDenoiser.of([FIRST], SCHEDULE)(x_t[:, :1], t))


@pytest.mark.parametrize("rows", [1, 20])
def test_a_given_feature_is_known_and_says_nothing_of_the_others(rows: int) -> None:
    denoiser, values = IndependentDenoiser.of([FIRST, SECOND], SCHEDULE), noisy(rows) - 1
    given = torch.tensor([True, False]).expand(rows, 2) if rows > 1 else torch.tensor([True, False])
    conditioned = denoiser.conditioned(values, given)
    answer = conditioned(noisy(), TIMES[2])
    torch.testing.assert_close(answer[:, 0], values[:, 0].expand(20))
    torch.testing.assert_close(answer[:, 1], denoiser(noisy(), TIMES[2])[:, 1])
    assert conditioned.off_centre
    assert not denoiser.off_centre
