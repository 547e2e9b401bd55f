"""Training: the loop, the moving average of the weights, and the state that a run resumes from.

One step draws points, times and noise on the device in one go, regresses the network on its target and moves the
weights. Nothing in it waits for the device; the loss is accumulated there and read whenever its copy has arrived. All
randomness comes from one generator, and learning rate and averaging decay are functions of the step, so that the state
below is all there is: on the CPU, a run resumed from it with the same `Execution` ends bit for bit in the weights of
one that was never stopped.

The mathematics is written once. `objectives.batch_loss` is what a compiler fuses, and the whole step on tensors that
stay where they are is what a GPU captures and replays.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .batches import Batches, Draws, PlainBatches, PosteriorMeanBatches
from .config import ObjectiveConfig, TrainingConfig
from .denoisers import NetworkDenoiser
from .device import GraphedCall, Readback, generator
from .execution import PLAIN, Compiled, Execution
from .objectives import batch_loss
from .schedules import Schedule

__all__ = ["Progress", "Record", "Trainer", "build_batches", "ema_decay", "learning_rate"]


@dataclass(frozen=True)
class Record:
    """One logged step: the mean loss over the interval that ends at it, and the learning rate there."""

    step: int
    loss: float
    learning_rate: float


@dataclass(frozen=True)
class Progress:
    """Where training stands: the steps done, and the records that have become readable since the last report."""

    step: int
    records: tuple[Record, ...]


def learning_rate(step: int, config: TrainingConfig) -> float:
    """η_s of S steps, from η after a linear warm-up to zero at S: by a cosine or along a line.

    The cosine is η/2·(1 + cos(π s/S)) (Loshchilov & Hutter 2017, "SGDR", eq. 5).
    """
    left = 1 - step / config.steps
    share = left if config.annealing == "linear" else 0.5 * (1 - math.cos(math.pi * left))
    return config.learning_rate * share * min(1.0, (step + 1) / (config.warmup + 1))


def ema_decay(step: int, config: TrainingConfig) -> float:
    """Decay of the weight average after ``step`` steps: 1 − (1 + s)^(−2/3), at most β, s steps past the warm-up.

    During the warm-up the average is a copy (decay 0). The form is the paper's.
    """
    s = step - config.ema_warmup - 1
    return min(1 - (1 + s) ** (-2 / 3), config.ema_decay) if s > 0 else 0.0


def build_batches(
    points: Tensor, schedule: Schedule, objective: ObjectiveConfig, *, seed: int, noise: Tensor | None = None
) -> Batches:
    """Make what draws an objective's batches from clean points (N, d), with their noise (N, d) if it is given."""
    if objective.references:
        return PosteriorMeanBatches(
            points, schedule, references=objective.references, stratified=objective.stratified, seed=seed
        )
    coupled = objective.coupling == "optimal-transport"
    return PlainBatches(points, schedule, stratified=objective.stratified, optimal_transport=coupled, noise=noise)


class Trainer:
    """One training in progress.

    Args:
        denoiser: its network is trained in place.
        points: clean training points, (n, d), on the device to train on.
        objective, config: what to minimise and how.
        seed: of every random number drawn here.
        noise: what each point is paired with, (n, d); None draws it afresh.
        execution: how the arithmetic is carried out; its threads are the caller's to set.

    Attributes:
        step: steps done.
        average: a denoiser with the averaged weights, which samples come from.

    """

    def __init__(
        self,
        denoiser: NetworkDenoiser,
        points: Tensor,
        *,
        objective: ObjectiveConfig,
        config: TrainingConfig,
        seed: int,
        noise: Tensor | None = None,
        execution: Execution = PLAIN,
    ) -> None:
        self.denoiser, self.points, self.objective, self.config = denoiser, points, objective, config
        self.average = copy.deepcopy(denoiser).requires_grad_(False).eval()
        self.step = 0
        self._generator = generator(seed, points.device)
        self._batches = build_batches(points, denoiser.schedule, objective, seed=seed, noise=noise)
        self._parameters: list[Tensor] = list(denoiser.parameters())
        self._averaged: list[Tensor] = list(self.average.parameters())
        self._network: list[Tensor] = list(denoiser.network.parameters())
        on_gpu = points.is_cuda
        self._optimizer = torch.optim.AdamW(
            self._groups(config.weight_decay),
            # a graph that is replayed reads the rate where it stands
            lr=torch.tensor(config.learning_rate, device=points.device) if on_gpu else config.learning_rate,
            betas=(0.9, config.beta2),
            fused=True,
            capturable=on_gpu,
        )
        self._execution = execution
        self._loss = Compiled(batch_loss, required=execution.required) if execution.compiled else batch_loss
        self._graphed = self._graph()
        self._loss_sum = torch.zeros((), device=points.device)
        self._pending: deque[tuple[int, Readback]] = deque()

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
        """Train to the end, yielding every ``log_every`` steps, at the end, and when ``should_stop`` says so."""
        every, last = self.config.log_every, self.config.steps
        while self.step < last:
            self._optimize()
            if self.step % every == 0 or self.step == last:
                interval = self.step % every or every
                self._pending.append((self.step, Readback(self._loss_sum / interval)))
                self._loss_sum.zero_()
                yield Progress(self.step, self._records(wait=self.step == last))
            if should_stop():
                yield Progress(self.step, self._records(wait=True))
                return

    def _optimize(self) -> None:
        self._set_rate(learning_rate(self.step, self.config))
        draws = self._batches.draw(self.config.batch, self._generator)
        if self._graphed is None:
            self._descend(draws)
        else:
            static, replay = self._graphed
            for place, drawn in zip(static, draws, strict=True):
                place.copy_(drawn)
            replay()
        self.step += 1
        self._update_average()

    def _descend(self, draws: Draws) -> None:
        """Move the weights down the clipped gradient, and add the loss to the sum."""
        bfloat16 = self._execution.precision == "bfloat16"
        loss = self._loss(self.denoiser, self.objective, self._batches, draws, bfloat16=bfloat16)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._network, self.config.clip_norm, foreach=True)
        self._optimizer.step()
        self._loss_sum += loss.detach()

    def _graph(self) -> tuple[Draws, GraphedCall[None]] | None:
        """Make the step as a GPU replays it, with the tensors that it reads its draws from."""
        if not self._execution.graphed:
            return None
        static = self._batches.draw(self.config.batch, generator(0, self.points.device))
        return static, GraphedCall(lambda: self._descend(static), self.points.device)

    def _groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Part the parameters: those of a learned schedule have no zero to decay to."""
        groups: list[dict[str, Any]] = [{"params": self._network, "weight_decay": weight_decay}]
        schedule = list(self.denoiser.schedule.parameters())
        return [*groups, {"params": schedule, "weight_decay": 0.0}] if schedule else groups

    def _set_rate(self, rate: float) -> None:
        for group in self._optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    @torch.no_grad()
    def _update_average(self) -> None:
        if self.step % self.config.ema_every == 0 or self.step == self.config.steps:
            decay = ema_decay(self.step, self.config)
            torch._foreach_lerp_(self._averaged, self._parameters, 1 - decay)

    def _records(self, *, wait: bool) -> tuple[Record, ...]:
        """Take the losses that have arrived from the device, or with ``wait`` all of them."""
        records = []
        while self._pending and (wait or self._pending[0][1].ready()):
            step, readback = self._pending.popleft()
            records.append(Record(step, readback.item(), learning_rate(step, self.config)))
        return tuple(records)

    @property
    def execution(self) -> Execution:
        """How the arithmetic is carried out: as was asked, but not compiled if the compiler has failed."""
        failure = self._loss.failure if isinstance(self._loss, Compiled) else None
        return self._execution if failure is None else self._execution.without_compiler(failure)

    @property
    def compile_seconds(self) -> float:
        """What compiling has taken so far."""
        return self._loss.seconds if isinstance(self._loss, Compiled) else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on: tensors and plain numbers only."""
        return {
            "step": self.step,
            "network": self.denoiser.weights(),
            "average": self.average.weights(),
            "optimizer": self._optimizer.state_dict(),
            "generator": self._generator.get_state(),
            "loss_sum": self._loss_sum,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where ``state_dict`` was taken."""
        self.step = state["step"]
        self.denoiser.load_weights(state["network"])
        self.average.load_weights(state["average"])
        own = [{key: group[key] for key in ("lr", "capturable")} for group in self._optimizer.param_groups]
        self._optimizer.load_state_dict(state["optimizer"])
        for group, kept in zip(self._optimizer.param_groups, own, strict=True):
            group.update(kept)  # of this device: a graph would read a rate on the CPU once and for all
        self._generator.set_state(state["generator"].cpu())
        self._loss_sum.copy_(state["loss_sum"])
        self._graphed = self._graph()  # the optimiser's tensors are others now
