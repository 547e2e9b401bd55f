"""Training: the loop, and the state that a run resumes from.

One step draws points, times and noise on the device in one go, regresses the network on its target and moves the
weights. Nothing in it waits for the device; the loss is accumulated there and read whenever its copy has arrived. All
randomness comes from one generator, and learning rate and averaging decay are functions of the step, so that the state
below is all there is: on the CPU, a run resumed from it with the same `Execution` ends bit for bit in the weights of
one that was never stopped.

The mathematics is written once, in ``Trainer._descend``: a pure function of tensors that stay where they are, which is
made as it is, or by a compiler as a whole, or captured by a GPU and replayed.
"""

from __future__ import annotations

import copy
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import seeding
from ..compute.compiling import Compiled
from ..compute.device import GraphedCall, Readback
from ..compute.execution import PLAIN, Execution
from ..compute.optimiser import FlatParameters, Moments, Rates, adamw, ema_decay, fused_adamw, learning_rate
from ..config.schema import ObjectiveConfig, TrainingConfig
from ..diffusion.denoisers import NetworkDenoiser
from ..diffusion.schedules import Schedule
from .batches import Batches, Draws, PlainBatches, PosteriorMeanBatches
from .loss import batch_loss

__all__ = ["Progress", "Record", "Trainer", "build_batches"]


Treatment = tuple[float, float | None]
"""Weight decay, and the norm that a gradient is clipped at."""


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
        self._generator = seeding.torch_stream(seed, "batches", points.device)
        self._batches = build_batches(points, denoiser.schedule, objective, seed=seed, noise=noise)
        self._execution = execution
        self._loss = _Loss(denoiser, objective, self._batches, bfloat16=execution.precision == "bfloat16")
        self._weights, self._averages = (
            [FlatParameters(part, prefix=f"denoiser.{name}") for name, part in _parts(d)]
            for d in (denoiser, self.average)
        )
        self._moments = [Moments.of(flat.vector) for flat in self._weights]
        self._rates = Rates.on(points.device)
        self._loss_sum = torch.zeros((), device=points.device)
        vectors = (flat.vector for flat in self._weights)
        self._state = [*vectors, *itertools.chain(*self._moments), *self._rates, self._loss_sum]
        plain, whole = partial(self._descend, fused_adamw), partial(self._descend, adamw)
        self._call = Compiled(whole, otherwise=plain, required=execution.required) if execution.compiled else plain
        self._graphed = self._graph() if execution.graphed else None
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
        self._rates.fill(learning_rate(self.step, self.config), self.step + 1, beta_2=self.config.beta2)
        draws = self._batches.draw(self.config.batch, self._generator)
        if self._graphed is None:
            self._call(*self._state, *draws)
        else:
            static, replay = self._graphed
            for place, drawn in zip(static, draws, strict=True):
                place.copy_(drawn)
            replay()
        self.step += 1
        if self.step % self.config.ema_every == 0 or self.step == self.config.steps:
            decay = ema_decay(self.step, self.config)
            for average, flat in zip(self._averages, self._weights, strict=True):
                average.vector.lerp_(flat.vector, 1 - decay)

    def _descend(self, update: Callable[..., None], *tensors: Tensor) -> None:
        """Move weights and moments down the clipped gradient and add the loss to the sum, all in place.

        A learned schedule, the second of the vectors if there is one, has no zero to decay to, and is not clipped.

        Args:
            update: `adamw` or `fused_adamw`.
            tensors: those of ``_state``, and of the draws.

        """
        k = len(self._weights)
        weights, rates = tensors[:k], Rates(*tensors[3 * k : 3 * k + 4])
        loss_sum, draws = tensors[3 * k + 4], Draws(*tensors[3 * k + 5 :])
        moments = [Moments(*tensors[i : i + 2]) for i in range(k, 3 * k, 2)]
        leaves = [w.detach().requires_grad_() for w in weights]
        named: dict[str, Tensor] = {}
        for flat, leaf in zip(self._weights, leaves, strict=True):
            named |= flat.unpack(leaf)
        loss: Tensor = torch.func.functional_call(self._loss, named, (draws,))
        gradients = torch.autograd.grad(loss, leaves)
        c = self.config
        treatments: list[Treatment] = [(c.weight_decay, c.clip_norm), (0.0, None)]
        for w, g, moment, (decay, clip) in zip(weights, gradients, moments, treatments, strict=False):
            update(w, g, moment, rates, beta_2=c.beta2, weight_decay=decay, clip_norm=clip)
        loss_sum.add_(loss.detach())

    def _graph(self) -> tuple[Draws, GraphedCall[None]]:
        """Make the step as a GPU replays it, with the tensors that it reads its draws from."""
        static = self._batches.draw(self.config.batch, seeding.torch_stream(0, "shapes of a batch", self.points.device))
        return static, GraphedCall(lambda: self._call(*self._state, *static), self.points.device)

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
        failure = self._call.failure if isinstance(self._call, Compiled) else None
        return self._execution if failure is None else self._execution.without_compiler(failure)

    @property
    def compile_seconds(self) -> float:
        """What compiling has taken so far."""
        return self._call.seconds if isinstance(self._call, Compiled) else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on: tensors and plain numbers only."""
        return {
            "step": self.step,
            "network": self.denoiser.weights(),
            "average": self.average.weights(),
            "moments": [tuple(moments) for moments in self._moments],
            "generator": self._generator.get_state(),
            "loss_sum": self._loss_sum,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where ``state_dict`` was taken."""
        self.step = state["step"]
        self.denoiser.load_weights(state["network"])
        self.average.load_weights(state["average"])
        for own, kept in zip(self._moments, state["moments"], strict=True):
            own.m.copy_(kept[0])
            own.v.copy_(kept[1])
        self._generator.set_state(state["generator"].cpu())
        self._loss_sum.copy_(state["loss_sum"])


class _Loss(nn.Module):
    """Draws → loss, (), as a module, so that it can be called with any weights."""

    def __init__(
        self, denoiser: NetworkDenoiser, objective: ObjectiveConfig, batches: Batches, *, bfloat16: bool
    ) -> None:
        super().__init__()
        self.denoiser, self.objective, self.batches, self.rounded = denoiser, objective, batches, bfloat16

    def forward(self, draws: Draws) -> Tensor:
        return batch_loss(self.denoiser, self.objective, self.batches, draws, bfloat16=self.rounded)


def _parts(denoiser: NetworkDenoiser) -> list[tuple[str, nn.Module]]:
    """Give what is trained, by name: the network, and the schedule if it is learnt."""
    learned = any(True for _ in denoiser.schedule.parameters())
    parts: list[tuple[str, nn.Module]] = [("network", denoiser.network)]
    return [*parts, ("schedule", denoiser.schedule)] if learned else parts
