from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from tiny import tiny
from torch import Tensor, nn

from dualdiff_cli.compute.execution import PLAIN, Execution
from dualdiff_cli.compute.optimiser import ema_decay, learning_rate
from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.config.schema import RunConfig, TrainingConfig
from dualdiff_cli.diffusion.denoisers import NetworkDenoiser
from dualdiff_cli.models.diffusion import build_denoiser
from dualdiff_cli.training import loss as objectives
from dualdiff_cli.training.batches import Batch, PlainBatches, PosteriorMeanBatches, nearest_assignment
from dualdiff_cli.training.loop import Progress, Record, Trainer
from dualdiff_cli.training.loss import batch_loss, diversity, estimate_loss, expert_usage, imbalance, regression_loss

POINTS = torch.randn(200, 2, generator=torch.Generator().manual_seed(5)) * torch.tensor([1.0, 0.3]) + 0.5


def changed(config: RunConfig, **values: dict[str, Any]) -> RunConfig:
    """The configuration with some values of its sections replaced."""
    sections = {name: getattr(config, name).model_copy(update=update) for name, update in values.items()}
    return config.model_copy(update=sections)


def trainer(
    config: RunConfig,
    *,
    points: Tensor = POINTS,
    seed: int = 0,
    weights_seed: int | None = None,
    execution: Execution = PLAIN,
) -> Trainer:
    """A training with one seed for its weights and its draws, or with two."""
    weights_seed = seed if weights_seed is None else weights_seed
    denoiser = build_denoiser(config.model_copy(update={"seed": weights_seed}), points.shape[1]).to(points.device)
    return Trainer(denoiser, points, objective=config.objective, config=config.training, seed=seed, execution=execution)


def records(reports: Iterable[Progress]) -> list[Record]:
    return [record for report in reports for record in report.records]


def weights(network: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in network.parameters()]


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# Schedules of the optimiser and of the average


def test_learning_rate_falls_from_eta_along_half_a_cosine_to_zero() -> None:
    config = TrainingConfig(steps=300, learning_rate=0.02)
    rates = [learning_rate(step, config) for step in range(301)]
    assert rates[0] == 0.02
    assert rates[100] == pytest.approx(0.015)
    assert rates[150] == pytest.approx(0.01)
    assert rates[300] == 0
    assert all(a > b for a, b in itertools.pairwise(rates))


def test_learning_rate_falls_from_eta_along_a_line_to_zero() -> None:
    config = TrainingConfig(steps=300, learning_rate=0.02, annealing="linear")
    rates = [learning_rate(step, config) for step in range(301)]
    assert rates == pytest.approx([0.02 * (1 - step / 300) for step in range(301)], abs=1e-15)
    assert rates[300] == 0


@pytest.mark.parametrize("annealing", ["cosine", "linear"])
def test_learning_rate_rises_in_equal_shares_of_the_annealed_one_and_ends_at_zero(annealing: str) -> None:
    config = TrainingConfig.model_validate({"steps": 50, "learning_rate": 0.02, "annealing": annealing})
    warmed = config.model_copy(update={"warmup": 4})
    shares = [learning_rate(step, warmed) / learning_rate(step, config) for step in range(50)]
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8] + 46 * [1])
    assert learning_rate(50, warmed) == 0
    longer_than_the_run = config.model_copy(update={"warmup": 99})
    assert [learning_rate(step, longer_than_the_run) for step in (0, 50)] == pytest.approx([0.02 / 100, 0])


def test_ema_decay_is_the_formula_and_a_copy_during_the_warm_up() -> None:
    config = TrainingConfig(ema_warmup=100, ema_decay=0.995)
    for step in range(10_001):
        epoch = np.float64(max(step - 100 - 1, 0))
        expected = np.clip(1 - (1 + epoch / 1.0) ** -(2 / 3), 0.0, 0.995) if epoch > 0 else 0.0
        assert ema_decay(step, config) == pytest.approx(expected, rel=1e-14)
    assert ema_decay(101, config) == 0
    assert ema_decay(101 + 7, config) == pytest.approx(3 / 4)  # 8^(2/3) = 4
    assert ema_decay(101 + 26, config) == pytest.approx(8 / 9)  # 27^(2/3) = 9
    assert ema_decay(2928, config) < ema_decay(2929, config) == 0.995  # 0.005^(-3/2) = 2828.4


# Losses


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
    denoiser = build_denoiser(config, 2)
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
    denoiser = build_denoiser(either_config, 2)
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
    denoiser = build_denoiser(
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


# The loop


def reference(config: RunConfig, steps: int, *, seed: int) -> tuple[list[Tensor], list[Tensor], list[float]]:
    """Plain eager training as the paper states it; gives weights, averaged weights and the loss of each step.

    Draws come from one generator in the order rows, times, noise. AdamW is Loshchilov & Hutter (2019), algorithm 2, on
    gradients scaled to the norm that they are clipped at.
    """
    k, objective = config.training, config.objective
    network = build_denoiser(config.model_copy(update={"seed": seed}), 2).network
    parameters = list(network.parameters())
    average = [p.detach().clone() for p in parameters]
    m = [torch.zeros_like(p) for p in parameters]
    v = [torch.zeros_like(p) for p in parameters]
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 100, dtype=torch.float64), 0)
    draws = torch.Generator().manual_seed(seed)
    losses = []
    for step in range(1, steps + 1):
        x = POINTS[torch.randint(len(POINTS), (k.batch,), generator=draws)]
        u = torch.rand(k.batch, generator=draws, dtype=torch.float64)
        t = (100 * ((torch.arange(k.batch) + u) / k.batch if objective.stratified else u)).long()
        epsilon = torch.randn(k.batch, 2, generator=draws)
        if objective.coupling == "optimal-transport":
            epsilon = epsilon[nearest_assignment(x, epsilon)]
        alpha, sigma = (c.float()[:, None] for c in (alpha_bar[t].sqrt(), (1 - alpha_bar[t]).sqrt()))
        output = network(alpha * x + sigma * epsilon, t.float(), sigma[:, 0])
        loss = ((output - epsilon) ** 2).mean()
        if objective.diversity:
            pairs = [(output[i] - output[j]).norm() for i in range(k.batch) for j in range(k.batch) if i != j]
            loss = loss - objective.diversity * torch.stack(pairs).sum() / k.batch**2
        gradients = torch.autograd.grad(loss, parameters)
        norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
        left = 1 - (step - 1) / k.steps
        annealed = (1 - math.cos(math.pi * left)) / 2 if k.annealing == "cosine" else left
        rate = k.learning_rate * annealed * min(1, step / (k.warmup + 1))
        with torch.no_grad():
            for p, g, first, second in zip(parameters, gradients, m, v, strict=True):
                g = g * min(1.0, k.clip_norm / norm)
                first.mul_(0.9).add_(0.1 * g)
                second.mul_(k.beta2).add_((1 - k.beta2) * g * g)
                direction = (first / (1 - 0.9**step)) / ((second / (1 - k.beta2**step)).sqrt() + 1e-8)
                p -= rate * (direction + k.weight_decay * p)
            if step % k.ema_every == 0 or step == k.steps:
                s = max(step - k.ema_warmup - 1, 0)
                decay = min(max(1 - (1 + s) ** (-2 / 3), 0), k.ema_decay)
                for a, p in zip(average, parameters, strict=True):
                    a.copy_(decay * a + (1 - decay) * p)
        losses.append(float(loss.detach()))
    return [p.detach() for p in parameters], average, losses


@pytest.mark.parametrize(
    "optimiser",
    [{"clip_norm": 0.02}, {"clip_norm": 1e6}, {"annealing": "linear", "warmup": 3, "beta2": 0.9, "ema_every": 1}],
    ids=str,
)
@pytest.mark.parametrize(
    "objective", [{}, {"diversity": 0.1}, {"stratified": True, "coupling": "optimal-transport"}], ids=str
)
def test_training_equals_a_plain_loop_written_by_hand(
    tiny_config: RunConfig, optimiser: dict[str, Any], objective: dict[str, Any]
) -> None:
    config = changed(
        tiny_config,
        training={**optimiser, "log_every": 1, "learning_rate": 1e-2, "weight_decay": 0.5},
        objective=objective,
    )
    parameters, average, losses = reference(config, config.training.steps, seed=4)
    t = trainer(config, seed=4)
    logged = records(t.run())
    assert [record.loss for record in logged] == pytest.approx(losses, rel=1e-5)
    for mine, theirs in ((weights(t.denoiser), parameters), (weights(t.average), average)):
        for a, b in zip(mine, theirs, strict=True):
            assert_allclose(a, b, atol=2e-6)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(either_config: RunConfig) -> None:
    runs = [trainer(either_config, seed=seed) for seed in (1, 1, 2)]
    logs = [records(t.run()) for t in runs]
    assert equal(weights(runs[0].denoiser), weights(runs[1].denoiser))
    assert equal(weights(runs[0].average), weights(runs[1].average))
    assert logs[0] == logs[1] != logs[2]


def test_the_seed_of_the_draws_matters_by_itself(either_config: RunConfig) -> None:
    runs = [
        Trainer(
            build_denoiser(either_config, 2),
            POINTS,
            objective=either_config.objective,
            config=either_config.training,
            seed=seed,
        )
        for seed in (1, 2)
    ]
    assert records(runs[0].run()) != records(runs[1].run())


def test_training_leaves_the_global_random_state_alone_and_does_not_depend_on_it(either_config: RunConfig) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = trainer(either_config)
    list(first.run())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    second = trainer(either_config)
    list(second.run())
    assert equal(weights(first.denoiser), weights(second.denoiser))


@pytest.mark.parametrize("stops", [[1], [4], [5], [7], [10], [11], [12], [3, 6, 8], list(range(1, 13))])
def test_a_resumed_run_ends_bit_for_bit_where_an_uninterrupted_one_does(
    either_config: RunConfig, stops: list[int]
) -> None:
    config = changed(either_config, objective={"diversity": 0.1})
    whole = trainer(config)
    log = records(whole.run())

    part, parts_log = trainer(config), []
    for stop in stops:
        parts_log += records(part.run(lambda part=part, stop=stop: part.step == stop))
        assert part.step == stop
        file = io.BytesIO()
        torch.save(part.state_dict(), file)
        file.seek(0)
        part = trainer(
            config, weights_seed=99
        )  # other weights, and draws from their beginning: the state replaces both
        part.load_state_dict(torch.load(file, weights_only=True))
    parts_log += records(part.run())

    assert part.step == whole.step == 12
    assert equal(weights(part.denoiser), weights(whole.denoiser))
    assert equal(weights(part.average), weights(whole.average))
    assert parts_log == log


def test_records_come_every_interval_and_at_the_end_with_the_mean_loss_between(either_config: RunConfig) -> None:
    each = records(trainer(changed(either_config, training={"log_every": 1})).run())
    assert [record.step for record in each] == list(range(1, 13))
    reports = list(trainer(either_config).run())
    assert [report.step for report in reports] == [5, 10, 12]
    logged = records(reports)
    assert [record.step for record in logged] == [5, 10, 12]
    losses = [record.loss for record in each]
    assert [record.loss for record in logged] == pytest.approx(
        [np.mean(losses[:5]), np.mean(losses[5:10]), np.mean(losses[10:])], rel=1e-6
    )
    assert [record.learning_rate for record in logged] == [
        learning_rate(s, either_config.training) for s in (5, 10, 12)
    ]
    assert logged[-1].learning_rate == 0


def test_the_average_is_a_copy_in_the_warm_up_and_lags_after_it(either_config: RunConfig) -> None:
    config = changed(either_config, training={"ema_warmup": 5, "ema_every": 3})
    t = trainer(config)
    start = weights(t.average)
    seen = {}
    for _ in t.run(lambda: t.step == 2):
        pass
    assert equal(weights(t.average), start)  # not yet updated
    for stop in (3, 9):
        for _ in t.run(lambda stop=stop: t.step == stop):
            pass
        seen[stop] = weights(t.average)
        assert equal(seen[stop], weights(t.denoiser)) == (stop == 3)
    assert not any(p.requires_grad for p in t.average.parameters())


def test_training_lowers_the_loss() -> None:
    config = resolve(
        dataset="line",
        model="dual-expert",
        recipe="paper",
        options={
            "model": {"width": 16, "blocks": 1, "gate_hidden": [16]},
            "training": {"steps": 300, "batch": 64, "learning_rate": 3e-3, "log_every": 100},
        },
    )
    t = trainer(config)
    before = estimate_loss(t.denoiser, POINTS, seed=0).mean
    logged = records(t.run())
    assert before > 0.9
    assert estimate_loss(t.denoiser, POINTS, seed=0).mean < 0.7
    assert estimate_loss(t.average, POINTS, seed=0).mean < 0.7
    assert logged[-1].loss < logged[0].loss


@pytest.mark.gpu
def test_a_run_on_the_gpu_resumes_and_logs_like_one_on_the_cpu(either_config: RunConfig) -> None:
    points = POINTS.cuda()
    whole = trainer(either_config, points=points)
    log = records(whole.run())
    assert [record.step for record in log] == [5, 10, 12]
    assert all(p.is_cuda for p in weights(whole.average))
    part = trainer(either_config, points=points)
    first = records(part.run(lambda: part.step == 7))
    file = io.BytesIO()
    torch.save(part.state_dict(), file)
    file.seek(0)
    rest = trainer(either_config, points=points, weights_seed=99)
    rest.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    second = records(rest.run())
    assert [record.loss for record in first + second] == pytest.approx([record.loss for record in log], rel=1e-4)
    for a, b in zip(weights(rest.average), weights(whole.average), strict=True):
        assert_allclose(a.cpu(), b.cpu(), atol=1e-5)


@pytest.mark.gpu
def test_a_captured_run_has_the_plain_ones_weights_also_when_it_is_resumed(either_config: RunConfig) -> None:
    """Its rate falls to zero: a graph that held on to the rate of its capture would end elsewhere."""
    points, graphed = POINTS.cuda(), Execution(graphed=True)
    plain, whole = (trainer(either_config, points=points, execution=how) for how in (PLAIN, graphed))
    part = trainer(either_config, points=points, execution=graphed)
    records(part.run(lambda: part.step == 2))
    file = io.BytesIO()
    torch.save(part.state_dict(), file)
    file.seek(0)
    rest = trainer(either_config, points=points, weights_seed=99, execution=graphed)
    rest.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    for training in (plain, whole, rest):
        records(training.run())
        for a, b in zip(weights(training.average), weights(plain.average), strict=True):
            assert_allclose(a.cpu(), b.cpu(), atol=1e-4)


def test_in_bfloat16_the_loss_is_the_same_to_its_three_digits_and_the_weights_stay_float32() -> None:
    config = tiny("precise")
    (plain, expected), (rounded, found) = (gradients(config, bfloat16=bfloat16) for bfloat16 in (False, True))
    assert rounded == pytest.approx(plain, rel=0.02)
    assert rounded != plain
    norm = sum(float(g.square().sum()) for g in expected) ** 0.5
    assert sum(float((a - b).square().sum()) for a, b in zip(found, expected, strict=True)) ** 0.5 < 0.05 * norm
    t = trainer(config, execution=replace(PLAIN, precision="bfloat16"))
    list(t.run())
    assert {w.dtype for w in (*weights(t.denoiser), *weights(t.average))} == {torch.float32}


def gradients(config: RunConfig, *, bfloat16: bool) -> tuple[float, list[Tensor]]:
    """Loss and gradients of one batch, the same in either precision."""
    t = trainer(config)
    draws = t._batches.draw(config.training.batch, torch.Generator().manual_seed(1))
    loss = batch_loss(t.denoiser, config.objective, t._batches, draws, bfloat16=bfloat16)
    return float(loss.detach()), list(torch.autograd.grad(loss, list(t.denoiser.parameters())))


# Experts


def test_imbalance_is_zero_for_equal_use_and_one_less_than_the_experts_for_a_single_one() -> None:
    assert float(imbalance(torch.full((5, 4), 0.25))) == pytest.approx(0, abs=1e-6)
    assert float(imbalance(torch.eye(4)[[2, 2, 2]])) == pytest.approx(3)
    # half the points on one expert, half on the other: nobody is left out, however sure the gate is
    assert float(imbalance(torch.eye(2)[[0, 1, 0, 1]])) == pytest.approx(0, abs=1e-6)


@torch.no_grad()
def test_the_balance_term_is_added_with_its_weight(tiny_config: RunConfig) -> None:
    denoiser = build_denoiser(tiny_config, 2)
    denoiser.network.gate_trunk.head[-1].bias.fill_(1.0)
    batch = PlainBatches(POINTS, denoiser.schedule)(16, torch.Generator().manual_seed(0))
    alpha, sigma = (c.float()[:, None] for c in denoiser.schedule(batch.t))
    term = imbalance(denoiser.gate(alpha * batch.x + sigma * batch.epsilon, batch.t))
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
