"""The training in folds: who sees which rows, its steps, when it ends, and what it keeps."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from small_folds import CPU, FIRST, ROWS, points, run, trainer, worse_later
from small_trainings import equal, records
from torch import Tensor

from dualdiff_cli.compute.execution import Execution
from dualdiff_cli.data import DiscreteSpan, FeatureLayout
from dualdiff_cli.diffusion.stacking import StackedDenoiser
from dualdiff_cli.training.folds import CHECKPOINTS, LEAST_COUNTED, FoldTrainer
from dualdiff_cli.training.unseen import UnseenRows


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
    judged = training._unseen.points[0].reshape(3, -1, 2)
    for seen, rows in zip(training._seen, judged, strict=True):
        assert {tuple(row) for row in rows.tolist()}.isdisjoint({tuple(row) for row in seen.tolist()})


def test_a_fold_is_not_judged_by_a_category_that_none_of_its_rows_has() -> None:
    rows = torch.cat([points(), torch.zeros(ROWS, 1)], 1)
    rows[7, 2], rows[8:20, 2] = 3.0, 1.0  # one row has a value of its own, and twelve share one
    config = trainer().config
    layout = FeatureLayout((0, 1, 2), (DiscreteSpan(2, 1, (0.0,), 1.0),))
    judged = FoldTrainer(config, rows.unsqueeze(0), device=CPU, layout=layout)._unseen.points[0]
    assert set(judged[:, 2].tolist()) == {0.0, 1.0}


def test_rows_of_a_longer_fold_are_judged_from_all_over_a_sorted_file() -> None:
    long = torch.linspace(0, 1, 80).unsqueeze(1).expand(-1, 2)
    exam = UnseenRows(trainer().denoiser, [long[:20], long, long[:21]], levels=4, seed=0)
    short, drawn, nearly = exam.points[0].reshape(3, -1, 20, 2)[:, 0, :, 0]
    assert torch.equal(short, nearly)  # a single row more or less is no reason to draw
    assert len(drawn.unique()) == 20
    assert abs(drawn.mean() - 0.5) < 0.2
    assert drawn.max() > 0.8


def test_every_set_of_given_features_is_tried_on_rows_from_all_over_a_sorted_file() -> None:
    sorted_rows = torch.linspace(0, 1, 1600).unsqueeze(1).expand(-1, 2)
    unseen = UnseenRows(trainer().denoiser, [sorted_rows] * 3, levels=4, seed=0)
    given = unseen.choose_given(range(2), least=0.4, most=0.6, seed=0)
    for pattern in given[:1600].unique(dim=0):
        places = unseen.points[0, :1600, 0][(given[:1600] == pattern).all(1)]
        assert abs(places.mean() - 0.5) < 0.1
        assert places.max() - places.min() > 0.9


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
    losses = training._unseen.losses(training._unseen.answers())
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
    assert training.step == sorted(CHECKPOINTS)[2] < training.training.steps
    assert [checkpoint["step"] for checkpoint in training.history] == sorted(CHECKPOINTS)[:3]


def test_a_training_ends_early_where_the_mixture_knows_all_and_goes_on_where_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dualdiff_cli.training.folds.LEAST_GAIN", 0.1)
    settings, steps = ("training.learning_rate=0.003", "folds.patience=1"), 3 * FIRST
    with_mixture = run(trainer(*settings, rows=400, steps=steps))
    assert with_mixture.step == sorted(CHECKPOINTS)[1]
    assert 0 < with_mixture.history[-1]["gain"] < 0.1
    alone = run(trainer(*settings, "folds.mixture=false", "folds.independent=false", rows=400, steps=steps))
    assert alone.step == steps


def test_a_large_gain_of_networks_without_weight_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualdiff_cli.training.weighing.common_weights", lambda a: torch.eye(len(a))[1].expand(2, -1))
    training = run(trainer("folds.levels=2", steps=sorted(CHECKPOINTS)[1]))
    first, last = training.history
    assert last["gain"] == pytest.approx(LEAST_COUNTED * fallen_by(training, first), rel=1e-3)
    assert last["gain"] > 0


def test_a_gain_is_what_the_losses_of_the_bands_have_fallen_by_in_bits_where_the_networks_have_all_weight() -> None:
    alone = ("folds.mixture=false", "folds.independent=false", "folds.patience=50", "folds.levels=2")
    training = run(trainer(*alone, steps=sorted(CHECKPOINTS)[4]))
    first, *later = training.history
    assert all(checkpoint["gain"] >= 0 for checkpoint in later)
    assert sum(checkpoint["gain"] for checkpoint in later) == pytest.approx(fallen_by(training, first), rel=1e-3)


def fallen_by(training: FoldTrainer, first: dict[str, Any]) -> float:
    """By how many bits the best losses are less than those of the first checkpoint; a band is one level."""
    bits = training._unseen.bits * training._unseen.scale.square() * 2  # of two features
    return float(bits @ (torch.tensor(first["held_out"]) - training._best.losses.mean(1)))


def test_a_training_that_an_earlier_version_began_goes_on() -> None:
    """Its checkpoints do not say what was gained."""
    settings, steps = ("folds.patience=1",), sorted(CHECKPOINTS)[2]
    state = through_a_file(run(trainer(*settings, steps=steps), stop_at=sorted(CHECKPOINTS)[1] + 1).state_dict())
    state["history"] = [{name: entry[name] for name in ("step", "held_out")} for entry in state["history"]]
    resumed = trainer(*settings, steps=steps)
    resumed.load_state_dict({**state, "since": 0})
    assert not resumed.is_done
    assert run(resumed).step == steps


def test_the_average_follows_the_weights_at_its_interval_and_at_the_end() -> None:
    training = trainer("training.ema_every=4", steps=6)
    averages = []
    for _ in range(6):
        training._optimize()
        averages.append(training._averages.vector.clone())
    changed = [not torch.equal(before, after) for before, after in pairwise(averages)]
    assert changed == [False, False, True, False, True]


def test_a_training_of_few_steps_has_one_checkpoint_at_its_end() -> None:
    assert [checkpoint["step"] for checkpoint in run(trainer(steps=30)).history] == [30]


@pytest.mark.parametrize("rate", [0.003, 0.3])
def test_a_band_keeps_the_weights_of_the_best_checkpoint_of_each_fold(rate: float) -> None:
    """The kept loss is the least of the history or, as the folds improve at different checkpoints, less."""
    training = worse_later(rate)
    least = torch.tensor([checkpoint["held_out"] for checkpoint in training.history]).amin(0)
    kept = torch.stack([judged(training, band) for band in range(2)])
    assert bool((kept.mean(1) <= least * (1 + 1e-5)).all())
    torch.testing.assert_close(kept, training._best.losses)


def judged(training: FoldTrainer, band: int) -> Tensor:
    """The loss of each fold in a band with the weights that are kept for the band, (3,)."""
    unseen = training._unseen
    training._averages.vector.copy_(training._best.weights[band])
    return unseen.losses(unseen.answers()).reshape(2, 2, 3).mean(1)[band]


def test_the_average_stays_where_the_best_weights_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    training = worse_later()
    before = training._averages.vector.clone()
    assert not torch.equal(before, training._best.weights[0])
    monkeypatch.setattr(training._unseen, "answers", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        training._best.answers(torch.ones(1, dtype=torch.bool))
    assert torch.equal(training._averages.vector, before)


def test_weights_that_have_become_worse_are_not_the_ones_that_are_kept() -> None:
    training = worse_later()
    last = torch.tensor(training.history[-1]["held_out"])
    assert bool((training._best.losses.mean(1) < last).any())


def test_the_average_of_the_weights_is_saved_with_the_state() -> None:
    """A resumed training is judged by the average, which differs from the weights."""
    state = run(trainer(), stop_at=20).state_dict()
    assert not torch.equal(state["average"], state["weights"])
