"""The training loop, and the state from which an interrupted training resumes.

One step draws a batch on the device, computes the gradient of the loss and updates the weights. No step waits for the
device: the loss is summed on the device, and the host reads the sum when the copy has arrived. All random numbers of
the loop come from one generator, and learning rate and EMA decay are functions of the step. `Trainer.state_dict` is
therefore the complete state. On the CPU, a training that is resumed with the same `Execution` ends with the same
weights, bit for bit, as a training without interruption.

``Trainer._descend`` contains the arithmetic of a step once. It updates tensors in place and is called directly,
compiled as a whole, or captured as a CUDA graph that is replayed.
"""

from __future__ import annotations

import copy
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import seeding
from ..compute.compiling import Compiled
from ..compute.device import GraphedCall, Readback
from ..compute.execution import PLAIN, Execution
from ..compute.optimiser import FlatParameters, Moments, Rates, adamw, follow, fused_adamw, learning_rate
from ..config.sections import ObjectiveConfig, TrainingConfig
from ..diffusion.network_denoiser import NetworkDenoiser
from ..diffusion.schedules import Schedule
from .batches import Batches, ConditionalBatches, Draws, PlainBatches, PosteriorMeanBatches
from .judging import HeldOutRows
from .loss import batch_loss

__all__ = ["Progress", "Record", "Trainer", "build_batches"]

MOST_FEATURES_FOR_REFERENCES = 12
"""The largest number of features with which posterior means over a reference set are worth their time."""

Treatment = tuple[float, float | None]
"""The weight decay, and the norm for gradient clipping; None does not clip."""


@dataclass(frozen=True)
class Record:
    """A line of the log.

    Attributes:
        step: the number of steps done.
        loss: the mean loss since the last logged step.
        learning_rate: of the next step.
        held_out: the loss of the averaged weights on rows that the network does not learn; None where the weights were
            not judged since the last logged step.

    """

    step: int
    loss: float
    learning_rate: float
    held_out: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give the line as plain values, with ``held_out`` only where there is one."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Progress:
    """The number of steps done, and the records that have arrived from the device since the last `Progress`."""

    step: int
    records: tuple[Record, ...]


def build_batches(
    points: Tensor,
    schedule: Schedule,
    objective: ObjectiveConfig,
    *,
    seed: int,
    noise: Tensor | None = None,
    units: Sequence[int] = (),
) -> Batches:
    """Make the source of batches that an objective asks for.

    With more than `MOST_FEATURES_FOR_REFERENCES` features the target is the plain one, whatever the objective says:
    other training points than x are then hardly ever near x_t, and looking for them takes most of the time.

    Args:
        points: clean training points, (N, d).
        schedule: gives the times.
        objective: decides the targets, and how points and noise are paired.
        seed: see `PosteriorMeanBatches`.
        noise: the noise that belongs to each point, (N, d); None draws the noise.
        units: for each feature the number of its unit, (d,); none where every feature is a unit of its own.

    """
    batches: Batches
    if objective.references and points.shape[1] <= MOST_FEATURES_FOR_REFERENCES:
        batches = PosteriorMeanBatches(
            points, schedule, references=objective.references, stratified=objective.stratified, seed=seed
        )
    else:
        coupled = objective.coupling == "optimal-transport"
        batches = PlainBatches(
            points, schedule, stratified=objective.stratified, optimal_transport=coupled, noise=noise
        )
    if not objective.conditional:
        return batches
    units = units or range(points.shape[1])
    return ConditionalBatches(batches, units, share=objective.conditional, device=points.device)


class Trainer:
    """A training in progress.

    Args:
        denoiser: the denoiser whose network, and whose schedule if it is learned, are trained in place.
        points: clean training points, (N, d), on the device to train on.
        objective: the loss.
        training: the settings of the optimiser, and how often the training logs.
        seed: the seed of all random numbers of the training.
        noise: the noise that belongs to each point, (N, d); None draws new noise for every batch.
        units: see `build_batches`.
        held_out: the rows on which the averaged weights are judged at the first logged step after every
            ``checkpoint_every`` steps, and at the end; None where there are none.
        execution: how the arithmetic is carried out; the caller sets the number of threads.

    Attributes:
        step: the number of steps done.
        device: where the points, the weights and the generator are.
        average: a denoiser with the exponential moving average (EMA) of the weights, for sampling.

    """

    def __init__(
        self,
        denoiser: NetworkDenoiser,
        points: Tensor,
        *,
        objective: ObjectiveConfig,
        training: TrainingConfig,
        seed: int,
        noise: Tensor | None = None,
        units: Sequence[int] = (),
        held_out: HeldOutRows | None = None,
        execution: Execution = PLAIN,
    ) -> None:
        self.denoiser, self.points, self.objective, self.training = denoiser, points, objective, training
        self.device = points.device
        if objective.bounded:
            denoiser.limit(points)
        self.average = copy.deepcopy(denoiser).requires_grad_(False).eval()
        self.step = 0
        self._generator = seeding.torch_stream(seed, "batches", points.device)
        self._batches = build_batches(points, denoiser.schedule, objective, seed=seed, noise=noise, units=units)
        self._execution, self._held_out = execution, held_out
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
        self._pending: deque[tuple[int, list[Readback]]] = deque()

    @property
    def is_done(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.training.steps

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
        """Train; yield every ``log_every`` steps, at the end, and when ``should_stop`` ends the training early."""
        every, last = self.training.log_every, self.training.steps
        while self.step < last:
            self._optimize()
            if self.step % every == 0 or self.step == last:
                interval = self.step % every or every
                self._pending.append((self.step, [Readback(value) for value in self._values_to_log(interval)]))
                self._loss_sum.zero_()
                yield Progress(self.step, self._records(wait=self.step == last))
            if should_stop():
                yield Progress(self.step, self._records(wait=True))
                return

    def _values_to_log(self, interval: int) -> Iterator[Tensor]:
        """Give the mean loss of the last ``interval`` steps and, where weights are judged, the loss on held-out rows.

        Whether weights are judged depends on the step alone, so that a resumed training judges the same weights.
        """
        yield self._loss_sum / interval
        every = self.training.checkpoint_every
        is_due = self.step // every > (self.step - interval) // every or self.step == self.training.steps
        if self._held_out is not None and is_due:
            yield self._held_out.loss(self.average)

    def _optimize(self) -> None:
        self._rates.fill(learning_rate(self.step, self.training), self.step + 1, beta_2=self.training.beta2)
        draws = self._batches.draw(self.training.batch, self._generator)
        if self._graphed is None:
            self._call(*self._state, *draws)
        else:
            self._graphed(*draws)
        self.step += 1
        for average, flat in zip(self._averages, self._weights, strict=True):
            follow(average.vector, flat.vector, self.step, self.training)

    def _descend(self, update: Callable[..., None], *tensors: Tensor) -> None:
        """Update weights and moments with the gradient of the loss, and add the loss to the sum, all in place.

        The second weight vector, if there is one, is the learned schedule. Weight decay would pull the schedule to
        arbitrary values, and gradient clipping is for the network; neither is applied to the schedule.

        Args:
            update: `adamw` or `fused_adamw`.
            tensors: the tensors of ``_state``, followed by those of the draws.

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
        c = self.training
        treatments: list[Treatment] = [(c.weight_decay, c.clip_norm), (0.0, None)]
        for w, g, moment, (decay, clip) in zip(weights, gradients, moments, treatments, strict=False):
            update(w, g, moment, rates, beta_2=c.beta2, weight_decay=decay, clip_norm=clip)
        loss_sum.add_(loss.detach())

    def _graph(self) -> GraphedCall[None]:
        """Make the step a CUDA graph that is given the draws of a batch."""
        static = self._batches.draw(self.training.batch, seeding.torch_stream(0, "shapes of a batch", self.device))
        return GraphedCall(lambda: self._call(*self._state, *static), self.device, inputs=static)

    def _records(self, *, wait: bool) -> tuple[Record, ...]:
        """Give the records whose losses have arrived from the device; with ``wait``, wait for all of them."""
        records = []
        while self._pending and (wait or all(readback.ready() for readback in self._pending[0][1])):
            step, readbacks = self._pending.popleft()
            loss, *held_out = (readback.item() for readback in readbacks)
            records.append(Record(step, loss, learning_rate(step, self.training), *held_out))
        return tuple(records)

    @property
    def execution(self) -> Execution:
        """How the arithmetic is carried out: as requested, but without the compiler if the compiler has failed."""
        failure = self._call.failure if isinstance(self._call, Compiled) else None
        return self._execution if failure is None else self._execution.without_compiler(failure)

    @property
    def compile_seconds(self) -> float:
        """The time that the compiler has taken so far, in seconds."""
        return self._call.seconds if isinstance(self._call, Compiled) else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Give everything that the rest of the training depends on, as tensors and plain numbers."""
        return {
            "step": self.step,
            "network": self.denoiser.weights(),
            "average": self.average.weights(),
            "moments": [tuple(moments) for moments in self._moments],
            "generator": self._generator.get_state(),
            "loss_sum": self._loss_sum,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that ``state_dict`` gave."""
        self.step = state["step"]
        self.denoiser.load_weights(state["network"])
        self.average.load_weights(state["average"])
        for own, kept in zip(self._moments, state["moments"], strict=True):
            own.m.copy_(kept[0])
            own.v.copy_(kept[1])
        self._generator.set_state(state["generator"].cpu())
        self._loss_sum.copy_(state["loss_sum"])


class _Loss(nn.Module):
    """`batch_loss` as a module, so that `torch.func.functional_call` can evaluate the loss with other weights."""

    def __init__(
        self, denoiser: NetworkDenoiser, objective: ObjectiveConfig, batches: Batches, *, bfloat16: bool
    ) -> None:
        super().__init__()
        self.denoiser, self.objective, self.batches, self.rounded = denoiser, objective, batches, bfloat16

    def forward(self, draws: Draws) -> Tensor:
        return batch_loss(self.denoiser, self.objective, self.batches, draws, bfloat16=self.rounded)


def _parts(denoiser: NetworkDenoiser) -> list[tuple[str, nn.Module]]:
    """Give the trained modules by name: the network, and the schedule if it is learned."""
    learned = any(True for _ in denoiser.schedule.parameters())
    parts: list[tuple[str, nn.Module]] = [("network", denoiser.network)]
    return [*parts, ("schedule", denoiser.schedule)] if learned else parts
