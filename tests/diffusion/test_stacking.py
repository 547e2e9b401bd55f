"""The denoiser that the learnt expert and those in closed form make together."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dualdiff_cli import seeding
from dualdiff_cli.config.recipes import resolve_diffusion
from dualdiff_cli.data import DiscreteSpan, FeatureLayout
from dualdiff_cli.diffusion.independent import IndependentDenoiser
from dualdiff_cli.diffusion.mixtures import FullMixtureDenoiser
from dualdiff_cli.diffusion.stacking import StackedDenoiser
from dualdiff_cli.training.folds import build_stacked

D = 2
PLAIN = FeatureLayout.plain(D)


def draws(*shape: int, role: str) -> Tensor:
    return torch.randn(*shape, generator=seeding.torch_stream(0, role))


def stacked(levels: int = 4, *, layout: FeatureLayout = PLAIN) -> StackedDenoiser:
    """A denoiser of two folds and two bands whose every weight matters, and whose w differs at every level."""
    settings = ["folds.number=2", "folds.bands=2", f"folds.levels={levels}", "schedule.sigma_min=0.01"]
    options = {"model": {"width": 8, "blocks": 1}}
    config = resolve_diffusion(dataset="line", recipe="few-rows", settings=settings, options=options)
    denoiser, width = build_stacked(config, layout), layout.width
    generator = seeding.torch_stream(0, "parameters")
    with torch.no_grad():
        for parameter in denoiser.learnt.network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    root = draws(3, width, width, role="covariances").double()
    weights = torch.tensor([0.2, 0.5, 0.3])
    denoiser.mixture = FullMixtureDenoiser(weights, draws(3, width, role="means"), root @ root.mT, denoiser.schedule)
    log_weights = draws(width, 2, role="weights of features").log_softmax(-1).double()
    means = draws(width, 2, role="means of features").double()
    variances = draws(width, 2, role="variances of features").square().double()
    of_few_values = denoiser.learnt.discrete_means
    denoiser.independent = IndependentDenoiser(log_weights, means, variances, denoiser.schedule, of_few_values)
    denoiser.gate_weights = of_experts(torch.linspace(0.1, 0.9, levels, dtype=torch.float64).square().reshape(1, -1, 1))
    limit = torch.linspace(3.0, 2.0, width)
    denoiser.learnt.limit(torch.stack([-limit, limit]))
    return denoiser.requires_grad_(False).eval()


def of_experts(w: Tensor) -> Tensor:
    """Give weights of three experts, (…, 3), of which the first is w and the second has two thirds of the rest."""
    return torch.stack([w, (1 - w) * 2 / 3, (1 - w) / 3], dim=-1)


def answers_of(denoiser: StackedDenoiser, x_t: Tensor, t: Tensor) -> Tensor:
    """Ask the three experts, (n, 3, D)."""
    assert denoiser.mixture is not None
    assert denoiser.independent is not None
    return torch.stack([each(x_t, t) for each in (denoiser.learnt, denoiser.mixture, denoiser.independent)], dim=1)


def middles(levels: int) -> Tensor:
    return (torch.arange(levels, dtype=torch.float64) + 0.5) / levels


def test_the_weight_is_the_fitted_one_at_the_middle_of_a_level_and_linear_between() -> None:
    denoiser = stacked()
    x_t, w = draws(4, D, role="x_t"), denoiser.gate_weights[0, :, 0, 0]
    torch.testing.assert_close(denoiser.gate(x_t, middles(4))[:, 0], w.float())
    between = (middles(4)[:-1] + middles(4)[1:]) / 2
    torch.testing.assert_close(denoiser.gate(x_t[:3], between)[:, 0], (w[:-1] + w[1:]).float() / 2)
    ends = torch.tensor([0.0, 0.125 / 2, 1.0], dtype=torch.float64)
    torch.testing.assert_close(denoiser.gate(x_t[:3], ends)[:, 0], w[[0, 0, -1]].float())


def test_one_level_has_its_weight_everywhere() -> None:
    denoiser = stacked()
    denoiser.gate_weights = torch.tensor([[[[0.3, 0.6, 0.1]]]], dtype=torch.float64)
    denoiser.feature_weights = denoiser.feature_weights[:, :1]
    gate = denoiser.gate(draws(3, D, role="x_t"), torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64))
    torch.testing.assert_close(gate, torch.tensor([[0.3, 0.6, 0.1]]).expand(3, 3))


def test_the_gate_weighs_the_experts_by_the_components_of_the_mixture() -> None:
    denoiser, x_t, t = stacked(), draws(6, D, role="x_t"), middles(4)[1]
    W = of_experts(torch.tensor([0.9, 0.1, 0.4], dtype=torch.float64))
    denoiser.gate_weights = W.expand(1, 4, 3, 3)
    assert denoiser.mixture is not None
    r = denoiser.mixture.with_responsibilities(x_t, t)[1]
    torch.testing.assert_close(r.sum(1), torch.ones(6))
    w = r @ W.float()
    torch.testing.assert_close(denoiser.gate(x_t, t), w)
    torch.testing.assert_close(denoiser(x_t, t), (w.unsqueeze(2) * answers_of(denoiser, x_t, t)).sum(1))


def test_the_share_of_given_features_decides_which_weights_count() -> None:
    denoiser, t = stacked(), middles(4)[1]
    w = torch.tensor([1.0, 0.6, 0.1], dtype=torch.float64)
    denoiser.gate_weights = of_experts(w.reshape(3, 1, 1).expand(3, 4, 1))
    denoiser.feature_weights = denoiser.feature_weights.expand(3, -1, -1, -1)
    x_t, values = draws(6, D, role="x_t"), draws(6, D, role="values")
    given = torch.tensor([[False, False], [True, False], [False, True]]).repeat(2, 1)
    answer = denoiser.conditioned(values, given)(x_t, t)
    assert denoiser.mixture is not None
    assert denoiser.independent is not None
    parts = (denoiser.learnt, denoiser.mixture, denoiser.independent)
    answers = torch.stack([each.conditioned(values, given)(x_t, t) for each in parts], dim=1)
    W = of_experts(w[[0, 1, 1]].repeat(2)).float()
    torch.testing.assert_close(answer, (W.unsqueeze(2) * answers).sum(1))
    shared = torch.tensor([True, True])
    torch.testing.assert_close(denoiser.conditioned(values, shared)(x_t, t), values)
    assert denoiser.gate(x_t, t)[:, 0].tolist() == [1.0] * 6


def test_each_feature_mixes_the_mean_by_components_with_the_experts_anew() -> None:
    denoiser, x_t, t = stacked(), draws(6, D, role="x_t"), middles(4)[1]
    by_component, answers = denoiser(x_t, t), answers_of(denoiser, x_t, t)
    V = torch.tensor([[0.5, 0.2, 0.0, 0.3], [0.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
    before = denoiser.gate(x_t, t)
    denoiser.feature_weights = V.expand(1, 4, D, 4)
    first = 0.5 * by_component[:, 0] + 0.2 * answers[:, 0, 0] + 0.3 * answers[:, 2, 0]
    torch.testing.assert_close(denoiser(x_t, t), torch.stack([first, answers[:, 1, 1]], dim=1))
    torch.testing.assert_close(denoiser.gate(x_t, t), 0.25 * before + torch.tensor([0.1, 0.5, 0.15]))


def test_the_share_of_given_features_decides_which_weights_of_the_features_count() -> None:
    denoiser, t, x_t, values = stacked(), middles(4)[1], draws(4, D, role="x_t"), draws(4, D, role="values")
    denoiser.gate_weights = denoiser.gate_weights.expand(2, -1, -1, -1)
    denoiser.feature_weights = torch.eye(4, dtype=torch.float64)[:2].reshape(2, 1, 1, 4).expand(2, 4, D, 4)
    given = torch.tensor([[False, False], [True, False]]).repeat(2, 1)
    answer, of_networks = (each.conditioned(values, given)(x_t, t) for each in (denoiser, denoiser.learnt))
    torch.testing.assert_close(answer[1::2], of_networks[1::2])
    torch.testing.assert_close(answer[::2], denoiser(x_t, t)[::2])
    assert not torch.allclose(answer[::2], of_networks[::2])


ONE_HOT = (DiscreteSpan(0, 3, (-0.3, -0.3, -0.4), 1.0),)
DIGITS = tuple(DiscreteSpan(i, 1, (-0.5,), 1.0) for i in range(3))


@pytest.mark.parametrize("discrete", [ONE_HOT, DIGITS, ()], ids=["one-hot", "digits", "date"])
def test_all_features_of_a_column_count_as_one_that_is_given(discrete: tuple[DiscreteSpan, ...]) -> None:
    """A column of three features and a number: one of two columns is given, which is the first of two slices."""
    denoiser, t = stacked(layout=FeatureLayout((0, 0, 0, 1), discrete)), middles(4)[1]
    denoiser.gate_weights = denoiser.gate_weights.expand(3, -1, -1, -1)
    denoiser.feature_weights = torch.eye(4, dtype=torch.float64)[:3].reshape(3, 1, 1, 4).expand(3, 4, 4, 4)
    x_t, values, given = draws(5, 4, role="x_t"), draws(5, 4, role="values"), torch.tensor([True, True, True, False])
    answer, of_networks = (each.conditioned(values, given)(x_t, t) for each in (denoiser, denoiser.learnt))
    torch.testing.assert_close(answer, of_networks)


@pytest.mark.parametrize("shape", [(4,), (1, 4, 1), (3, 4, 3)])
def test_an_older_file_has_two_experts(shape: tuple[int, ...]) -> None:
    """It has the weight of the networks, for all rows or by what is given, and calls the mixture closed."""
    denoiser = stacked()
    w = torch.rand(shape, generator=seeding.torch_stream(0, "older weights"), dtype=torch.float64)
    older = {name.replace("mixture.", "closed."): tensor for name, tensor in denoiser.weights().items()}
    newer = ("independent.", "feature_weights")
    older = {name: tensor for name, tensor in older.items() if not name.startswith(newer)} | {"gate_weights": w}
    read = fresh()
    read.load_weights(older)
    full = w.reshape(1, -1, 1) if w.dim() == 1 else w
    denoiser.gate_weights = torch.stack([full, 1 - full, torch.zeros_like(full)], dim=-1)
    denoiser.feature_weights = denoiser.feature_weights.expand(len(full), -1, -1, -1)
    x_t, values, t = draws(6, D, role="x_t"), draws(6, D, role="values"), middles(4)[1]
    assert torch.equal(read(x_t, t), denoiser(x_t, t))
    for given in (torch.tensor([True, False]), torch.tensor([False, False])):
        torch.testing.assert_close(read.conditioned(values, given)(x_t, t), denoiser.conditioned(values, given)(x_t, t))


def test_the_rows_of_the_gate_sum_to_one_for_one_time_and_for_one_time_a_point() -> None:
    denoiser, x_t = stacked(), draws(50, D, role="x_t")
    t = torch.linspace(0, 1, 50, dtype=torch.float64)
    for times in (t, t[7]):
        gate = denoiser.gate(x_t, times)
        assert gate.shape == (50, 3)
        assert bool((gate >= 0).all())
        torch.testing.assert_close(gate.sum(1), torch.ones(50))


def test_the_answer_is_the_gates_mixture_of_all_experts() -> None:
    denoiser, x_t = stacked(), draws(50, D, role="x_t")
    t = torch.linspace(0, 1, 50, dtype=torch.float64)
    answers = answers_of(denoiser, x_t, t)
    torch.testing.assert_close(denoiser(x_t, t), (denoiser.gate(x_t, t).unsqueeze(2) * answers).sum(1))
    assert not torch.allclose(answers[:, 0], answers[:, 1])
    assert not torch.allclose(answers[:, 1], answers[:, 2])


def test_one_time_for_all_points_is_the_same_time_for_each() -> None:
    denoiser, x_t = stacked(), draws(50, D, role="x_t")
    for t in torch.tensor([0.0, 0.2, 0.5, 0.77, 1.0], dtype=torch.float64):
        torch.testing.assert_close(denoiser(x_t, t), denoiser(x_t, t.expand(50)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prediction", ["velocity", "edm", "data"])
def test_the_output_of_the_regression_stands_for_the_stacked_answer(prediction: str) -> None:
    denoiser = stacked()
    denoiser.learnt.prediction = prediction  # type: ignore[assignment]
    x, epsilon = draws(50, D, role="x"), draws(50, D, role="epsilon")
    t = torch.linspace(0.05, 1, 50, dtype=torch.float64)
    problem, of_learnt = denoiser.regression(x, epsilon, t), denoiser.learnt.regression(x, epsilon, t)
    c_skip, c_out = denoiser.learnt.coefficients(*denoiser.schedule.alpha_sigma(t, x))
    x_t = denoiser.schedule.add_noise(x, epsilon, t)
    torch.testing.assert_close(c_skip * x_t + c_out * problem.output, denoiser(x_t, t), rtol=1e-4, atol=1e-4)
    assert torch.equal(problem.target, of_learnt.target)
    assert torch.equal(problem.weight, of_learnt.weight)
    assert not torch.allclose(problem.output, of_learnt.output)


def test_the_error_of_the_regression_is_the_error_of_the_answer_in_units_of_c_out() -> None:
    denoiser = stacked()
    x, epsilon = draws(50, D, role="x"), draws(50, D, role="epsilon")
    t = torch.linspace(0.3, 1, 50, dtype=torch.float64)
    output, target, _ = denoiser.regression(x, epsilon, t)
    _, c_out = denoiser.learnt.coefficients(*denoiser.schedule.alpha_sigma(t, x))
    error = denoiser(denoiser.schedule.add_noise(x, epsilon, t), t) - x
    torch.testing.assert_close(c_out * (output - target), error, rtol=1e-4, atol=1e-4)


# The weights of a run


def fresh() -> StackedDenoiser:
    """The denoiser before anything is loaded."""
    denoiser = stacked()
    empty = StackedDenoiser(denoiser.learnt, levels=4, units=denoiser.units)
    with torch.no_grad():
        for parameter in empty.learnt.network.parameters():
            parameter.zero_()
    empty.learnt.limits = None
    return empty


def test_loaded_weights_and_answers_are_the_saved_ones_bit_for_bit() -> None:
    denoiser, loaded = stacked(), fresh()
    denoiser.feature_weights = draws(1, 4, D, 4, role="weights of the features").double().softmax(-1)
    saved = denoiser.weights()
    loaded.load_weights({name: tensor.clone() for name, tensor in saved.items()})
    again = loaded.weights()
    assert again.keys() == saved.keys()
    assert all(torch.equal(again[name], saved[name]) and again[name].dtype == saved[name].dtype for name in saved)
    x_t, t = draws(50, D, role="x_t"), torch.linspace(0, 1, 50, dtype=torch.float64)
    assert torch.equal(loaded(x_t, t), denoiser(x_t, t))
    assert torch.equal(loaded.gate(x_t, t), denoiser.gate(x_t, t))


def test_a_file_without_weights_of_features_weighs_all_features_alike() -> None:
    denoiser, loaded, x_t, t = stacked(), fresh(), draws(6, D, role="x_t"), middles(4)[1]
    loaded.feature_weights = loaded.feature_weights.flip(-1)
    loaded.load_weights({name: tensor for name, tensor in denoiser.weights().items() if name != "feature_weights"})
    assert torch.equal(loaded(x_t, t), denoiser(x_t, t))


def test_loading_leaves_the_given_weights_as_they_are() -> None:
    saved = stacked().weights()
    names = set(saved)
    fresh().load_weights(saved)
    assert set(saved) == names


@pytest.mark.parametrize("name", ["gate_weights", "mixture.axes", "independent.means", "trunks.first.weight"])
def test_weights_of_another_model_are_refused(name: str) -> None:
    weights = stacked().weights()
    del weights[name]
    with pytest.raises((KeyError, RuntimeError), match=name):
        fresh().load_weights(weights)


def test_a_mixture_of_any_size_is_loaded() -> None:
    denoiser, loaded = stacked(), fresh()
    denoiser.mixture = FullMixtureDenoiser(
        torch.ones(1), torch.zeros(1, D), torch.eye(D).unsqueeze(0), denoiser.schedule
    )
    loaded.load_weights(denoiser.weights())
    assert loaded.mixture is not None
    assert loaded.mixture.means.shape == (1, D)
    assert math.isfinite(float(loaded(torch.zeros(1, D), torch.tensor(0.5, dtype=torch.float64)).sum()))
