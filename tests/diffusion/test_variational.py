from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from closed_forms import gaussian_denoiser
from tiny import TINY, finished, narrow
from torch import Tensor, nn

from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.config.sections import ObjectiveConfig, Prediction
from dualdiff_cli.diffusion.network_denoiser import NetworkDenoiser
from dualdiff_cli.diffusion.schedules import Schedule
from dualdiff_cli.diffusion.schedules.continuous import ContinuousLinearBeta, LogSNRUniform, StraightLine
from dualdiff_cli.diffusion.schedules.learned import LearnedSchedule
from dualdiff_cli.diffusion.schedules.tables import LinearBeta
from dualdiff_cli.diffusion.variational import bound_at_ends
from dualdiff_cli.errors import InputError, Interrupted
from dualdiff_cli.jobs.export import export
from dualdiff_cli.jobs.train import resume, train
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.models.fitting import build_network_denoiser
from dualdiff_cli.store.run import Run
from dualdiff_cli.training.batches import Batch
from dualdiff_cli.training.loop import Trainer
from dualdiff_cli.training.loss import regression_loss
from dualdiff_cli.training.session import Callbacks

LEARNED = ["schedule.name=learned", "objective.weighting=likelihood", "objective.references=0"]
SETTLED = ["schedule.sigma_min=0.02", "model.finest_frequency=50.0"]
S = 0.7
"""Standard deviation of the Gaussian data."""


def bent(seed: int = 0, *, sigma_min: float = 0.01, sigma_max: float = 20.0) -> LearnedSchedule:
    schedule = LearnedSchedule(sigma_min=sigma_min, sigma_max=sigma_max)
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (schedule.w, schedule.a, schedule.b, schedule.c):
            parameter.add_(2 * torch.randn(parameter.shape, generator=draws))
    return schedule


def middles(n: int = 20_000) -> Tensor:
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def integral(schedule: Schedule, t: Tensor) -> Tensor:
    """The third term for Gaussian data and its exact denoiser, for which E(ε − ε̂)² = α²s²/(α²s² + σ²)."""
    alpha, sigma = schedule(t)
    return (0.5 * schedule.rate(t) * (alpha * S) ** 2 / ((alpha * S) ** 2 + sigma**2)).mean()


def in_closed_form(schedule: LearnedSchedule) -> float:
    """½ ∫ dγ/(1 + e^γ/s²)."""
    ends = [schedule.gamma_start.item(), schedule.gamma_start.item() + schedule.span.item()]
    first, last = (0.5 * (gamma - math.log1p(math.exp(gamma) / S**2)) for gamma in ends)
    return last - first


@pytest.mark.parametrize("seed", range(5))
def test_a_learned_schedule_falls_between_its_ends_whatever_its_parameters(seed: int) -> None:
    schedule, t = bent(seed), middles(1000)
    log_snr = schedule.log_snr(t)
    assert (log_snr.diff() < 0).all()
    torch.testing.assert_close(
        schedule.log_snr(schedule.ends), -2 * torch.tensor([20.0, 0.01], dtype=torch.float64).log()
    )
    torch.testing.assert_close(schedule.time(log_snr), t, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "schedule",
    [bent(), LogSNRUniform(sigma_min=0.01, sigma_max=5.0), ContinuousLinearBeta(), StraightLine()],
    ids=lambda schedule: type(schedule).__name__,
)
def test_the_rate_is_the_slope_of_the_log_snr(schedule: Schedule) -> None:
    t = schedule.t_min + (schedule.t_max - schedule.t_min) * torch.linspace(0.05, 0.95, 50, dtype=torch.float64)
    h = 1e-5
    slope = (schedule.log_snr(t - h) - schedule.log_snr(t + h)) / (2 * h)
    torch.testing.assert_close(schedule.rate(t), slope, rtol=1e-5, atol=1e-6)


def test_a_table_has_no_rate() -> None:
    with pytest.raises(InputError, match="continuous"):
        LinearBeta().rate(torch.zeros(1))


@pytest.mark.parametrize("seed", range(3))
def test_the_integral_of_the_bound_depends_on_the_ends_and_not_on_the_shape(seed: int) -> None:
    schedule = bent(seed)
    assert integral(schedule, middles()).item() == pytest.approx(in_closed_form(schedule), rel=1e-5)


def test_the_bound_of_a_gaussian_is_its_entropy_when_the_ends_are_far() -> None:
    schedule = bent(sigma_min=1e-4, sigma_max=1e4)
    x = S * torch.randn(100_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bound = integral(schedule, middles(100_000)) + bound_at_ends(schedule, x)
    assert bound.item() == pytest.approx(0.5 * math.log(2 * math.pi * math.e * S**2), abs=1e-4)


def test_the_gradient_at_the_noisy_end_is_that_of_the_closed_form() -> None:
    schedule = bent(sigma_max=1.0)
    integral(schedule, middles()).backward()  # type: ignore[no-untyped-call]
    gamma, span = schedule.gamma_start.item() + schedule.span.item(), schedule.span.item()
    expected = span * 0.5 / (1 + math.exp(gamma) / S**2)
    assert schedule.log_stretch.grad.item() == pytest.approx(expected, rel=1e-4)  # type: ignore[union-attr]
    assert schedule.a.grad is None


def test_the_shapes_gradient_is_that_of_the_mean_square() -> None:
    """Against the gradient of E[L²] taken through the levels, for an L that depends on the level alone."""
    schedule, t = bent(), middles(50_000)

    def losses(u: Tensor, slope: Tensor) -> Tensor:
        gamma = schedule.gamma_start.item() + schedule.first_span * u
        return schedule.first_span * slope / (1 + (gamma / 3).exp())

    u, slope = schedule.shape(t)
    loss = losses(u, slope)
    direct = torch.autograd.grad(loss.square().mean() / loss.detach().square().mean(), [schedule.a, schedule.c])
    ours = torch.autograd.grad(schedule.shape_loss(t, loss), [schedule.a, schedule.c])
    for mine, other in zip(ours, direct, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-2, atol=1e-4)


def test_learning_the_shape_makes_the_bound_scatter_less() -> None:
    schedule = LearnedSchedule(sigma_min=0.01, sigma_max=100.0)
    denoiser = gaussian_denoiser(torch.zeros(1), torch.full((1,), S), schedule)
    draws = torch.Generator().manual_seed(0)

    def losses(n: int) -> tuple[Tensor, Tensor]:
        t = schedule.draw(n, draws, stratified=True)
        x, epsilon = S * torch.randn(n, 1, generator=draws), torch.randn(n, 1, generator=draws)
        alpha, sigma = (c.unsqueeze(1).detach() for c in schedule(t))
        x_t = alpha * x + sigma * epsilon
        error = epsilon - (x_t - alpha * denoiser(x_t, t)) / sigma
        return t, 0.5 * schedule.rate(t) * error.square().mean(1)

    before = losses(50_000)[1].detach()
    optimizer = torch.optim.Adam(schedule.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        schedule.shape_loss(*losses(256)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    after = losses(50_000)[1].detach()
    assert float(after.mean()) == pytest.approx(float(before.mean()), rel=0.05)
    assert float(after.var()) < 0.7 * float(before.var())


class Fixed(nn.Module):
    """Says the same of everything."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = nn.Parameter(output)

    def forward(self, x: Tensor, t: Tensor, s: Tensor, *, stratified: bool = False) -> Tensor:
        return self.output


@pytest.mark.parametrize("prediction", ["noise", "data", "velocity", "flow", "score", "edm"])
@pytest.mark.parametrize(
    "schedule",
    [bent(), LogSNRUniform(sigma_min=0.01, sigma_max=5.0), StraightLine()],
    ids=lambda schedule: type(schedule).__name__,
)
def test_errors_weighted_by_likelihood_are_the_bounds(prediction: Prediction, schedule: Schedule) -> None:
    if schedule.ends_in_pure_noise and prediction in ("noise", "score"):
        return
    draws = torch.Generator().manual_seed(1)
    x, epsilon, output = torch.randn(3, 20, 2, generator=draws, dtype=torch.float64)
    t = schedule.draw(20, draws)
    denoiser = NetworkDenoiser(Fixed(output), schedule, prediction=prediction)
    F, target, weight = denoiser.regression(x, epsilon, t, weighting="likelihood")
    alpha, sigma = (c.unsqueeze(1) for c in schedule(t))
    x_t = alpha * x + sigma * epsilon
    error = epsilon - (x_t - alpha * denoiser(x_t, t)) / sigma
    length = schedule.t_max - schedule.t_min
    expected = 0.5 * length * schedule.rate(t).unsqueeze(1) * error.square()
    torch.testing.assert_close(weight * (F - target).square(), expected)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("schedule.name=linear-beta", "continuous"),
        ("objective.weighting=uniform", "weighting=likelihood"),
        ("objective.references=32", "references=0"),
    ],
)
def test_what_a_learned_schedule_does_not_go_with_is_said(setting: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        resolve(dataset="line", settings=[*LEARNED, setting])


def test_a_training_moves_the_schedule_and_its_average() -> None:
    config = resolve(dataset="line", options=TINY, settings=[*LEARNED, *SETTLED])
    points = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    trainer = Trainer(
        build_network_denoiser(config, 2), points, objective=config.objective, training=config.training, seed=0
    )
    before = trainer.denoiser.schedule.state_dict()
    before = {name: tensor.clone() for name, tensor in before.items()}
    list(trainer.run())
    after, average = trainer.denoiser.weights(), trainer.average.weights()
    for name, tensor in before.items():
        assert not torch.equal(after[f"schedule.{name}"], tensor)
        assert not torch.equal(average[f"schedule.{name}"], tensor)


def test_the_loss_of_a_training_by_likelihood_is_the_bound_of_its_denoiser() -> None:
    """For a network that says nothing the bound is that of N(0, s²)'s data under x̂ = α x_t, in closed form."""
    objective = ObjectiveConfig(prediction="velocity", weighting="likelihood")
    schedule = LearnedSchedule(sigma_min=0.02, sigma_max=5.0)
    n = 200_000
    draws = torch.Generator().manual_seed(0)
    x, epsilon = S * torch.randn(n, 1, generator=draws), torch.randn(n, 1, generator=draws)
    t = schedule.draw(n, draws, stratified=True)
    denoiser = NetworkDenoiser(Fixed(torch.zeros(n, 1)), schedule, prediction="velocity")
    loss = regression_loss(denoiser, objective, Batch(x, epsilon, t, None))
    # ε − ε̂ = α(αε − σx): ½ ∫ α²(α² + σ²s²) dγ with α² = 1/(1 + e^γ)
    alpha, sigma = schedule(middles())
    expected = (0.5 * schedule.rate(middles()) * alpha**2 * (alpha**2 + (sigma * S) ** 2)).mean()
    assert loss.item() == pytest.approx((expected + bound_at_ends(schedule, x)).item(), abs=0.02)


def test_a_run_with_a_learned_schedule_resumes_to_the_same_bytes_and_keeps_it(tmp_path: Path) -> None:
    config = resolve(dataset="line", options=TINY, settings=[*LEARNED, "model.finest_frequency=50.0"])
    train(config, path=tmp_path / "whole", device="cpu")
    interrupted = tmp_path / "interrupted"
    asked = iter(range(100))
    with pytest.raises(Interrupted):
        train(config, path=interrupted, device="cpu", callbacks=Callbacks(should_stop=lambda: next(asked) == 4))
    resume(Run.open(interrupted), device="cpu")
    whole = (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert (interrupted / "model.safetensors").read_bytes() == whole
    model = DiffusionModel.load(Run.open(interrupted), device=torch.device("cpu"))
    first = LearnedSchedule(sigma_min=model.config.schedule.sigma_min or 0, sigma_max=5.0)
    assert not torch.equal(model.denoiser.schedule.log_snr(middles(9)), first.log_snr(middles(9)))


def test_a_learned_schedule_is_exported_as_what_it_has_learnt(tmp_path: Path) -> None:
    config = narrow(
        schedule={"name": "learned", "sigma_min": 0.01}, objective={"weighting": "likelihood", "references": 0}
    )
    run = finished(config, tmp_path / "run")
    record = export(run, format="onnx")
    assert record["max_abs_error"] <= record["tolerance"]


def test_a_denoiser_is_not_exported_without_its_learned_schedule(tmp_path: Path) -> None:
    config = narrow(
        schedule={"name": "learned", "sigma_min": 0.01}, objective={"weighting": "likelihood", "references": 0}
    )
    with pytest.raises(InputError, match="learned schedule") as caught:
        export(finished(config, tmp_path / "run"), what="denoiser", output=tmp_path / "denoiser.ts")
    assert "--what denoiser" in caught.value.remedy
    assert not (tmp_path / "denoiser.ts").exists()
