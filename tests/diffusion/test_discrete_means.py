"""The posterior mean of features with few values, against Bayes' rule over the values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dualdiff_cli import seeding
from dualdiff_cli.data import DiscreteSpan
from dualdiff_cli.diffusion.discrete import DiscreteMeans
from dualdiff_cli.diffusion.network_denoiser import NetworkDenoiser
from dualdiff_cli.diffusion.schedules.continuous import LogSNRUniform

N = 50
LEVELS = [(1.0, 0.05), (0.9, 0.4), (0.5, 1.0), (0.05, 3.0)]
SHARES = torch.tensor([0.55, 0.3, 0.15], dtype=torch.float64)
SCALE = 1.7
ONE_HOT = DiscreteSpan(0, 3, tuple((-SCALE * SHARES).tolist()), SCALE)
BINARY = DiscreteSpan(0, 1, (-2.2 * 0.3,), 2.2)


def normal(*shape: int, role: str) -> Tensor:
    return torch.randn(*shape, generator=seeding.torch_stream(0, role), dtype=torch.float64)


def posterior_mean(values: Tensor, log_prior: Tensor, x_t: Tensor, alpha: float, sigma: float) -> Tensor:
    """Compute Σ_k P(k | x_t) v_k for values v (K, d), log-probabilities (n, K) and noisy points (n, d)."""
    log_likelihood = -0.5 * ((x_t[:, None] - alpha * values) / sigma).square().sum(-1)
    return torch.softmax(log_prior + log_likelihood, dim=1) @ values


def noisy(values: Tensor, alpha: float, sigma: float) -> Tensor:
    """Noisy points around values (K, d), (N, d)."""
    chosen = values[torch.arange(N) % len(values)]
    return alpha * chosen + sigma * normal(N, values.shape[1], role="noise")


def at(level: tuple[float, float]) -> tuple[Tensor, Tensor]:
    alpha, sigma = (torch.full((1, 1), c, dtype=torch.float64) for c in level)
    return alpha, sigma


@pytest.mark.parametrize("level", LEVELS)
def test_a_one_hot_variable_has_the_mean_of_bayes_rule_if_the_network_knows_the_log_probabilities(
    level: tuple[float, float],
) -> None:
    values = torch.tensor(ONE_HOT.shift, dtype=torch.float64) + SCALE * torch.eye(3, dtype=torch.float64)
    x_t = noisy(values, *level)
    log_p = torch.log_softmax(normal(N, 3, role="what the other features say"), 1)
    alpha, sigma = at(level)
    own = DiscreteMeans([ONE_HOT])(torch.empty(N, 3), log_p - SHARES.log(), x_t, alpha, sigma)
    torch.testing.assert_close(own, posterior_mean(values, log_p, x_t, *level))


@pytest.mark.parametrize("level", LEVELS)
def test_a_feature_with_two_values_has_the_mean_of_bayes_rule(level: tuple[float, float]) -> None:
    values = torch.tensor([[-0.66], [-0.66 + 2.2]], dtype=torch.float64)
    x_t = noisy(values, *level)
    p = torch.sigmoid(normal(N, 1, role="what the other features say"))
    alpha, sigma = at(level)
    F = torch.logit(p) - torch.logit(torch.tensor(0.3, dtype=torch.float64))
    own = DiscreteMeans([BINARY])(torch.empty(N, 1), F, x_t, alpha, sigma)
    torch.testing.assert_close(own, posterior_mean(values, torch.cat([1 - p, p], 1).log(), x_t, *level))


def test_an_output_of_zero_says_that_the_other_features_tell_nothing() -> None:
    alpha, sigma = at((0.0, 1.0))  # pure noise tells nothing either: what is left are the shares of the training rows
    own = DiscreteMeans([ONE_HOT])(torch.empty(N, 3), torch.zeros(N, 3), normal(N, 3, role="x"), alpha, sigma)
    torch.testing.assert_close(own, torch.zeros(N, 3, dtype=torch.float64), atol=1e-12, rtol=0)


def test_other_features_keep_their_answers_and_their_places() -> None:
    x_t, denoised, F = (normal(N, 7, role=role) for role in ("x", "denoised", "F"))
    alpha, sigma = at((0.9, 0.4))
    spans = [ONE_HOT.moved(1), BINARY.moved(5)]
    own = DiscreteMeans(spans)(denoised, F, x_t, alpha, sigma)
    assert own.shape == (N, 7)
    assert torch.equal(own[:, [0, 4, 6]], denoised[:, [0, 4, 6]])
    alone = DiscreteMeans([ONE_HOT])(denoised[:, 1:4], F[:, 1:4], x_t[:, 1:4], alpha, sigma)
    assert torch.equal(own[:, 1:4], alone)


class Constant(torch.nn.Module):
    """A network that answers the same everywhere."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = torch.nn.Parameter(output)

    def forward(self, x: Tensor, t: Tensor, s: Tensor, *, stratified: bool = False) -> Tensor:
        return self.output.expand(len(x), -1)


@pytest.mark.parametrize("prediction", ["velocity", "noise", "data", "edm", "flow"])
def test_the_denoiser_of_any_prediction_answers_with_bayes_rule_and_its_regression_has_the_same_error(
    prediction: str,
) -> None:
    schedule = LogSNRUniform(sigma_min=0.01, sigma_max=10.0)
    denoiser = NetworkDenoiser(
        Constant(torch.zeros(1, 3, dtype=torch.float64)),
        schedule,
        prediction=prediction,  # type: ignore[arg-type]
        discrete=[ONE_HOT],
    )
    values = torch.tensor(ONE_HOT.shift, dtype=torch.float64) + SCALE * torch.eye(3, dtype=torch.float64)
    x, epsilon = values[torch.arange(N) % 3], normal(N, 3, role="epsilon")
    t = torch.linspace(0.05, 0.95, N, dtype=torch.float64)
    alpha, sigma = schedule.alpha_sigma(t, x)
    x_t = alpha * x + sigma * epsilon
    means = torch.cat(
        [
            posterior_mean(values, SHARES.log().expand(1, 3), x_t[k : k + 1], float(alpha[k]), float(sigma[k]))
            for k in range(N)
        ]
    )
    torch.testing.assert_close(denoiser(x_t, t), means)
    problem = denoiser.regression(x, epsilon, t)
    c_out = denoiser.coefficients(alpha, sigma)[1]
    torch.testing.assert_close(c_out * (problem.output - problem.target), means - x, atol=1e-9, rtol=1e-6)
