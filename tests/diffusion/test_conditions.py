"""Denoisers of conditional distributions, against closed forms and quadrature."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from dualdiff_cli import seeding
from dualdiff_cli.config.recipes import resolve_diffusion
from dualdiff_cli.data import FeatureLayout
from dualdiff_cli.diffusion.conditions import FreeDenoiser, GuidedDenoiser
from dualdiff_cli.diffusion.denoisers import Denoiser
from dualdiff_cli.diffusion.mixtures import FullMixtureDenoiser
from dualdiff_cli.diffusion.network_denoiser import NetworkDenoiser
from dualdiff_cli.diffusion.samplers.multistep import DPMSolverPP2M
from dualdiff_cli.diffusion.schedules.continuous import LogSNRUniform
from dualdiff_cli.training.folds import build_stacked

SCHEDULE = LogSNRUniform(sigma_min=0.01, sigma_max=10.0)
TIMES = [0.05, 0.4, 0.7, 1.0]
D = 4
GIVEN = torch.tensor([True, False, True, False])


def normal(*shape: int, role: str) -> Tensor:
    return torch.randn(*shape, generator=seeding.torch_stream(0, role), dtype=torch.float64)


def mixture(components: int, d: int = D) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, means and covariances."""
    roots = normal(components, d, d, role="roots")
    weights = torch.softmax(normal(components, role="weights"), 0)
    covariances = roots @ roots.mT + 0.1 * torch.eye(d, dtype=torch.float64)
    return weights, normal(components, d, role="means"), covariances


def gaussian_mean(mean: Tensor, covariance: Tensor, x_t: Tensor, alpha: float, sigma: float) -> Tensor:
    """Compute E[x | x_t] for x ~ N(mean, covariance), with a mean for each of n points (n, d)."""
    total = alpha**2 * covariance + sigma**2 * torch.eye(len(covariance), dtype=torch.float64)
    return mean + torch.linalg.solve(total, (x_t - alpha * mean).T).T @ (alpha * covariance)


# The closed form


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("n", [1, 6], ids=["one-condition", "a-condition-for-each-point"])
def test_a_gaussian_is_conditioned_by_the_textbook_formula(t: float, n: int) -> None:
    (w, (mean,), (covariance,)) = mixture(1)
    values, x_t = normal(n, D, role="values"), 2 * normal(6, D, role="x")
    G, F = GIVEN.nonzero().flatten(), (~GIVEN).nonzero().flatten()
    regression = covariance[F][:, G] @ torch.linalg.inv(covariance[G][:, G])
    m = mean[F] + (values[:, G] - mean[G]) @ regression.T
    C = covariance[F][:, F] - regression @ covariance[G][:, F]
    time = torch.tensor(t, dtype=torch.float64)
    alpha, sigma = (float(c) for c in SCHEDULE(time))
    denoiser = FullMixtureDenoiser(w, mean[None], covariance[None], SCHEDULE).conditioned(values, GIVEN)
    own = denoiser(x_t, time)
    torch.testing.assert_close(own[:, F], gaussian_mean(m, C, x_t[:, F], alpha, sigma), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(own[:, G], values[:, G].expand(6, -1), atol=1e-9, rtol=0)


def test_the_denoiser_of_the_free_features_is_that_of_their_conditional_distribution() -> None:
    (w, (mean,), (covariance,)) = mixture(1)
    values, x_t = normal(D, role="values"), 2 * normal(6, 2, role="x")
    G, F = GIVEN.nonzero().flatten(), (~GIVEN).nonzero().flatten()
    regression = covariance[F][:, G] @ torch.linalg.inv(covariance[G][:, G])
    m, C = mean[F] + regression @ (values[G] - mean[G]), covariance[F][:, F] - regression @ covariance[G][:, F]
    time = torch.tensor(0.4, dtype=torch.float64)
    alpha, sigma = (float(c) for c in SCHEDULE(time))
    whole = FullMixtureDenoiser(w, mean[None], covariance[None], SCHEDULE).conditioned(values[None], GIVEN)
    own = FreeDenoiser(whole, values, F)(x_t, time)
    torch.testing.assert_close(own, gaussian_mean(m, C, x_t, alpha, sigma), atol=1e-4, rtol=1e-4)


def test_components_are_weighed_by_how_well_they_explain_the_given_features() -> None:
    w, means, covariances = mixture(3)
    values = normal(5, D, role="values")
    G = GIVEN.nonzero().flatten()
    away = values[:, None, G] - means[:, G]
    S = covariances[:, G][:, :, G]
    log_density = -0.5 * (away * torch.linalg.solve(S, away.unsqueeze(-1)).squeeze(-1)).sum(-1)
    expected = torch.softmax(w.log() + log_density - 0.5 * torch.logdet(S), -1)
    own = FullMixtureDenoiser(w, means, covariances, SCHEDULE).conditioned(values, GIVEN)
    torch.testing.assert_close(own.log_weights.exp(), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("t", TIMES)
def test_the_conditional_mean_of_a_mixture_is_that_of_quadrature(t: float) -> None:
    w, means, covariances = mixture(2, d=2)
    time = torch.tensor(t, dtype=torch.float64)
    alpha, sigma = (float(c) for c in SCHEDULE(time))
    given, x = torch.tensor([True, False]), torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    for value, x_t in [(-0.7, 0.4), (1.5, -2.0), (0.2, 3.0)]:
        points = torch.stack([torch.full_like(x, value), x], 1)
        density = sum(
            w[k] * torch.distributions.MultivariateNormal(means[k], covariances[k]).log_prob(points).exp()
            for k in range(2)
        )
        # The noisy value of the given feature says nothing more about the other one.
        log_p = torch.as_tensor(density).log() - 0.5 * ((x_t - alpha * x) / sigma) ** 2
        expected = torch.softmax(log_p, 0) @ x
        noisy = torch.tensor([[5.0, x_t]], dtype=torch.float64)
        conditioned = FullMixtureDenoiser(w, means, covariances, SCHEDULE).conditioned(
            torch.tensor([[value, math.nan]], dtype=torch.float64).nan_to_num(99.0), given
        )
        assert float(conditioned(noisy, time)[0, 1]) == pytest.approx(float(expected), abs=2e-4)


def test_without_given_features_nothing_changes_and_with_all_given_nothing_is_left_open() -> None:
    denoiser, t = FullMixtureDenoiser(*mixture(3), SCHEDULE), torch.tensor(0.5, dtype=torch.float64)
    x_t, values = normal(7, D, role="x"), normal(1, D, role="values")
    none, every = torch.zeros(D, dtype=torch.bool), torch.ones(D, dtype=torch.bool)
    torch.testing.assert_close(denoiser.conditioned(values, none)(x_t, t), denoiser(x_t, t))
    torch.testing.assert_close(denoiser.conditioned(values, every)(x_t, t), values.expand(7, D))


def test_each_point_may_have_given_features_of_its_own() -> None:
    denoiser, t = FullMixtureDenoiser(*mixture(3), SCHEDULE), torch.tensor(0.4, dtype=torch.float64)
    x_t, values = normal(9, D, role="x"), normal(9, D, role="values")
    given = torch.rand(9, D, generator=seeding.torch_stream(0, "given")) < 0.5
    given[0], given[1] = False, True
    own = denoiser.conditioned(values, given)(x_t, t)
    alone = [denoiser.conditioned(values[k : k + 1], given[k])(x_t[k : k + 1], t) for k in range(9)]
    torch.testing.assert_close(own, torch.cat(alone), atol=1e-4, rtol=1e-4)


# The network


class Spy(nn.Module):
    """A network that remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, t: Tensor, s: Tensor, *, stratified: bool = False) -> Tensor:
        self.seen.append((x, s))
        return self.weight * (x.sum(1, keepdim=True) + s.reshape(len(s), -1).sum(1, keepdim=True)).expand_as(x)


def spied() -> tuple[NetworkDenoiser, Spy]:
    spy = Spy()
    return NetworkDenoiser(spy, SCHEDULE, prediction="velocity"), spy


def test_the_network_never_sees_noise_on_given_features_whether_it_learns_or_answers() -> None:
    denoiser, spy = spied()
    x, t = normal(6, D, role="x"), torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    given = torch.rand(6, D, generator=seeding.torch_stream(1, "given")) < 0.5
    outcomes = []
    for role in ("one", "another"):
        noise = normal(6, D, role="noise")
        epsilon = torch.where(given, normal(6, D, role=role), noise)
        problem = denoiser.regression(x, epsilon, t, given=given)
        outcomes.append((problem.weight * (problem.output - problem.target).square()).sum())
        assert torch.equal(problem.weight > 0, ~given)  # their errors weigh nothing
    assert outcomes[0] == outcomes[1]
    conditioned = denoiser.conditioned(x, given)
    answers = [conditioned(torch.where(given, normal(6, D, role=role), x), t) for role in ("one", "another")]
    assert torch.equal(*answers)
    assert torch.equal(answers[0][given], x[given])
    for seen, share in spy.seen:
        assert torch.equal(seen[given], x[given])
        assert not share[given].any()
        assert (share[~given] > 0).all()


def test_a_network_that_is_given_nothing_answers_as_before() -> None:
    denoiser, _ = spied()
    x, t = normal(6, D, role="x"), torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    none = torch.zeros(D, dtype=torch.bool)
    conditioned = denoiser.conditioned(torch.zeros(1, D, dtype=torch.float64), none)
    # The sum over the shares of noise has one term a feature instead of one term.
    denoiser.network.forward = lambda x, t, s, stratified=False: 0.1 * x  # type: ignore[method-assign]
    torch.testing.assert_close(conditioned(x, t), denoiser(x, t))


def stacked() -> Denoiser:
    settled = ["schedule.sigma_min=0.01", "model.finest_frequency=50.0"]
    config = resolve_diffusion(dataset="line", settings=["model.width=8", "model.blocks=1", "folds.number=2", *settled])
    denoiser = build_stacked(config, FeatureLayout.plain(D))
    weights = {f"closed.{k}": v for k, v in vars(FullMixtureDenoiser(*mixture(2), SCHEDULE))["_buffers"].items()}
    denoiser.load_weights(
        {**denoiser.learnt.weights(), **weights, "gate_weights": torch.linspace(0, 1, config.folds.levels).double()}
    )
    return denoiser


def test_a_stack_weighs_the_conditional_answers_of_its_experts_as_its_plain_ones() -> None:
    stack = stacked()
    values, x_t, t = normal(1, D, role="values"), normal(5, D, role="x"), torch.tensor(0.4, dtype=torch.float64)
    own = stack.conditioned(values, GIVEN)(x_t, t)
    parts = [expert.conditioned(values, GIVEN)(x_t, t) for expert in (stack.learnt, stack.mixture)]  # type: ignore[union-attr]
    w = stack.gate(x_t, t)[:, :1]  # type: ignore[operator]
    torch.testing.assert_close(own, w * parts[0] + (1 - w) * parts[1])
    torch.testing.assert_close(own[:, GIVEN], values[:, GIVEN].expand(5, -1), atol=1e-6, rtol=0)


# Guidance


def test_guidance_of_one_is_conditional_and_of_zero_is_unconditional() -> None:
    plain, t = FullMixtureDenoiser(*mixture(2), SCHEDULE), torch.tensor(0.4, dtype=torch.float64)
    x_t, conditioned = normal(5, D, role="x"), plain.conditioned(normal(1, D, role="values"), GIVEN)
    torch.testing.assert_close(GuidedDenoiser(plain, conditioned, 1.0)(x_t, t), conditioned(x_t, t))
    torch.testing.assert_close(GuidedDenoiser(plain, conditioned, 0.0)(x_t, t), plain(x_t, t))
    twice = GuidedDenoiser(plain, conditioned, 2.0)(x_t, t)
    torch.testing.assert_close(twice, 2 * conditioned(x_t, t) - plain(x_t, t))


def test_samples_of_the_conditioned_denoiser_have_the_conditional_distribution() -> None:
    (w, (mean,), (covariance,)) = mixture(1)
    denoiser = FullMixtureDenoiser(w, mean[None], covariance[None], SCHEDULE)
    values, n = normal(1, D, role="values"), 4000
    x = DPMSolverPP2M(steps=40)(denoiser.conditioned(values, GIVEN), normal(n, D, role="start"))
    G, F = GIVEN.nonzero().flatten(), (~GIVEN).nonzero().flatten()
    regression = covariance[F][:, G] @ torch.linalg.inv(covariance[G][:, G])
    m = mean[F] + regression @ (values[0, G] - mean[G])
    C = covariance[F][:, F] - regression @ covariance[G][:, F]
    errors = (x[:, F].mean(0) - m) / (C.diagonal() / n).sqrt()
    assert errors.abs().max() < 4
    torch.testing.assert_close(torch.cov(x[:, F].T), C, rtol=0.1, atol=0.05)
    torch.testing.assert_close(x[:, G], values[:, G].expand(n, -1), atol=1e-6, rtol=0)
