"""The end of a training in folds: the finished denoiser, and how its experts are weighed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_folds import FIRST, points, run, trainer, worse_later

from dualdiff_cli import seeding
from dualdiff_cli.data import DiscreteSpan, FeatureLayout, FloatArray
from dualdiff_cli.diffusion.stacking import weighted
from dualdiff_cli.training.mixture import PlainMixture
from dualdiff_cli.training.tails import SCALES, ScaleMixture
from dualdiff_cli.training.weighing import _as_good, _gain


def test_the_finished_network_has_the_kept_weights_of_every_band() -> None:
    """The mean over the folds, without limits: a mean of limited answers is not the limited mean."""
    training = worse_later(bounded="false")
    denoiser, _ = training.finish()
    unseen = training._unseen
    for band in range(2):
        training._averages.vector.copy_(training._best.weights[band])
        time = unseen.times[2 * band + 1]
        by_fold = unseen.denoiser(points(12).repeat(3, 1), time.expand(36)).reshape(3, 12, 2)
        torch.testing.assert_close(denoiser.learnt(points(12), time), by_fold.mean(0), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("_full_search")
@pytest.mark.parametrize("steps", [30, 400])
def test_the_stacked_answers_are_no_worse_than_any_expert_on_unseen_rows(steps: int) -> None:
    denoiser, facts = run(trainer(steps=steps)).finish()
    losses = facts["unseen_loss_of"]
    assert losses.keys() == {"network", "mixture", "independent"}
    assert facts["unseen_loss"] <= min(losses.values()) * 1.01  # neighbouring levels share the fit of their weights
    assert facts["unseen_loss"] < max(losses.values())
    assert sum(facts["expert_usage"]) == pytest.approx(1)
    w = denoiser.gate_weights[0, ..., 0]
    assert float(w.min()) <= facts["expert_usage"][0] <= float(w.max())


@pytest.mark.usefixtures("_full_search")
def test_the_mixture_gets_nearly_all_weight_on_rows_of_a_mixture() -> None:
    denoiser, facts = run(trainer(steps=FIRST, rows=400)).finish()
    assert facts["components"] == 2
    assert facts["expert_usage"][1] > 0.9
    assert facts["unseen_loss_of"]["mixture"] < facts["unseen_loss_of"]["network"]
    assert denoiser.mixture is not None
    assert sorted(denoiser.mixture.means[:, 0].tolist()) == pytest.approx([-0.9, 0.9], abs=0.1)


def test_the_mixtures_of_folds_are_fitted_to_no_more_rows_than_the_mixture_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fitted: list[int] = []
    for kind in (PlainMixture, ScaleMixture):

        def noted(self: Any, z: FloatArray, refit: Callable[..., Any] = kind.refit) -> Any:
            if z.shape[1] == 2:  # not that of a feature by itself
                fitted.append(len(z))
            return refit(self, z)

        monkeypatch.setattr(kind, "refit", noted)
    monkeypatch.setattr("dualdiff_cli.training.weighing.MOST_MIXTURE_ROWS", 500)
    assert trainer(rows=900)._weighing
    assert fitted[-3:] == [500, 500, 500]
    assert trainer(rows=600)._weighing
    assert fitted[-3:] == [400, 400, 400]


def test_rows_are_not_judged_with_weights_that_were_fitted_to_them() -> None:
    """Three experts are equally bad, so no weights are better than others, but each of many components has its own."""
    training = run(trainer(steps=1, rows=240))
    unseen, weighing = training._unseen, training._weighing
    generator = seeding.torch_stream(0, "errors of experts")
    errors = torch.randn(3, *unseen.points.shape, generator=generator) * unseen.scale.reshape(-1, 1, 1)
    answers = unseen.points + errors
    r = torch.nn.functional.one_hot(torch.arange(unseen.points.shape[1]) % 60).float().expand(4, -1, -1)
    weighing._prior = 0.0
    W, V = (each.float() for each in weighing._weights(answers, r))
    of_itself = weighted(answers.movedim(0, -1), r @ W, V.unsqueeze(1))
    mean, crossed = answers.mean(0), weighing._crossed(answers, r)
    own, honest, best = (float(unseen.losses(each).mean()) for each in (of_itself, crossed, mean))
    assert own < best < honest


@pytest.mark.parametrize(
    ("gain", "error", "is_as_good"), [(0.04, 0.0, True), (0.3, 0.2, True), (0.5, 0.2, False), (15.7, 9.1, False)]
)
def test_an_expert_is_as_good_if_the_gain_over_it_is_small_or_not_clear_but_not_if_nothing_is_known(
    gain: float, error: float, is_as_good: bool
) -> None:
    assert _as_good(gain, error) == is_as_good


@pytest.mark.usefixtures("_full_search")
def test_columns_of_two_values_each_are_left_to_independent_features() -> None:
    """All corners of a cube, with a little noise: its 32 corners are too many for a mixture fitted to so few rows."""
    generator = seeding.torch_stream(0, "corners")
    corners = torch.randint(0, 2, (200, 5), generator=generator) * 2.0 - 1
    rows = corners + 0.05 * torch.randn(200, 5, generator=generator)
    denoiser, facts = run(trainer(steps=400, learnt=rows)).finish()
    assert facts["expert_usage"][2] > 0.8
    assert facts["simpler"] == "On unseen rows independent columns are as good here."
    assert facts["gain_over_mixture"]["value"] > 1
    assert facts["unseen_loss_of"]["independent"] < 0.9 * facts["unseen_loss_of"]["mixture"]
    assert denoiser.independent is not None
    near = denoiser.independent.means.abs() - 1
    assert bool((near.abs().amin(1) < 0.05).all())


@pytest.mark.usefixtures("_full_search")
def test_heavy_tails_that_occur_in_the_same_rows_are_left_to_a_mixture_with_heavier_tails() -> None:
    generator = seeding.torch_stream(0, "Student's t")
    scale = torch.rand(300, 1, generator=generator).clamp(min=0.01).rsqrt()
    rows = torch.randn(300, 3, generator=generator) * scale
    denoiser, facts = run(trainer(learnt=rows)).finish()
    assert facts["simpler"] == ("On unseen rows one Gaussian with heavier tails is as good here: --model mixture.")
    assert facts["unseen_loss_of"]["mixture"] < facts["unseen_loss_of"]["independent"]
    assert denoiser.mixture is not None
    assert denoiser.mixture.components == SCALES


@pytest.mark.parametrize(("left_out", "place"), [("mixture", 1), ("independent", 2)])
def test_an_expert_can_be_left_out(left_out: str, place: int) -> None:
    denoiser, facts = run(trainer(f"folds.{left_out}=false")).finish()
    assert not denoiser.gate_weights[..., place].any()
    assert denoiser.gate_weights[..., 3 - place].any()
    assert {name for name, loss in facts["unseen_loss_of"].items() if loss is None} == {left_out}
    assert (facts["gain_over_mixture"] is None) == (facts["components"] == 0) == (left_out == "mixture")


def test_without_closed_forms_the_network_has_the_whole_weight() -> None:
    denoiser, facts = run(trainer("folds.mixture=false", "folds.independent=false")).finish()
    assert denoiser.gate_weights.reshape(-1, 3).tolist() == [[1.0, 0.0, 0.0]] * 4
    assert facts["expert_usage"] == [1.0, 0.0, 0.0]
    assert facts["unseen_loss"] == pytest.approx(facts["unseen_loss_of"]["network"])
    assert facts["simpler"] is None
    x_t, t = points(20), torch.tensor(0.4, dtype=torch.float64)
    assert torch.equal(denoiser(x_t, t), denoiser.learnt(x_t, t))


def test_the_finished_denoiser_is_not_trained_any_further() -> None:
    denoiser, _ = run(trainer()).finish()
    assert not denoiser.training
    assert not any(parameter.requires_grad for parameter in denoiser.parameters())


def test_answers_are_limited_by_the_range_of_the_rows_if_the_objective_asks_for_it() -> None:
    bounded, free = (run(trainer(f"objective.bounded={c}", steps=3)).finish()[0] for c in ("true", "false"))
    assert bounded.learnt.limits is not None
    assert torch.equal(bounded.learnt.limits, torch.stack([points().amin(0), points().amax(0)]))
    assert free.learnt.limits is None


def test_the_gain_over_the_mixture_leaves_categories_out() -> None:
    training = run(trainer(steps=FIRST))
    unseen = training._unseen
    off, exact = unseen.points.clone(), unseen.points
    off[..., 1] += 0.5
    layout = FeatureLayout((0, 1), (DiscreteSpan(1, 1, (-0.5,), 1.0),))
    found = _gain(unseen, off, exact, layout)
    assert found == {"value": 0.0, "standard_error": 0.0, "unit": "bits a row, without categories"}
    whole = _gain(unseen, off, exact, FeatureLayout((0, 1), ()))
    assert whole is not None
    assert whole["value"] > 1
    assert whole["unit"] == "bits a row"
    assert _gain(unseen, off, exact, FeatureLayout((0, 0), (DiscreteSpan(0, 2, (-0.5, -0.5), 1.0),))) is None
