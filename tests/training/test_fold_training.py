"""The training in folds: who sees which rows, when it ends, what it keeps, and how the experts are weighed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from small_trainings import equal, records
from torch import Tensor

from dualdiff_cli import seeding
from dualdiff_cli.compute.execution import PLAIN, Execution
from dualdiff_cli.config.recipes import resolve_diffusion
from dualdiff_cli.data import DiscreteSpan, FeatureLayout
from dualdiff_cli.diffusion.stacking import StackedDenoiser
from dualdiff_cli.training.folds import CHECKPOINTS, FoldTrainer
from dualdiff_cli.training.weighing import _as_good, _gain

FIRST = min(CHECKPOINTS)
ROWS = 90


def points(n: int = ROWS) -> Tensor:
    """Rows of a mixture of two Gaussians that lie apart, of about unit variance."""
    draws = seeding.stream(0, "rows of two Gaussians")
    sign = draws.choice([-1.0, 1.0], (n, 1))
    return torch.from_numpy(sign * [0.9, 0.6] + draws.normal(size=(n, 2)) * [0.2, 0.5]).float()


CPU = torch.device("cpu")


def trainer(
    *settings: str,
    steps: int = 30,
    rows: int = ROWS,
    seed: int = 0,
    device: torch.device = CPU,
    learnt: Tensor | None = None,
    layout: FeatureLayout | None = None,
    execution: Execution = PLAIN,
) -> FoldTrainer:
    sizes = ["model.width=8", "model.blocks=1", "training.batch=16", "training.log_every=7", "schedule.sigma_min=0.01"]
    folds = ["folds.number=3", "folds.bands=2", "folds.levels=4", f"training.steps={steps}", f"seed={seed}"]
    config = resolve_diffusion(dataset="line", recipe="few-rows", settings=[*sizes, *folds, *settings])
    learnt = points(rows) if learnt is None else learnt
    return FoldTrainer(config, learnt, device=device, layout=layout, execution=execution)


def run(training: FoldTrainer, *, stop_at: int | None = None) -> FoldTrainer:
    for _ in training.run(lambda: training.step == stop_at):
        pass
    return training


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return dict(torch.load(file))


def same_weights(first: StackedDenoiser, second: StackedDenoiser) -> bool:
    a, b = first.weights(), second.weights()
    return a.keys() == b.keys() and equal(list(a.values()), list(b.values()))


# Which rows are seen


@pytest.mark.parametrize("rows", [90, 91, 92])
def test_every_row_is_unseen_by_exactly_one_fold(rows: int) -> None:
    training = trainer(rows=rows)
    whole = {tuple(row) for row in points(rows).tolist()}
    assert len(whole) == rows
    unseen = [whole - {tuple(row) for row in seen.tolist()} for seen in training._seen]
    assert sorted(row for part in unseen for row in part) == sorted(whole)
    assert max(map(len, unseen)) - min(map(len, unseen)) <= 1
    assert all(len(seen) == rows - len(part) for seen, part in zip(training._seen, unseen, strict=True))


def test_a_fold_is_judged_by_rows_that_it_has_not_seen() -> None:
    training = trainer(rows=91)
    judged = training._exam.points[0].reshape(3, -1, 2)
    for seen, rows in zip(training._seen, judged, strict=True):
        assert {tuple(row) for row in rows.tolist()}.isdisjoint({tuple(row) for row in seen.tolist()})


def test_a_fold_is_not_judged_by_a_category_that_none_of_its_rows_has() -> None:
    rows = torch.cat([points(), torch.zeros(ROWS, 1)], 1)
    rows[7, 2], rows[8:20, 2] = 3.0, 1.0  # one row has a value of its own, and twelve share one
    config = trainer().settings
    layout = FeatureLayout((0, 1, 2), (DiscreteSpan(2, 1, (0.0,), 1.0),))
    judged = FoldTrainer(config, rows, device=CPU, layout=layout)._exam.points[0]
    assert set(judged[:, 2].tolist()) == {0.0, 1.0}


def test_the_seed_decides_which_rows_a_fold_sees() -> None:
    first, same, other = (trainer(seed=seed)._seen for seed in (0, 0, 1))
    assert equal(first, same)
    assert not equal(first, other)


# The steps


def test_the_loss_is_logged_at_its_interval_and_at_the_end() -> None:
    logged = records(trainer(steps=30).run())
    assert [record.step for record in logged] == [7, 14, 21, 28, 30]
    assert all(np.isfinite(record.loss) for record in logged)


def test_an_untrained_network_is_judged_by_the_error_of_zero() -> None:
    """The velocity of standardised rows has about unit variance, and the output starts at zero."""
    training = trainer(rows=600)
    losses = training._exam.losses(training._exam.answers(training._exam.denoiser))
    assert losses.shape == (4, 3)
    assert float(losses.mean()) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("stop_at", [1, 10, 14, 29])
def test_a_training_that_was_stopped_ends_in_the_same_weights_bit_for_bit(stop_at: int) -> None:
    whole = run(trainer())
    stopped = run(trainer(), stop_at=stop_at)
    assert (stopped.step, stopped.is_done) == (stop_at, False)
    resumed = trainer()
    resumed.load_state_dict(through_a_file(stopped.state_dict()))
    assert (run(resumed).step, resumed.history) == (whole.step, whole.history)
    first, second = whole.finish(), resumed.finish()
    assert same_weights(first[0], second[0])
    assert first[1] == second[1]


def test_a_training_that_was_stopped_between_two_checkpoints_goes_on_counting() -> None:
    settings, steps = ("training.learning_rate=1e-9", "folds.patience=2"), 10 * FIRST
    whole = run(trainer(*settings, steps=steps))
    stopped = run(trainer(*settings, steps=steps), stop_at=sorted(CHECKPOINTS)[1] + 5)
    resumed = trainer(*settings, steps=steps)
    resumed.load_state_dict(through_a_file(stopped.state_dict()))
    assert (run(resumed).step, resumed.history) == (whole.step, whole.history)
    assert same_weights(whole.finish()[0], resumed.finish()[0])


def test_a_logged_loss_is_the_mean_of_all_steps_of_its_interval_if_the_training_was_stopped_within() -> None:
    expected = records(trainer().run())
    stopped = trainer()
    before = records(stopped.run(lambda: stopped.step == 10))
    resumed = trainer()
    resumed.load_state_dict(through_a_file(stopped.state_dict()))
    assert [*before, *records(resumed.run())] == expected


@pytest.mark.parametrize("setting", ["folds.number=2", "folds.bands=4", "folds.bands=1", "model.width=9"])
def test_the_state_of_another_configuration_is_refused(setting: str) -> None:
    state = through_a_file(run(trainer(steps=3)).state_dict())
    with pytest.raises((KeyError, RuntimeError, ValueError)):
        trainer(setting, steps=3).load_state_dict(state)


@pytest.mark.gpu
def test_folds_on_a_gpu_learn_as_on_the_cpu_and_end_on_the_cpu() -> None:
    """Their random numbers differ, so the losses on unseen rows agree only about as well as those of two seeds."""
    cuda = torch.device("cuda")
    settings = ("model.width=32", "training.batch=64")
    losses = {}
    for device in (CPU, cuda):
        stopped = run(trainer(*settings, steps=300, device=device), stop_at=130)
        rest = trainer(*settings, steps=300, device=device)
        rest.load_state_dict(through_a_file(stopped.state_dict()))
        stacked, facts = run(rest).finish()
        losses[device.type] = facts["unseen_loss_of"]["network"]
        assert {tensor.device for tensor in stacked.weights().values()} == {CPU}
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=0.1)


@pytest.mark.gpu
@pytest.mark.parametrize("has_category", [False, True])
def test_captured_folds_have_the_plain_ones_weights_also_when_they_are_resumed(has_category: bool) -> None:
    """Their rate falls to zero: a graph that held on to the rate of its capture would end elsewhere."""
    sign = points()[:, :1].sign()
    rows = torch.cat([points(), sign], 1) if has_category else points()
    layout = FeatureLayout((0, 1, 2), (DiscreteSpan(2, 1, (-1.0,), 2.0),)) if has_category else None

    def on_the_gpu(*, graphed: bool) -> FoldTrainer:
        execution = Execution(graphed=graphed)
        return trainer(steps=20, learnt=rows, layout=layout, device=torch.device("cuda"), execution=execution)

    plain, whole, rest = (on_the_gpu(graphed=graphed) for graphed in (False, True, True))
    rest.load_state_dict(through_a_file(run(on_the_gpu(graphed=True), stop_at=6).state_dict()))
    log = records(plain.run())
    for training in (whole, rest):
        logged = records(training.run())
        assert [record.loss for record in logged] == pytest.approx([r.loss for r in log[-len(logged) :]], rel=1e-4)
        torch.testing.assert_close(training._averages.vector, plain._averages.vector, rtol=0, atol=1e-4)


# The end, and what is kept


def test_a_training_that_no_longer_improves_ends_after_its_patience() -> None:
    training = run(trainer("training.learning_rate=1e-12", "folds.patience=2", steps=50 * FIRST))
    assert training.is_done
    assert training.step == sorted(CHECKPOINTS)[2] < training.config.steps
    assert [checkpoint["step"] for checkpoint in training.history] == sorted(CHECKPOINTS)[:3]


def test_a_training_of_few_steps_has_one_checkpoint_at_its_end() -> None:
    assert [checkpoint["step"] for checkpoint in run(trainer(steps=30)).history] == [30]


def worse_later(rate: float = 0.3, *, bounded: str = "true") -> FoldTrainer:
    """A training whose checkpoints differ, with an average that follows the weights closely."""
    rates = [f"training.learning_rate={rate}", "training.ema_decay=0.5", "folds.patience=50"]
    return run(trainer(*rates, f"objective.bounded={bounded}", steps=sorted(CHECKPOINTS)[4]))


@pytest.mark.parametrize("rate", [0.003, 0.3])
def test_a_band_keeps_the_weights_of_the_best_checkpoint_of_each_fold(rate: float) -> None:
    """The kept loss is the least of the history or, as the folds improve at different checkpoints, less."""
    training = worse_later(rate)
    least = torch.tensor([checkpoint["held_out"] for checkpoint in training.history]).amin(0)
    kept = torch.stack([judged(training, band) for band in range(2)])
    assert bool((kept.mean(1) <= least * (1 + 1e-5)).all())
    torch.testing.assert_close(kept, training._best)


def judged(training: FoldTrainer, band: int) -> Tensor:
    """The loss of each fold in a band with the weights that are kept for the band, (3,)."""
    exam = training._exam
    training._averages.vector.copy_(training._kept[band])
    return exam.losses(exam.answers(exam.denoiser)).reshape(2, 2, 3).mean(1)[band]


def test_weights_that_have_become_worse_are_not_the_ones_that_are_kept() -> None:
    training = worse_later()
    last = torch.tensor(training.history[-1]["held_out"])
    assert bool((training._best.mean(1) < last).any())


# The two experts


def test_the_finished_network_has_the_kept_weights_of_every_band() -> None:
    """The mean over the folds, without limits: a mean of limited answers is not the limited mean."""
    training = worse_later(bounded="false")
    denoiser, _ = training.finish()
    exam = training._exam
    for band in range(2):
        training._averages.vector.copy_(training._kept[band])
        time = exam.times[2 * band + 1]
        by_fold = exam.denoiser(points(12).repeat(3, 1), time.expand(36)).reshape(3, 12, 2)
        torch.testing.assert_close(denoiser.learnt(points(12), time), by_fold.mean(0), rtol=1e-4, atol=1e-4)


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


def test_the_mixture_gets_nearly_all_weight_on_rows_of_a_mixture() -> None:
    denoiser, facts = run(trainer(steps=FIRST, rows=400)).finish()
    assert facts["components"] == 2
    assert facts["expert_usage"][1] > 0.9
    assert facts["unseen_loss_of"]["mixture"] < facts["unseen_loss_of"]["network"]
    assert denoiser.mixture is not None
    assert sorted(denoiser.mixture.means[:, 0].tolist()) == pytest.approx([-0.9, 0.9], abs=0.1)


@pytest.mark.parametrize(
    ("gain", "error", "is_as_good"), [(0.04, 0.0, True), (0.3, 0.2, True), (0.5, 0.2, False), (15.7, 9.1, False)]
)
def test_an_expert_is_as_good_if_the_gain_over_it_is_small_or_not_clear_but_not_if_nothing_is_known(
    gain: float, error: float, is_as_good: bool
) -> None:
    assert _as_good(gain, error) == is_as_good


def test_columns_of_two_values_each_are_left_to_independent_features() -> None:
    """All corners of a cube, with a little noise: its 32 corners are too many for a mixture fitted to so few rows."""
    generator = seeding.torch_stream(0, "corners")
    corners = torch.randint(0, 2, (200, 5), generator=generator) * 2.0 - 1
    rows = corners + 0.05 * torch.randn(200, 5, generator=generator)
    denoiser, facts = run(trainer(steps=400, learnt=rows)).finish()
    assert facts["expert_usage"][2] > 0.8
    assert facts["simpler"] == "On unseen rows independent columns are as good here."
    assert facts["gain_over_mixture"]["value"] > 1
    assert facts["unseen_loss_of"]["independent"] < 0.8 * facts["unseen_loss_of"]["mixture"]
    assert denoiser.independent is not None
    near = denoiser.independent.means.abs() - 1
    assert bool((near.abs().amin(1) < 0.05).all())


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


def test_the_average_of_the_weights_is_saved_with_the_state() -> None:
    """A resumed training is judged by the average, which differs from the weights."""
    state = run(trainer(), stop_at=20).state_dict()
    assert not torch.equal(state["average"], state["weights"])


def test_the_gain_over_the_mixture_leaves_categories_out() -> None:
    training = run(trainer(steps=FIRST))
    exam = training._exam
    off, exact = exam.points.clone(), exam.points
    off[..., 1] += 0.5
    layout = FeatureLayout((0, 1), (DiscreteSpan(1, 1, (-0.5,), 1.0),))
    found = _gain(exam, off, exact, layout)
    assert found == {"value": 0.0, "standard_error": 0.0, "unit": "bits a row, without categories"}
    whole = _gain(exam, off, exact, FeatureLayout((0, 1), ()))
    assert whole is not None
    assert whole["value"] > 1
    assert whole["unit"] == "bits a row"
    assert _gain(exam, off, exact, FeatureLayout((0, 0), (DiscreteSpan(0, 2, (-0.5, -0.5), 1.0),))) is None
