"""A training in a run: drive the trainer, log, save checkpoints, stop when asked, and go on from a checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from ..compute.device import synchronize
from ..compute.execution import Execution
from ..config.sections import TrainingConfig
from ..errors import InputError, Interrupted
from ..store.run import Run
from .loop import Progress

__all__ = ["Callbacks", "Spent", "restore", "train_in_run"]

CHECKPOINT_SECONDS = 30.0
"""A checkpoint is saved at least so often, in seconds."""


@dataclass(frozen=True)
class Callbacks:
    """How a training reports, and how it is asked to stop.

    Attributes:
        on_note: told each sentence about the data that the user should know, before anything is computed.
        on_start: told the run, the number of optimiser steps (0 for a model without them), and in one sentence how the
            training is carried out, before the first step.
        on_progress: told where training stands.
        should_stop: asked after each step; once it answers yes, the state is saved.

    """

    on_note: Callable[[str], None] = lambda note: None
    on_start: Callable[[Run, int, str], None] = lambda run, steps, how: None
    on_progress: Callable[[Progress], None] = lambda progress: None
    should_stop: Callable[[], bool] = lambda: False


class Training(Protocol):
    """What a training has to offer to be driven here."""

    step: int
    config: TrainingConfig
    points: Tensor

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
        """Train, and report."""

    def state_dict(self) -> dict[str, Any]:
        """Give everything that the rest of the training depends on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from there."""


class Spent(NamedTuple):
    """Seconds of all steps together, without compiling, and seconds of compiling."""

    train_seconds: float
    compile_seconds: float


def restore(run: Run, trainer: Training, state: dict[str, Any] | None) -> Spent:
    """Let the trainer go on from a checkpoint, if there is one, and drop what was logged after it.

    Raises:
        InputError: the checkpoint is of another configuration.

    """
    if state is not None:
        try:
            trainer.load_state_dict(state["trainer"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(
                f"The training state of the run {run} is of another configuration, or of another kind of device.",
                "Restore its config.toml, use the device that its environment.json names, or start a new run.",
            ) from error
    run.rewind_metrics(trainer.step)
    return Spent(0.0, 0.0) if state is None else Spent(state["seconds"], state["compile_seconds"])


def train_in_run(run: Run, trainer: Training, before: Spent, callbacks: Callbacks) -> Spent:
    """Train to the end; log the loss and save checkpoints in the run.

    Args:
        run: where to.
        trainer: at any step.
        before: what the steps up to the checkpoint took.
        callbacks: see `Callbacks`.

    Raises:
        Interrupted: stopped by ``should_stop``; the state is saved.
        InputError: the loss is no longer a number.

    """
    config = trainer.config
    started = saved_at = time.monotonic()
    saved_step = trainer.step

    def spent() -> Spent:
        compiling = trainer.compile_seconds
        return Spent(before[0] + time.monotonic() - started - compiling, before[1] + compiling)

    def save() -> None:
        seconds, compile_seconds = spent()
        how = {"execution": trainer.execution.to_dict(), "device": trainer.points.device.type}
        run.save_state({"trainer": trainer.state_dict(), "seconds": seconds, "compile_seconds": compile_seconds, **how})

    for progress in trainer.run(callbacks.should_stop):
        if any(not math.isfinite(record.loss) for record in progress.records):
            raise InputError(
                f"The loss is no longer a number after {progress.step} steps.",
                f"Lower training.learning_rate (it is {config.learning_rate}).",
            )
        run.append_metrics(asdict(record) for record in progress.records)
        callbacks.on_progress(progress)
        due = trainer.step - saved_step >= config.checkpoint_every
        if due or time.monotonic() - saved_at >= CHECKPOINT_SECONDS:
            save()
            saved_step, saved_at = trainer.step, time.monotonic()
    synchronize(trainer.points.device)
    at_the_end = spent()
    if saved_step != trainer.step:
        save()
    if not trainer.is_done:
        raise Interrupted(
            f"Stopped after {trainer.step} of {config.steps} steps.",
            f"Everything is saved: go on with `dualdiff train --resume {run}`.",
        )
    return at_the_end
