"""A training in its run: what it goes on from, and what it refuses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny, tiny_of

from dualdiff_cli.errors import InputError
from dualdiff_cli.jobs.inputs import load_run_data
from dualdiff_cli.models import Plan, kind_of
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.store.run import Run
from dualdiff_cli.training.loop import Trainer
from dualdiff_cli.training.session import Callbacks, train_at_once

CPU = torch.device("cpu")


@pytest.fixture
def begun(tmp_path: Path) -> tuple[Plan[Any], Run]:
    """A finished training with its state."""
    config = tiny("paper")
    plan = DiffusionModel.plan(config, load_run_data(config), device=CPU)
    run = Run.create(plan.config, tmp_path / "run")
    DiffusionModel.fit(plan, run, device=CPU)
    return plan, run


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step", -1),
        ("step", 10**9),
        ("step", "7"),
        ("network", {}),
        ("network", [1]),
        ("moments", []),
        ("generator", torch.zeros(3)),
        ("loss_sum", torch.zeros(2)),
        ("average", None),
    ],
)
def test_a_state_of_another_structure_is_refused_before_it_is_used(
    name: str, value: object, begun: tuple[Plan[Any], Run]
) -> None:
    plan, run = begun
    state = run.load_state()
    assert state is not None
    run.save_state({**state, "trainer": {**state["trainer"], name: value}})
    with pytest.raises(InputError, match="another configuration"):
        kind_of(run).fit(plan, run, device=CPU)


@pytest.mark.parametrize("threads", [-1, 0, 10**6, 2.0, True])
def test_threads_out_of_bounds_are_refused(threads: Any, begun: tuple[Plan[Any], Run]) -> None:
    _, run = begun
    state = run.load_state()
    assert state is not None
    run.save_state({**state, "execution": {**state["execution"], "threads": threads}})
    with pytest.raises(InputError, match=r"state\.pt is damaged"):
        run.load_state()


def test_weights_that_are_not_finite_are_never_saved_and_the_last_good_state_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("paper")
    plan = DiffusionModel.plan(config, load_run_data(config), device=CPU)
    run = Run.create(plan.config, tmp_path / "run")
    optimise, every = Trainer._optimize, config.training.log_every

    def poisoned(self: Trainer) -> None:
        optimise(self)
        if self.step == 2 * every + 1:
            self._weights[0].vector[0] = torch.nan

    monkeypatch.setattr(Trainer, "_optimize", poisoned)
    monkeypatch.setattr("dualdiff_cli.training.session.CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(InputError) as caught:
        DiffusionModel.fit(plan, run, device=CPU, callbacks=Callbacks())
    assert f"the state after {2 * every} steps" in caught.value.problem
    assert "learning_rate" in caught.value.remedy
    state = run.load_state()
    assert state is not None
    assert state["trainer"]["step"] == 2 * every
    assert all(torch.isfinite(tensor).all() for tensor in state["trainer"]["network"].values())


@pytest.mark.parametrize("recipe", ["paper", "few-rows"])
@pytest.mark.parametrize("log_every", [5, 1_000_000])
@pytest.mark.parametrize(("seconds", "expected"), [(1e9, [7, 12]), (0.0, list(range(1, 13)))])
def test_checkpoints_are_saved_at_their_steps_and_times_whatever_is_logged(
    recipe: str, log_every: int, seconds: float, expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, saved = tiny(recipe, settings=[f"training.log_every={log_every}"]), []
    plan = DiffusionModel.plan(config, load_run_data(config), device=CPU)
    save = Run.save_state

    def noted(run: Run, state: dict[str, Any]) -> None:
        lines = run.load_metrics()
        saved.append((state["trainer"]["step"], lines[-1]["step"] if lines else 0))
        save(run, state)

    monkeypatch.setattr(Run, "save_state", noted)
    monkeypatch.setattr("dualdiff_cli.training.session.CHECKPOINT_SECONDS", seconds)
    DiffusionModel.fit(plan, Run.create(plan.config, tmp_path / "run"), device=CPU)
    logged = [0, 5, 10, 12] if log_every == 5 else [0, 12]
    # The lines up to a checkpoint are there, for a training that goes on from it begins the next line anew.
    assert saved == [(step, max(line for line in logged if line <= step)) for step in expected]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
@pytest.mark.parametrize("kind", ["spline-flow", "tabddpm"])
def test_a_training_without_checkpoints_ends_where_its_loss_is_no_longer_a_number(
    kind: str, loss: float, tmp_path: Path
) -> None:
    config, heard = tiny_of(kind, dataset="line"), []
    rounds = iter([(10, 1.0), (20, loss), (30, 1.0)])
    callbacks = Callbacks(on_progress=lambda progress: heard.append(progress.step))
    with pytest.raises(InputError, match="no longer a number after 20 steps") as caught:
        train_at_once(Run.create(config, tmp_path / "run"), rounds, config.model, callbacks, device=CPU, name=kind)
    assert str(config.model.learning_rate) in caught.value.remedy
    assert heard == [10]
