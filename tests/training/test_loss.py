"""The training loss, its terms, and its estimate."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from small_trainings import POINTS, changed, trainer
from torch import Tensor, nn

from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.config.schema import RunConfig
from dualdiff_cli.diffusion.network_denoiser import NetworkDenoiser
from dualdiff_cli.models.fitting import build_network_denoiser
from dualdiff_cli.models.losses import _score
from dualdiff_cli.training import loss as objectives
from dualdiff_cli.training.batches import Batch, PlainBatches, PosteriorMeanBatches
from dualdiff_cli.training.loss import diversity, estimate_loss, expert_usage, imbalance, regression_loss


@pytest.mark.parametrize("d", [1, 2, 5])
def test_diversity_is_minus_the_mean_distance_over_ordered_pairs_and_self_pairs(d: int) -> None:
    f = torch.randn(7, d, generator=torch.Generator().manual_seed(d))
    total = sum(math.dist(a, b) for a in f.tolist() for b in f.tolist())
    assert float(diversity(f)) == pytest.approx(-total / 49, rel=1e-6)


def test_diversity_pulls_two_points_apart_along_their_line() -> None:
    f = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    diversity(f).backward()
    # L = −2·‖f_1 − f_2‖ / 4, and the gradient of the distance by f_1 is the unit vector from f_2.
    assert f.grad is not None
    assert_allclose(f.grad, [[0.3, 0.4], [-0.3, -0.4]], rtol=1e-6)


def test_diversity_has_a_finite_gradient_where_points_coincide() -> None:
    f = torch.zeros(4, 2, requires_grad=True)
    diversity(f).backward()
    assert f.grad is not None
    assert not f.grad.any()


@pytest.mark.parametrize("weighting", ["uniform", "min-snr"])
@pytest.mark.parametrize("strength", [0.0, 0.1])
def test_loss_is_the_weighted_squared_error_plus_lambda_times_diversity(
    tiny_config: RunConfig, strength: float, weighting: str
) -> None:
    config = changed(tiny_config, objective={"diversity": strength, "weighting": weighting})
    denoiser = build_network_denoiser(config, 2)
    draws = torch.Generator().manual_seed(0)
    x, epsilon = torch.randn(2, 6, 2, generator=draws)
    t = torch.tensor([0.0, 10.0, 20.0, 50.0, 98.0, 99.0], dtype=torch.float64)
    f = denoiser.regression(x, epsilon, t).output.tolist()
    # min(SNR, 5) on x is min(SNR, 5)/SNR on ε, because x̂ − x = −(σ/α)(F − ε).
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 100))[t.long().numpy()]
    snr = alpha_bar / (1 - alpha_bar)
    weight = np.minimum(snr, 5) / snr if weighting == "min-snr" else np.ones(6)
    errors = sum(w * math.dist(a, e) ** 2 for w, a, e in zip(weight, f, epsilon.tolist(), strict=True)) / 12
    distances = sum(math.dist(a, b) for a in f for b in f) / 36
    loss = float(regression_loss(denoiser, config.objective, Batch(x, epsilon, t, None)).detach())
    assert loss == pytest.approx(errors - strength * distances, rel=1e-5)


def test_a_corrected_batch_is_regressed_on_its_corrected_points(either_config: RunConfig) -> None:
    denoiser = build_network_denoiser(either_config, 2)
    x, epsilon, correction = torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(0))
    stratified = either_config.objective.stratified
    t = denoiser.schedule.draw(6, torch.Generator().manual_seed(1), stratified=stratified)
    output, target, _ = denoiser.regression(x, epsilon, t, correction=correction)
    loss = regression_loss(denoiser, either_config.objective, Batch(x, epsilon, t, correction)).detach()
    assert_allclose(loss, (output - target).square().mean().detach(), rtol=1e-6)
    assert not torch.isclose(loss, regression_loss(denoiser, either_config.objective, Batch(x, epsilon, t, None)))


def test_the_objective_says_what_draws_the_batches(either_config: RunConfig) -> None:
    batches = trainer(either_config)._batches
    assert isinstance(batches, PosteriorMeanBatches if either_config.recipe == "precise" else PlainBatches)
    assert batches.stratified == either_config.objective.stratified


class Scaled(nn.Module):
    """F(x_t, t) = c·x_t, whatever the share of noise."""

    def __init__(self, c: float) -> None:
        super().__init__()
        self.c = nn.Parameter(torch.tensor(c))

    def forward(self, x: Tensor, t: Tensor, s: Tensor, *, stratified: bool = False) -> Tensor:
        return self.c * x


def scaled_denoiser(c: float, prediction: str = "noise") -> NetworkDenoiser:
    denoiser = build_network_denoiser(
        resolve(dataset="line", recipe="paper", settings=[f"objective.prediction={prediction}"]), 2
    )
    denoiser.network = Scaled(c)
    return denoiser


def test_predicting_no_noise_costs_one_within_the_standard_error() -> None:
    n = 10_000  # more than one evaluation batch
    estimate = estimate_loss(scaled_denoiser(0.0), torch.ones(n, 2), seed=3)
    assert estimate.n == n
    assert estimate.standard_error == pytest.approx(math.sqrt(2 / (2 * n)), rel=0.05)  # Var ε² = 2, two columns
    assert abs(estimate.mean - 1) < 4 * estimate.standard_error


def test_the_loss_of_a_single_row_has_no_interval() -> None:
    estimate = estimate_loss(scaled_denoiser(0.0), torch.ones(1, 2), seed=3)
    assert (estimate.standard_error, estimate.n) == (None, 1)
    score = _score(estimate, "mean squared error of the noise")
    assert (score.value, score.ci95) == (estimate.mean, None)


@pytest.mark.parametrize("prediction", ["noise", "data", "velocity"])
def test_the_loss_of_a_linear_network_is_its_closed_form(prediction: str) -> None:
    c, mu = 0.7, 1.5
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 100))
    alpha, sigma = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    # F − target = (c α − a) μ + (c σ − b) ε with the target a x + b ε.
    a, b = {"noise": (0, 1), "data": (1, 0), "velocity": (-sigma, alpha)}[prediction]
    expected = np.mean((c * alpha - a) ** 2 * mu**2 + (c * sigma - b) ** 2)
    estimate = estimate_loss(scaled_denoiser(c, prediction), torch.full((40_000, 2), mu), seed=0)
    assert estimate.standard_error < 0.02
    assert abs(estimate.mean - expected) < 4 * estimate.standard_error


def test_the_loss_depends_on_the_seed_and_not_on_the_evaluation_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = scaled_denoiser(0.5)
    whole = estimate_loss(denoiser, POINTS, seed=1)
    assert estimate_loss(denoiser, POINTS, seed=2).mean != whole.mean
    monkeypatch.setattr(objectives, "EVALUATION_BATCH", 7)
    assert estimate_loss(denoiser, POINTS, seed=1).mean == pytest.approx(whole.mean, rel=1e-6)


def test_imbalance_is_zero_for_equal_use_and_one_less_than_the_experts_for_a_single_one() -> None:
    assert float(imbalance(torch.full((5, 4), 0.25))) == pytest.approx(0, abs=1e-6)
    assert float(imbalance(torch.eye(4)[[2, 2, 2]])) == pytest.approx(3)
    # half the points on one expert, half on the other: nobody is left out, however sure the gate is
    assert float(imbalance(torch.eye(2)[[0, 1, 0, 1]])) == pytest.approx(0, abs=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("given", [None, torch.tensor([[True, False]]).expand(16, -1)])
def test_the_balance_term_is_that_of_what_the_network_sees_with_its_weight(
    given: Tensor | None, tiny_config: RunConfig
) -> None:
    denoiser = build_network_denoiser(tiny_config, 2)
    denoiser.network.gate_trunk.head[-1].bias.fill_(1.0)
    gates = []
    denoiser.network.gate_trunk.register_forward_hook(lambda gate, inputs, logits: gates.append(logits.sigmoid()))
    batch = PlainBatches(POINTS, denoiser.schedule)(16, torch.Generator().manual_seed(0))._replace(given=given)
    regression_loss(denoiser, tiny_config.objective, batch)
    term = imbalance(torch.cat([gates[0], 1 - gates[0]], dim=-1))
    plain, balanced = (
        regression_loss(denoiser, changed(tiny_config, objective={"balance": weight}).objective, batch)
        for weight in (0.0, 0.7)
    )
    assert float(term) > 0.1
    assert float(balanced - plain) == pytest.approx(0.7 * float(term), rel=1e-4)


def test_balance_makes_an_uneven_gate_even(tiny_config: RunConfig) -> None:
    config = changed(tiny_config, objective={"balance": 10.0}, training={"steps": 150, "learning_rate": 0.01})
    started = trainer(config)
    with torch.no_grad():
        started.denoiser.network.gate_trunk.head[-1].bias.fill_(3.0)
    before = expert_usage(started.denoiser, POINTS, seed=0)
    list(started.run())
    after = expert_usage(started.denoiser, POINTS, seed=0)
    assert sum(before) == pytest.approx(1)
    assert before[0] > 0.9
    assert abs(after[0] - 0.5) < 0.1
