"""The loss on held-out rows while a training runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_trainings import POINTS, equal, records, trainer, weights

from dualdiff_cli import seeding
from dualdiff_cli.config.schema import RunConfig
from dualdiff_cli.diffusion.schedules import build_schedule
from dualdiff_cli.models.fitting import build_network_denoiser
from dualdiff_cli.training.judging import MOST_JUDGED, HeldOutRows
from dualdiff_cli.training.loop import Record, Trainer


def held_out(config: RunConfig, n: int = 50) -> HeldOutRows:
    points = torch.randn(n, 2, generator=seeding.torch_stream(3, "held-out rows of this test"))
    return HeldOutRows(points, build_schedule(config.schedule), seed=0)


def judged(config: RunConfig) -> Trainer:
    """The same training as `trainer` gives, with rows on which it is judged."""
    denoiser = build_network_denoiser(config, 2)
    settings: dict[str, Any] = {"objective": config.objective, "training": config.training, "seed": 0}
    return Trainer(denoiser, POINTS, held_out=held_out(config), **settings)


def test_judging_changes_nothing_of_the_training(either_config: RunConfig) -> None:
    with_rows, without = judged(either_config), trainer(either_config)
    logs = [[(line.step, line.loss) for line in records(each.run())] for each in (with_rows, without)]
    assert logs[0] == logs[1]
    assert equal(weights(with_rows.denoiser), weights(without.denoiser))
    assert torch.equal(with_rows.state_dict()["generator"], without.state_dict()["generator"])


def test_the_averaged_weights_are_judged_after_every_checkpoint_and_at_the_end(either_config: RunConfig) -> None:
    training = judged(either_config)  # logs at 5, 10 and 12, and has checkpoints at 7 and 12
    rows, found = held_out(either_config), {}
    for progress in training.run():
        for line in progress.records:
            if line.held_out is not None:
                found[line.step] = line.held_out
                assert line.held_out == pytest.approx(float(rows.loss(training.average)))
    assert list(found) == [10, 12]


def test_a_line_of_the_log_names_the_loss_on_held_out_rows_only_where_it_is_known() -> None:
    line: dict[str, Any] = {"step": 5, "loss": 0.3, "learning_rate": 0.1}
    assert Record(**line).to_dict() == line
    assert Record(**line, held_out=0.0).to_dict() == {**line, "held_out": 0.0}


def test_a_judgement_is_the_error_of_the_network_and_uses_few_rows(tiny_config: RunConfig) -> None:
    rows, denoiser = held_out(tiny_config, MOST_JUDGED + 10), build_network_denoiser(tiny_config, 2)
    assert len(rows.points) == MOST_JUDGED
    with torch.no_grad():
        output, target, weight = denoiser.regression(rows.points, rows.noise, rows.t)
    by_hand = float((weight * (output - target) ** 2).double().mean())
    assert float(rows.loss(denoiser)) == pytest.approx(by_hand, rel=1e-5)
    assert len(rows.t.unique()) == either_times(tiny_config)


def test_judged_rows_are_from_all_over_the_table_and_keep_their_own_noise(tiny_config: RunConfig) -> None:
    n = 4 * MOST_JUDGED
    points = torch.arange(2.0 * n).reshape(n, 2)
    rows = HeldOutRows(points, build_schedule(tiny_config.schedule), seed=0, noise=-points)
    assert len(rows.points) == len(rows.points.unique(dim=0)) == MOST_JUDGED
    assert float(rows.points.mean()) == pytest.approx(n, rel=0.05)
    assert torch.equal(rows.noise, -rows.points)


def test_rows_from_every_part_of_a_sorted_file_are_judged_at_all_noise_levels(either_config: RunConfig) -> None:
    t = held_out(either_config, n=400).t
    assert not torch.equal(t, t.sort().values)
    torch.testing.assert_close(t[:200].mean(), t[200:].mean(), rtol=0.3, atol=0)


def either_times(config: RunConfig) -> int:
    """The number of entries of the schedule's table, all of which occur."""
    schedule = build_schedule(config.schedule)
    return int(schedule.t_max - schedule.t_min) + 1
