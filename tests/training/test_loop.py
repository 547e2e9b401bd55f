"""The training loop: against a loop written by hand, resumed, logged, averaged, and on other hardware."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from small_trainings import POINTS, changed, equal, records, trainer, weights
from tiny import tiny
from torch import Tensor

from dualdiff_cli import seeding
from dualdiff_cli.compute.execution import PLAIN, Execution
from dualdiff_cli.compute.optimiser import learning_rate
from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.config.schema import RunConfig
from dualdiff_cli.models.fitting import build_network_denoiser
from dualdiff_cli.training.batches import nearest_assignment
from dualdiff_cli.training.loop import Trainer
from dualdiff_cli.training.loss import batch_loss, estimate_loss


def reference(config: RunConfig, steps: int, *, seed: int) -> tuple[list[Tensor], list[Tensor], list[float]]:
    """Plain eager training as the paper states it; gives weights, averaged weights and the loss of each step.

    Draws come from one generator in the order rows, times, noise. AdamW is Loshchilov & Hutter (2019), algorithm 2, on
    gradients scaled to the norm that they are clipped at.
    """
    k, objective = config.training, config.objective
    network = build_network_denoiser(config.model_copy(update={"seed": seed}), 2).network
    parameters = list(network.parameters())
    average = [p.detach().clone() for p in parameters]
    m = [torch.zeros_like(p) for p in parameters]
    v = [torch.zeros_like(p) for p in parameters]
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 100, dtype=torch.float64), 0)
    draws = seeding.torch_stream(seed, "batches")
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
            assert_allclose(a, b, atol=2e-5)  # of weights that move by 1e-2 a step


def test_the_same_seed_gives_the_same_weights_and_another_does_not(either_config: RunConfig) -> None:
    runs = [trainer(either_config, seed=seed) for seed in (1, 1, 2)]
    logs = [records(t.run()) for t in runs]
    assert equal(weights(runs[0].denoiser), weights(runs[1].denoiser))
    assert equal(weights(runs[0].average), weights(runs[1].average))
    assert logs[0] == logs[1] != logs[2]


def test_the_seed_of_the_draws_matters_by_itself(either_config: RunConfig) -> None:
    runs = [
        Trainer(
            build_network_denoiser(either_config, 2),
            POINTS,
            objective=either_config.objective,
            training=either_config.training,
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
@pytest.mark.parametrize("compiled", [False, True])
def test_a_captured_run_has_the_plain_ones_weights_also_when_it_is_resumed(
    either_config: RunConfig, compiled: bool
) -> None:
    """Its rate falls to zero: a graph that held on to the rate of its capture would end elsewhere."""
    points, graphed = POINTS.cuda(), Execution(graphed=True, compiled=compiled, required=compiled)
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
