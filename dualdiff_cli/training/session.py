"""A training in a run: drive the trainer, log, save checkpoints, stop when asked, and go on from a checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..checked import refusing
from ..compute.device import synchronize
from ..compute.execution import Execution
from ..compute.machine import describe_machine
from ..config.schema import SplineFlowSettings, TabDDPMSettings
from ..config.sections import TrainingConfig
from ..errors import InputError, Interrupted
from ..store.run import Run
from .loop import Progress

__all__ = ["Callbacks", "Spent", "begin_in_run", "restore", "train_at_once", "train_in_run"]

CHECKPOINT_SECONDS = 30.0
"""The longest time between two checkpoints, in seconds."""
MAY_BE_INFINITE = ("best",)
"""The part of a state with the least losses until now, which are infinite before the first checkpoint is judged."""
MAY_GROW = ("trainer.history",)
"""The part of a state that grows with the training; the trainer checks it."""


@dataclass(frozen=True)
class Callbacks:
    """How a training reports, and how it is asked to stop.

    Attributes:
        on_note: told each sentence about the data that the user should know, before anything is computed.
        on_start: told the run, the number of optimiser steps (0 for a model without them), and in one sentence how the
            training is carried out, before the first step.
        on_progress: told where training stands.
        should_stop: asked after each step; once it answers yes, the state is saved.
        shield: makes the block in which ``should_stop`` is asked, and in which nothing else stops the work.

    """

    on_note: Callable[[str], None] = lambda note: None
    on_start: Callable[[Run, int, str], None] = lambda run, steps, how: None
    on_progress: Callable[[Progress], None] = lambda progress: None
    should_stop: Callable[[], bool] = lambda: False
    shield: Callable[[], AbstractContextManager[None]] = nullcontext


class Training(Protocol):
    """What a training has to offer to be driven here."""

    step: int
    training: TrainingConfig
    device: torch.device

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""

    @property
    def execution(self) -> Execution:
        """How the arithmetic is carried out."""

    @property
    def compile_seconds(self) -> float:
        """What compiling has taken so far."""

    def run(self, should_stop: Callable[[], bool]) -> Iterator[Progress]:
        """Train, and report; ask ``should_stop`` after each step, when the step has been reported."""

    def state_dict(self) -> dict[str, Any]:
        """Give everything that the rest of the training depends on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from there."""


class Spent(NamedTuple):
    """Seconds of all steps together, without compiling, and seconds of compiling."""

    train_seconds: float
    compile_seconds: float


def begin_in_run(
    run: Run,
    callbacks: Callbacks,
    how: str,
    *,
    device: torch.device | str = "cpu",
    steps: int = 0,
    execution: Execution | None = None,
) -> None:
    """Note in the run which machine trains, and say how the training is carried out, before the first step.

    Args:
        run: where the model will be kept.
        callbacks, how, steps: see `Callbacks`.
        device: where the training runs.
        execution: of a training that leaves a choice.

    """
    carried = {} if execution is None else {"execution": execution.to_dict()}
    run.save_environment({"device": str(device), **describe_machine(), **carried})
    callbacks.on_start(run, steps, how)


def restore(run: Run, trainer: Training, state: dict[str, Any] | None) -> Spent:
    """Let the trainer go on from a checkpoint, if there is one, and drop what was logged after the checkpoint.

    Raises:
        InputError: the checkpoint is of another configuration.

    """
    if state is not None:
        problem = f"The training state of the run {run} is of another configuration, or of another kind of device."
        remedy = "Restore its config.toml, use the device that its environment.json names, or start a new run."
        with refusing(problem, remedy):
            _check_state(trainer.state_dict(), state["trainer"], "trainer")
            if not 0 <= state["trainer"]["step"] <= trainer.training.steps:
                raise ValueError("the training has fewer steps")
            trainer.load_state_dict(state["trainer"])
    run.rewind_metrics(trainer.step)
    return Spent(0.0, 0.0) if state is None else Spent(state["seconds"], state["compile_seconds"])


def train_in_run(run: Run, trainer: Training, before: Spent, callbacks: Callbacks) -> Spent:
    """Train to the end; log the loss and save checkpoints in the run.

    Args:
        run: where the log and the checkpoints are kept.
        trainer: the training, at any step.
        before: what the steps until now have taken.
        callbacks: see `Callbacks`.

    Raises:
        Interrupted: stopped by ``should_stop``; the state is saved.
        InputError: the loss is no longer a number.

    """
    started = time.monotonic()

    def spent() -> Spent:
        compiling = trainer.compile_seconds
        training = time.monotonic() - started - compiling
        return Spent(before.train_seconds + training, before.compile_seconds + compiling)

    with callbacks.shield():
        checkpoints = _Checkpoints(run, trainer, spent)

        def after_step() -> bool:
            if checkpoints.are_due:
                checkpoints.save()
            return callbacks.should_stop()

        for progress in trainer.run(after_step):
            if any(not math.isfinite(record.loss) for record in progress.records):
                raise checkpoints.diverged()
            run.append_metrics(record.to_dict() for record in progress.records)
            callbacks.on_progress(progress)
        synchronize(trainer.device)
        at_the_end = spent()
        checkpoints.save()
        if not trainer.is_done:
            raise Interrupted(
                f"Stopped after {trainer.step} of {trainer.training.steps} steps.",
                f"Everything is saved: go on with `{run.resuming}`.",
            )
    return at_the_end


def train_at_once(
    run: Run,
    rounds: Iterator[tuple[int, float]],
    settings: SplineFlowSettings | TabDDPMSettings,
    callbacks: Callbacks,
    *,
    device: torch.device,
    name: str,
) -> None:
    """Drive a training that keeps no checkpoint, so that a training that was stopped starts over.

    Args:
        run: where the model will be kept.
        rounds: trains, and gives the number of steps done and a loss after every few steps.
        settings: of the model, with the largest number of steps.
        callbacks: see `Callbacks`.
        device: where the training runs.
        name: what the model is called in messages, such as "A spline flow".

    Raises:
        Interrupted: stopped by ``should_stop``; nothing is kept.
        InputError: the loss is no longer a number.

    """
    steps, how = settings.steps, f"{name} on a single device; a training that is stopped starts over."
    begin_in_run(run, callbacks, how, device=device, steps=steps)
    with callbacks.shield():
        for step, loss in rounds:
            if not math.isfinite(loss):
                raise InputError(
                    f"The loss is no longer a number after {step} steps.",
                    f"Lower model.learning_rate (it is {settings.learning_rate}).",
                )
            callbacks.on_progress(Progress(step, ()))
            if step < steps and callbacks.should_stop():
                raise Interrupted(
                    f"Stopped after {step} of at most {steps} steps.",
                    f"{name} keeps no checkpoint: `{run.resuming}` starts anew.",
                )


class _Checkpoints:
    """The checkpoints of a training, each with finite weights.

    Args:
        run: where the checkpoints are kept, each in the place of the one before.
        trainer: the training.
        spent: gives the time that the training has taken.

    """

    def __init__(self, run: Run, trainer: Training, spent: Callable[[], Spent]) -> None:
        self._run, self._trainer, self._spent = run, trainer, spent
        self._saved_step, self._saved_at = trainer.step, time.monotonic()

    @property
    def are_due(self) -> bool:
        """Whether enough steps or enough time have passed since the last checkpoint."""
        steps, seconds = self._trainer.step - self._saved_step, time.monotonic() - self._saved_at
        return steps >= self._trainer.training.checkpoint_every or seconds >= CHECKPOINT_SECONDS

    def save(self) -> None:
        """Save a checkpoint, unless the training has made no step since the last one.

        Raises:
            InputError: a weight is no longer a number; the last checkpoint stays.

        """
        trainer = self._trainer
        if self._saved_step == trainer.step:
            return
        state = trainer.state_dict()
        if not _is_finite({name: value for name, value in state.items() if name not in MAY_BE_INFINITE}):
            raise self.diverged()
        seconds, compile_seconds = self._spent()
        how = {"execution": trainer.execution.to_dict(), "device": trainer.device.type}
        self._run.save_state({"trainer": state, "seconds": seconds, "compile_seconds": compile_seconds, **how})
        self._saved_step, self._saved_at = trainer.step, time.monotonic()

    def diverged(self) -> InputError:
        """Say that the training has diverged, and which state is the last good one."""
        good = f"the run {self._run} keeps the state after {self._saved_step} steps" if self._saved_step else ""
        return InputError(
            f"The loss is no longer a number after {self._trainer.step} steps{f'; {good}' if good else ''}.",
            f"Lower training.learning_rate (it is {self._trainer.training.learning_rate}) in a new run.",
        )


def _check_state(own: Any, kept: Any, place: str) -> None:
    """Check that a state that was read has the structure, the shapes and the types of the trainer's own state.

    Raises:
        ValueError: something is missing, or differs.

    """
    if isinstance(own, Tensor):
        same = isinstance(kept, Tensor) and (kept.shape, kept.dtype, kept.layout) == (own.shape, own.dtype, own.layout)
    elif isinstance(own, dict):
        same = isinstance(kept, dict) and kept.keys() == own.keys()
    elif isinstance(own, list | tuple):
        same = isinstance(kept, list | tuple) and (len(kept) == len(own) or place in MAY_GROW)
    else:
        same = type(kept) is type(own)
    if not same:
        raise ValueError(f"{place} differs")
    if isinstance(own, dict):
        for name, value in own.items():
            _check_state(value, kept[name], f"{place}.{name}")
    elif isinstance(own, list | tuple) and place not in MAY_GROW:
        for number, (value, other) in enumerate(zip(own, kept, strict=True)):
            _check_state(value, other, f"{place}.{number}")


def _is_finite(value: Any) -> bool:
    """Say whether all numbers in tensors, mappings and sequences of these are finite."""
    if isinstance(value, Tensor):
        return bool(torch.isfinite(value).all())
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
