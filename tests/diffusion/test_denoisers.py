from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch
from closed_forms import gaussian_denoiser
from tiny import narrow, untrained
from torch import Tensor, nn

from dualdiff_cli.config.sections import Prediction
from dualdiff_cli.diffusion.mixtures import MixtureDenoiser
from dualdiff_cli.diffusion.network_denoiser import NetworkDenoiser
from dualdiff_cli.diffusion.schedules import Schedule
from dualdiff_cli.diffusion.schedules.continuous import LogSNRUniform, StraightLine, VarianceExploding
from dualdiff_cli.diffusion.schedules.tables import LinearBeta
from dualdiff_cli.errors import InputError
from dualdiff_cli.jobs.export import export
from dualdiff_cli.store.run import Run

VP = LogSNRUniform(sigma_min=0.01, sigma_max=10.0)
SCHEDULES: list[Schedule] = [LinearBeta(), VP, VarianceExploding(sigma_min=0.01, sigma_max=10.0)]
ALL = get_args(Prediction)


class Fixed(nn.Module):
    """A network that answers with given numbers and remembers what it was asked."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = nn.Parameter(answer)

    def forward(self, x: Tensor, t: Tensor, s: Tensor, *, stratified: bool = False) -> Tensor:
        self.asked = (x, t, s)
        return self.answer


def problem(schedule: Schedule, n: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, epsilon = torch.randn(2, n, 2, generator=generator, dtype=torch.float64)
    return 2 * x, epsilon, schedule.draw(n, generator)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("prediction", ALL)
def test_a_network_that_hits_its_target_denoises_perfectly(schedule: Schedule, prediction: Prediction) -> None:
    x, epsilon, t = problem(schedule)
    asked = NetworkDenoiser(Fixed(torch.zeros(64, 2)), schedule, prediction=prediction)
    target = asked.regression(x, epsilon, t).target
    told = NetworkDenoiser(Fixed(target), schedule, prediction=prediction)
    torch.testing.assert_close(told(schedule.add_noise(x, epsilon, t), t), x, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("prediction", ALL)
def test_a_network_that_hits_a_corrected_target_denoises_to_the_corrected_point(
    schedule: Schedule, prediction: Prediction
) -> None:
    x, epsilon, t = problem(schedule)
    correction = torch.randn(64, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    asked = NetworkDenoiser(Fixed(torch.zeros(64, 2)), schedule, prediction=prediction)
    plain, corrected = (asked.regression(x, epsilon, t, correction=c) for c in (None, correction))
    told = NetworkDenoiser(Fixed(corrected.target), schedule, prediction=prediction)
    torch.testing.assert_close(told(schedule.add_noise(x, epsilon, t), t), x + correction, rtol=1e-8, atol=1e-8)
    assert torch.equal(plain.output, corrected.output)
    assert torch.equal(plain.weight, corrected.weight)


@pytest.mark.parametrize("prediction", ALL)
def test_a_unit_error_of_the_output_is_an_error_of_c_out(prediction: Prediction) -> None:
    x, epsilon, t = problem(VP)
    x_t = VP.add_noise(x, epsilon, t)
    answers = [NetworkDenoiser(Fixed(torch.full((64, 2), c)), VP, prediction=prediction)(x_t, t) for c in (0.0, 1.0)]
    _, c_out = NetworkDenoiser(Fixed(x), VP, prediction=prediction).coefficients(*VP.alpha_sigma(t, x))
    torch.testing.assert_close(answers[1] - answers[0], c_out.expand(64, 2), rtol=1e-6, atol=1e-9)


def test_edm_is_minus_velocity_where_variance_is_preserved() -> None:
    x, epsilon, t = problem(VP)
    targets = {
        prediction: NetworkDenoiser(Fixed(x), VP, prediction=prediction).regression(x, epsilon, t).target
        for prediction in ("edm", "velocity")
    }
    torch.testing.assert_close(targets["edm"], -targets["velocity"])


def test_edm_targets_have_unit_variance_for_data_of_unit_variance() -> None:
    generator = torch.Generator().manual_seed(1)
    x, epsilon = torch.randn(2, 100_000, 1, generator=generator, dtype=torch.float64)
    for t in (0.1, 0.5, 0.9):
        denoiser = NetworkDenoiser(Fixed(x), VP, prediction="edm")
        target = denoiser.regression(x, epsilon, torch.full((100_000,), t, dtype=torch.float64)).target
        assert float(target.std()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("noise", lambda snr: snr.clamp(max=5) / snr),
        ("data", lambda snr: snr.clamp(max=5)),
        ("velocity", lambda snr: snr.clamp(max=5) / (snr + 1)),
    ],
)
def test_min_snr_weights_are_the_published_ones(prediction: Prediction, expected) -> None:  # type: ignore[no-untyped-def]
    x, epsilon, t = problem(VP)
    weight = NetworkDenoiser(Fixed(x), VP, prediction=prediction).regression(x, epsilon, t, weighting="min-snr").weight
    torch.testing.assert_close(weight[:, 0], expected(VP.log_snr(t).exp()))


def test_score_matching_is_noise_prediction_in_other_units() -> None:
    x, epsilon, t = problem(VP)
    sigma = VP(t)[1][:, None]
    noise = NetworkDenoiser(Fixed(torch.ones(64, 2, dtype=torch.float64)), VP, prediction="noise")
    score = NetworkDenoiser(Fixed(-1 / sigma.expand(64, 2)), VP, prediction="score")
    losses = [denoiser.regression(x, epsilon, t).squared_errors.mean() for denoiser in (noise, score)]
    torch.testing.assert_close(losses[0], losses[1])


def test_the_network_sees_inputs_of_order_one_at_every_level() -> None:
    schedule = VarianceExploding(sigma_min=0.01, sigma_max=100.0)
    network = Fixed(torch.zeros(1000, 2))
    denoiser = NetworkDenoiser(network, schedule, prediction="edm")
    x, epsilon, _ = problem(schedule, 1000)
    for t in (0.0, 0.5, 1.0):
        denoiser.regression(x / 2, epsilon, torch.full((1000,), t, dtype=torch.float64))
        assert 0.9 < float(network.asked[0].std()) < 1.1


def test_the_paper_tells_its_network_the_entry_number() -> None:
    network = Fixed(torch.zeros(3, 2))
    denoiser = NetworkDenoiser(network, LinearBeta(), prediction="noise")
    denoiser(torch.randn(3, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0.0, 42.0, 99.0]))
    assert network.asked[1].tolist() == [0.0, 42.0, 99.0]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_the_network_is_told_the_share_of_noise_in_what_it_sees(schedule: Schedule) -> None:
    network = Fixed(torch.zeros(20_000, 1))
    denoiser = NetworkDenoiser(network, schedule, prediction="data")
    epsilon = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t in torch.tensor([0.0, 0.3, 0.8, 1.0], dtype=torch.float64) * schedule.t_max:
        denoiser.regression(torch.ones_like(epsilon), epsilon, t)
        seen, _, share = network.asked
        assert float(seen.std()) == pytest.approx(float(share), rel=0.02)


def test_one_time_for_all_points_is_the_same_time_for_each() -> None:
    x, epsilon, _ = problem(VP)
    denoiser = gaussian_denoiser(torch.zeros(2), torch.ones(2), VP)
    t = torch.tensor(0.3, dtype=torch.float64)
    torch.testing.assert_close(denoiser(x + epsilon, t), denoiser(x + epsilon, t.expand(64)))


@pytest.mark.parametrize("prediction", ["noise", "score"])
def test_predictions_of_noise_are_refused_where_nothing_but_noise_is_left(prediction: Prediction) -> None:
    with pytest.raises(InputError, match="velocity"):
        NetworkDenoiser(Fixed(torch.zeros(1, 2)), StraightLine(), prediction=prediction)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_the_mixtures_posterior_mean_follows_from_the_gradient_of_its_log_density(schedule: Schedule) -> None:
    """Tweedie's formula: α E[x | x_t] = x_t + σ² ∇ log p(x_t), with the gradient by autograd."""
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    means = torch.tensor([[0.0, 1.0], [2.0, -1.0], [-1.0, 0.5]], dtype=torch.float64)
    stds = torch.tensor([[0.3, 0.6], [0.1, 0.1], [1.0, 0.2]], dtype=torch.float64)
    denoiser = MixtureDenoiser(weights, means, stds, schedule)
    for t in torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64) * schedule.t_max:
        alpha, sigma = schedule(t)
        x_t = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
        noised = torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(weights),
            torch.distributions.Independent(
                torch.distributions.Normal(alpha * means, torch.sqrt((alpha * stds) ** 2 + sigma**2)), 1
            ),
        )
        (gradient,) = torch.autograd.grad(noised.log_prob(x_t).sum(), x_t)
        torch.testing.assert_close(alpha * denoiser(x_t, t), x_t + sigma**2 * gradient, rtol=1e-8, atol=1e-8)


# Limits


def answering(c: float, schedule: Schedule = VP) -> NetworkDenoiser:
    """A denoiser that answers c·x_t/α: the network's output for the prediction "data" is a multiple of its input."""

    class Multiple(nn.Linear):
        def forward(self, x: Tensor, t: Tensor, s: Tensor, *, stratified: bool = False) -> Tensor:  # type: ignore[override]
            return c * x / (1 - s.unsqueeze(-1) ** 2).sqrt()

    return NetworkDenoiser(Multiple(1, 1).double(), schedule, prediction="data")


def box() -> Tensor:
    return torch.tensor([[-1.0, -2.0], [3.0, 0.5], [0.0, 0.0]], dtype=torch.float64)


def test_answers_within_the_range_of_the_training_points_are_not_limited() -> None:
    x, epsilon, t = problem(VP)
    free, limited = (answering(0.3) for _ in range(2))
    limited.limit(torch.tensor([[-100.0, -100.0], [100.0, 100.0]]))
    x_t = VP.add_noise(x, epsilon, t)
    inside = (free(x_t, t).abs() < 100).all(1)
    assert inside.sum() > 50
    assert torch.equal(limited(x_t, t)[inside], free(x_t, t)[inside])


def test_a_limited_answer_leaves_the_range_no_farther_than_a_gaussian_of_unit_variance_would_let_x_t() -> None:
    denoiser = answering(40.0)
    denoiser.limit(box())
    for t in torch.tensor([0.0, 0.4, 0.7, 1.0], dtype=torch.float64):
        alpha, sigma = VP(t)
        y = torch.tensor([[0.1, 0.1], [5.0, -4.0], [-0.5, 0.4]], dtype=torch.float64)
        p, q = torch.tensor([-1.0, -2.0]), torch.tensor([3.0, 0.5])
        kept = alpha**2 / (alpha**2 + sigma**2)
        expected = torch.tensor([[3, 0.5], [3 + 2 * kept, -2 - 2 * kept], [-1, 0.5]], dtype=torch.float64)
        assert ((40 * y < p) | (40 * y > q)).all()
        torch.testing.assert_close(denoiser(alpha * y, t), expected)


@pytest.mark.parametrize("schedule", [VP, StraightLine()], ids=lambda s: type(s).__name__)
def test_limits_never_move_an_answer_away_from_a_point_of_the_range(schedule: Schedule) -> None:
    generator = torch.Generator().manual_seed(0)
    points = 2 * torch.rand(50, 2, generator=generator, dtype=torch.float64)
    limited = NetworkDenoiser(Fixed(3 * torch.randn(64, 2, generator=generator)), schedule, prediction="velocity")
    _, epsilon, t = problem(schedule)
    x_t = schedule.add_noise(points[:1], 5 * epsilon, t)
    free = limited(x_t, t)
    limited.limit(points)
    assert ((limited(x_t, t) - points[0]).abs() <= (free - points[0]).abs() + 1e-12).all()
    assert not torch.equal(limited(x_t, t), free)


def test_limits_are_kept_with_the_weights() -> None:
    first, second = answering(1.0), answering(1.0)
    assert "limits" not in first.weights()
    first.limit(box())
    second.load_weights(first.weights())
    assert second.limits is not None
    assert second.limits.tolist() == [[-1.0, -2.0], [3.0, 0.5]]
    second.load_weights(answering(1.0).weights())
    assert second.limits is None


def test_limits_are_exported_with_the_sampler(tmp_path: Path) -> None:
    model = untrained(narrow())
    model.denoiser.limit(torch.tensor([[-0.1, -0.1], [0.1, 0.1]]))
    run = Run.create(model.config, tmp_path / "run")
    model.save(run)
    record = export(run, format="torchscript")
    assert record["max_abs_error"] <= record["tolerance"]
