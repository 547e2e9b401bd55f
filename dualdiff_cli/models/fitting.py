"""The training of a diffusion model in its run: one network on all rows, or folds and a mixture for few rows."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from .. import seeding
from ..compute.device import denormals_flushed
from ..compute.execution import Execution, LayerShape, decide_folds, decide_training
from ..compute.processor import keep_freed_memory
from ..config.schema import DiffusionConfig
from ..data import DiscreteSpan, FeatureLayout
from ..diffusion.denoisers import Denoiser, LearntDenoiser
from ..diffusion.network_denoiser import NetworkDenoiser
from ..diffusion.networks.experts import build_network, count_parameters
from ..diffusion.samplers import Reach
from ..diffusion.schedules import Schedule, build_schedule
from ..diffusion.stacking import StackedDenoiser
from ..store.run import Run
from ..training.folds import FoldTrainer, build_stacked
from ..training.judging import HeldOutRows
from ..training.loop import Trainer
from ..training.reflow import Pairs, draw_pairs
from ..training.session import Callbacks, begin_in_run, restore, train_in_run
from .trainable import Plan

__all__ = ["DiffusionPlan", "build_denoiser", "build_network_denoiser", "fit_folds", "fit_network", "training_layer"]

SIGNAL_LEFT = 0.05
"""A warning is given if more than this share of the signal's power is left at t_max."""


@dataclass(frozen=True)
class DiffusionPlan(Plan[DiffusionConfig]):
    """The plan of a diffusion model; for a reflow it has the pairs of points and noise, or the teacher that draws them.

    Attributes:
        pairs: those that the run was begun on.
        teacher: the denoiser whose flow gives the pairs; None where they are there.

    """

    pairs: Pairs | None = None
    teacher: Denoiser | None = None


def build_denoiser(config: DiffusionConfig, layout: FeatureLayout) -> LearntDenoiser:
    """Make the untrained denoiser of features; its initial weights depend on the seed alone."""
    if config.folds.number:
        return build_stacked(config, layout)
    return build_network_denoiser(config, layout.width, layout.discrete)


def build_network_denoiser(
    config: DiffusionConfig, width: int, discrete: Sequence[DiscreteSpan] = ()
) -> NetworkDenoiser:
    """Make the untrained denoiser of one network; its initial weights depend on the seed alone.

    Args:
        config: of the model.
        width: the number of features.
        discrete: the features that take few values.

    """
    schedule = build_schedule(config.schedule)
    weights = seeding.torch_stream(config.seed, "weights")
    network = build_network(config.model, width, span=schedule.network_span, generator=weights)
    return NetworkDenoiser(network, schedule, prediction=config.objective.prediction, discrete=discrete)


def training_layer(config: DiffusionConfig) -> LayerShape:
    """Give the shape of the network's products in a training step."""
    c, batch = config.model, config.training.batch
    shared = c.experts > 1 and c.gate_on == "level" and config.objective.stratified and batch % c.experts == 0
    return LayerShape(c.experts, batch // c.experts if shared else batch, c.width)


@denormals_flushed()
def fit_network(
    plan: DiffusionPlan, run: Run, *, device: torch.device, callbacks: Callbacks
) -> tuple[NetworkDenoiser, dict[str, Any]]:
    """Train one network, or one network with experts, on all rows; see `TrainableModel.fit`."""
    config, pairs = plan.config, plan.pairs
    if plan.teacher is not None:
        n, reach = plan.data.train.height, Reach.of(plan.features)
        pairs = draw_pairs(plan.teacher, plan.encoding, n, reach=reach, seed=config.seed, device=device)
        pairs.save(run)
    state = run.load_state()
    layout = plan.encoding.layout
    denoiser = build_network_denoiser(config, layout.width, layout.discrete).to(device)
    execution = _execution(config, device, denoiser, state)
    points = torch.from_numpy(plan.completions).flatten(0, 1).float() if pairs is None else pairs.points
    with _begun(config, run, execution, device, callbacks):
        trainer = Trainer(
            denoiser,
            points.to(device),
            objective=config.objective,
            training=config.training,
            seed=config.seed,
            noise=None if pairs is None else pairs.noise.to(device),
            units=layout.units,
            held_out=_held_out(plan, pairs, denoiser.schedule, device),
            execution=execution,
        )
        _warn_of_signal_left(denoiser.schedule)
        spent = train_in_run(run, trainer, restore(run, trainer, state), callbacks)
    return trainer.average, {
        "steps": trainer.step,
        "parameters": count_parameters(trainer.denoiser.network),
        **spent._asdict(),
        "terminal_alpha_bar": denoiser.schedule.terminal_alpha_bar,
    }


@denormals_flushed()
def fit_folds(
    plan: DiffusionPlan, run: Run, *, device: torch.device, callbacks: Callbacks
) -> tuple[StackedDenoiser, dict[str, Any]]:
    """Train the folds and the mixture, and weigh them on unseen rows; see `TrainableModel.fit`."""
    config = plan.config
    state = run.load_state()
    execution = _kept_execution(state, device) or decide_folds(config.training, device)
    completions = torch.from_numpy(plan.completions).float()
    with _begun(config, run, execution, device, callbacks):
        trainer = FoldTrainer(config, completions, device=device, layout=plan.encoding.layout, execution=execution)
        spent = train_in_run(run, trainer, restore(run, trainer, state), callbacks)
        started = time.monotonic()
        denoiser, facts = trainer.finish()
    spent = spent._replace(train_seconds=spent.train_seconds + time.monotonic() - started)
    parameters = sum(tensor.numel() for tensor in denoiser.weights().values())
    return denoiser.to(device), {"steps": trainer.step, "parameters": parameters, **spent._asdict(), **facts}


def _held_out(plan: DiffusionPlan, pairs: Pairs | None, schedule: Schedule, device: torch.device) -> HeldOutRows | None:
    """Give the rows on which the training is judged, those of the pairs for a reflow; None where none is held out."""
    seed = plan.config.seed
    if pairs is not None:
        points, noise = pairs.held_out.to(device)
        return HeldOutRows(points, schedule, seed=seed, noise=noise)
    if not len(plan.held_out):
        return None
    return HeldOutRows(torch.from_numpy(plan.held_out).float().to(device), schedule, seed=seed)


@contextmanager
def _begun(
    config: DiffusionConfig, run: Run, execution: Execution, device: torch.device, callbacks: Callbacks
) -> Iterator[None]:
    """Apply an execution to the block, and begin the training in the run."""
    keep_freed_memory()
    how = f"{config.folds.number} folds, {execution.summary}" if config.folds.number else execution.summary
    with execution.applied():
        begin_in_run(run, callbacks, how, device=device, steps=config.training.steps, execution=execution)
        yield


def _execution(
    config: DiffusionConfig, device: torch.device, denoiser: NetworkDenoiser, state: dict[str, Any] | None
) -> Execution:
    """Decide how to carry a training out, or go on as it began: another execution would round differently."""
    parameters = count_parameters(denoiser.network)
    kept = _kept_execution(state, device)
    return kept or decide_training(config.training, device, parameters=parameters, layer=training_layer(config))


def _kept_execution(state: dict[str, Any] | None, device: torch.device) -> Execution | None:
    """Give the execution of a training that goes on, on a device of the same kind."""
    return Execution(**state["execution"]) if state is not None and state["device"] == device.type else None


def _warn_of_signal_left(schedule: Schedule) -> None:
    """Warn where sampling starts from another distribution than the one that the noised data have."""
    left = schedule.terminal_alpha_bar
    if left > SIGNAL_LEFT:
        warnings.warn(
            f"At its noisiest this schedule still holds {100 * left:.0f} % of the signal's power (ᾱ_T = {left:.3f}), "
            "but sampling starts from noise alone: samples will be off by as much.",
            stacklevel=2,
        )
