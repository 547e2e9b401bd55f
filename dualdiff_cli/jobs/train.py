"""Train a run, or finish one that was stopped."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..compute.device import choose_device, denormals_flushed, set_tf32, synchronize
from ..compute.execution import Execution, decide_training
from ..compute.machine import describe_machine
from ..config.schema import RunConfig
from ..data import Data, Scaler
from ..diffusion.denoisers import NetworkDenoiser
from ..diffusion.networks.experts import count_parameters
from ..diffusion.samplers import build_sampler
from ..diffusion.schedules import Schedule
from ..errors import InputError, Interrupted
from ..models.diffusion import TrainedModel, build_denoiser, check_sampler, training_layer
from ..store.run import Run
from ..training.loop import Progress, Trainer
from ..training.loss import expert_usage
from .inputs import fit_scaler, held_out_points, load_run_data, record_data, reload_data, settle, training_points
from .plot import plot
from .reflow import Pairs, draw_pairs, held_out_loss, kept_pairs, load_teacher

__all__ = ["Callbacks", "resume", "train"]

CHECKPOINT_SECONDS = 30.0
SIGNAL_LEFT = 0.05
"""Share of the signal's power at t_max beyond which the start of sampling is not what training ended at."""


@dataclass(frozen=True)
class Callbacks:
    """How a training reports, and how it is asked to stop.

    Attributes:
        on_start: told the run, its configuration and how it will be carried out before the first step.
        on_progress: told where training stands.
        should_stop: asked after each step; once it says yes, the state is saved.

    """

    on_start: Callable[[Run, RunConfig, Execution], None] = lambda run, config, execution: None
    on_progress: Callable[[Progress], None] = lambda progress: None
    should_stop: Callable[[], bool] = lambda: False


def train(
    config: RunConfig, *, path: Path | None = None, device: str = "auto", callbacks: Callbacks = Callbacks()
) -> dict[str, Any]:
    """Train a new run.

    Args:
        config: what is asked for.
        path: the run's directory, by default the next free ``runs/<dataset>-<model>-<k>``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
        callbacks: see there.

    Returns:
        The record of the ``train`` command's contract.

    Raises:
        Interrupted: stopped by ``should_stop``.
        InputError: the data or the configuration is wrong, or the loss is no longer a number.
        DeviceError: the device is not there.

    """
    place = choose_device(device)
    # Before the directory is made, so that a bad request leaves none behind, nor fails after all the training.
    data = load_run_data(config)
    config = settle(config, data)
    sampler = build_sampler(config.sampling)
    check_sampler(config, sampler)
    sampler.levels(build_denoiser(config, len(data.columns)).schedule)
    if config.objective.teacher is not None:
        load_teacher(config, data, place)
    return _train(Run.create(config, path), config, data, place, callbacks)


def resume(run: Run, *, device: str = "auto", callbacks: Callbacks = Callbacks()) -> dict[str, Any]:
    """Finish a run from wherever it was stopped; arguments, result and errors as for `train`."""
    config = run.config
    return _train(run, config, reload_data(run), choose_device(device), callbacks)


def _train(run: Run, config: RunConfig, data: Data, place: torch.device, callbacks: Callbacks) -> dict[str, Any]:
    trainer, scaler, pairs, seconds, compile_seconds = _trained(run, config, data, place, callbacks)
    set_tf32(False)  # what is drawn and judged from here on is in float32

    model = TrainedModel(config, trainer.average, scaler, data.columns, place)
    model.save(run)
    plot(run, device=str(place))
    held_out = torch.from_numpy(scaler.transform(held_out_points(data, seed=config.seed))).float().to(place)
    average, seed = trainer.average, config.seed
    gated = {"expert_usage": expert_usage(average, held_out, seed=seed)} if config.model.experts > 1 else {}
    return {
        "run": str(run),
        "dataset": config.dataset,
        "model": config.model.name,
        "recipe": config.recipe,
        "seed": seed,
        "steps": trainer.step,
        "parameters": count_parameters(trainer.denoiser.network),
        "train_seconds": seconds,
        "compile_seconds": compile_seconds,
        "held_out_loss": held_out_loss(average, held_out, pairs, seed=seed).mean,
        "terminal_alpha_bar": trainer.denoiser.schedule.terminal_alpha_bar,
        "device": str(place),
        **gated,
    }


class _Trained(NamedTuple):
    """A training at its end: what it was of, and the seconds of its steps and of compiling."""

    trainer: Trainer
    scaler: Scaler
    pairs: Pairs | None
    seconds: float
    compile_seconds: float


@denormals_flushed()
def _trained(run: Run, config: RunConfig, data: Data, place: torch.device, callbacks: Callbacks) -> _Trained:
    """Begin a training, or take it up where it was stopped, and drive it to its end."""
    pairs = _pairs(run, config, data, place)
    points = training_points(config, data)
    scaler = fit_scaler(config, data, points) if pairs is None else pairs.scaler
    record_data(run, data)
    state = run.load_state() or {"seconds": 0.0}
    denoiser = build_denoiser(config, len(data.columns)).to(place)
    execution = _execution(config, place, denoiser, state)
    execution.apply()
    run.save_environment({"device": str(place), **describe_machine(), "execution": execution.to_dict()})
    callbacks.on_start(run, config, execution)

    trainer = Trainer(
        denoiser,
        (torch.from_numpy(scaler.transform(points)).float() if pairs is None else pairs.points).to(place),
        objective=config.objective,
        config=config.training,
        seed=config.seed,
        noise=None if pairs is None else pairs.noise.to(place),
        execution=execution,
    )
    _warn_of_signal_left(denoiser.schedule)
    if "trainer" in state:
        try:
            trainer.load_state_dict(state["trainer"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(
                f"The training state of the run {run} is of another configuration, or of another kind of device.",
                "Restore its config.toml, use the device that its environment.json names, or start a new run.",
            ) from error
    run.rewind_metrics(trainer.step)
    seconds, compile_seconds = _train_to_end(run, trainer, config, state, callbacks)
    return _Trained(trainer, scaler, pairs, seconds, compile_seconds)


def _pairs(run: Run, config: RunConfig, data: Data, place: torch.device) -> Pairs | None:
    """Give the pairs of a reflow, drawn once and kept in the run."""
    pairs = kept_pairs(run)
    if pairs is None and config.objective.teacher is not None:
        pairs = draw_pairs(load_teacher(config, data, place), len(data.train), seed=config.seed)
        pairs.save(run)
    return pairs


def _execution(config: RunConfig, place: torch.device, denoiser: NetworkDenoiser, state: dict[str, Any]) -> Execution:
    """Decide how to carry a run out, or go on as it began: another way would round differently."""
    if "execution" in state and state["device"] == place.type:
        return Execution(**state["execution"])
    parameters = count_parameters(denoiser.network)
    return decide_training(config.training, place, parameters=parameters, layer=training_layer(config))


def _warn_of_signal_left(schedule: Schedule) -> None:
    """Say so where sampling would start from something else than what the noised data is."""
    left = schedule.terminal_alpha_bar
    if left > SIGNAL_LEFT:
        warnings.warn(
            f"At its noisiest this schedule still holds {100 * left:.0f} % of the signal's power (ᾱ_T = {left:.3f}), "
            "but sampling starts from noise alone: samples will be off by as much.",
            stacklevel=2,
        )


def _train_to_end(
    run: Run, trainer: Trainer, config: RunConfig, state: dict[str, Any], callbacks: Callbacks
) -> tuple[float, float]:
    """Drive the trainer, log and checkpoint; give the seconds of all steps together, and those of compiling."""
    started = saved_at = time.monotonic()
    saved_step = trainer.step

    def spent() -> dict[str, float]:
        compiling = trainer.compile_seconds
        return {
            "seconds": state["seconds"] + time.monotonic() - started - compiling,
            "compile_seconds": state.get("compile_seconds", 0.0) + compiling,
        }

    def save() -> None:
        how = {"execution": trainer.execution.to_dict(), "device": trainer.points.device.type}
        run.save_state({"trainer": trainer.state_dict(), **spent(), **how})

    for progress in trainer.run(callbacks.should_stop):
        if any(not np.isfinite(record.loss) for record in progress.records):
            raise InputError(
                f"The loss is no longer a number after {progress.step} steps.",
                f"Lower training.learning_rate (it is {config.training.learning_rate}).",
            )
        run.append_metrics(asdict(record) for record in progress.records)
        callbacks.on_progress(progress)
        due = trainer.step - saved_step >= config.training.checkpoint_every
        if due or time.monotonic() - saved_at >= CHECKPOINT_SECONDS:
            save()
            saved_step, saved_at = trainer.step, time.monotonic()
    synchronize(trainer.points.device)
    seconds, compile_seconds = spent().values()
    if saved_step != trainer.step:
        save()
    if trainer.step < config.training.steps:
        raise Interrupted(
            f"Stopped after {trainer.step} of {config.training.steps} steps.",
            f"Everything is saved: go on with `dualdiff train --resume {run}`.",
        )
    return seconds, compile_seconds
