"""The training for few rows: folds, each with the checkpoint that unseen rows choose, and closed forms beside them.

A network that passes over few rows many times learns the rows by heart, first at small noise, where the posterior mean
of the training rows differs most from that of the data. So the rows are split into F parts, and F networks, trained
together as one grouped product, each learn all parts but one. The denoising loss on the part that a network has not
seen is followed in B bands of noise levels, and for each band the weights with the least loss are kept (`best.py`). The
mean of the F networks is the learnt expert: no row is wasted, and the mean is better than its parts. A Gaussian mixture
and independent features are the experts in closed form, and the same unseen rows decide how much each expert counts
(`weighing.py`).

The training ends when the networks have gained little where they count at each of the last `patience` checkpoints, or
after the configured number of steps: what the closed forms know, the networks need not learn. If the errors of the
experts are independent, the squared error of their weighted mean falls by w² times that of the networks, where w is the
weight of the networks. So a gain at a noise level counts by w². But networks that have just begun have no weight yet,
so a gain always counts by `LEAST_COUNTED` or more.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, Field
from torch import Tensor

from .. import seeding
from ..checked import check_schema
from ..compute.device import GraphedCall
from ..compute.execution import PLAIN, Execution
from ..compute.optimiser import FlatParameters, Moments, Rates, follow, fused_adamw, learning_rate
from ..config.schema import DiffusionConfig
from ..data import FeatureLayout
from ..diffusion.network_denoiser import NetworkDenoiser
from ..diffusion.networks.folds import ByFold, FoldedMLP
from ..diffusion.schedules import Schedule, build_schedule
from ..diffusion.stacking import StackedDenoiser
from .batches import Draws
from .best import BestCheckpoints
from .loop import Progress, Record, build_batches
from .unseen import UnseenRows, known_rows
from .weighing import Weighing

__all__ = ["FoldTrainer", "build_stacked"]

CHECKPOINTS = frozenset(int(100 * 1.4**k) for k in range(60))
"""The steps with a checkpoint, at which unseen rows are denoised: each is 1.4 times as late as the one before."""
LEAST_GAIN = 0.01
"""A smaller gain from one checkpoint to the next is little, in bits a row."""
LEAST_COUNTED = 0.1
"""The least factor by which a gain at a noise level counts, because networks that gain much may have weight later."""


def build_stacked(config: DiffusionConfig, layout: FeatureLayout) -> StackedDenoiser:
    """Make the denoiser that a finished training in folds has, with tensors that are still to be loaded."""
    schedule = build_schedule(config.schedule)
    network = _build_folds(config, layout.width, schedule, bands=config.folds.bands)
    learnt = NetworkDenoiser(network, schedule, prediction=config.objective.prediction, discrete=layout.discrete)
    return StackedDenoiser(learnt, levels=config.folds.levels, units=layout.units)


def _build_folds(config: DiffusionConfig, width: int, schedule: Schedule, *, bands: int) -> FoldedMLP:
    """Make the untrained network of all folds; its initial weights depend on the seed alone."""
    network = FoldedMLP(config.model, width, folds=config.folds.number, bands=bands, span=schedule.network_span)
    network.reset(seeding.torch_stream(config.seed, "weights"))
    return network


class _Checkpoint(BaseModel):
    """An entry of the history of a training; see `FoldTrainer`."""

    step: Annotated[int, Field(ge=0)]
    held_out: list[float]
    gain: float | None = None


class FoldTrainer:
    """A training of folds in progress; it has the face of `loop.Trainer`.

    Args:
        config: of the run.
        completions: the training rows as features, (M, N, width), float32 on the CPU: M times, each time with other
            values drawn for what gaps hide. The experts learn all completions, and are judged on the first one.
        device: where the networks are trained and asked; all else stays on the CPU.
        layout: of the features; None for continuous features, each a unit of its own.
        execution: how the arithmetic is carried out.

    Attributes:
        config, training: the configuration of the run, and its settings of the optimiser.
        step: the number of steps done.
        history: for each checkpoint its ``step``; ``held_out``, the losses on unseen rows in each band, averaged over
            the folds; and ``gain``, what the best weights until then have gained since the checkpoint before, in bits a
            row, which is None at the first checkpoint.

    """

    def __init__(
        self,
        config: DiffusionConfig,
        completions: Tensor,
        *,
        device: torch.device,
        layout: FeatureLayout | None = None,
        execution: Execution = PLAIN,
    ) -> None:
        self.config, self.training, self.execution = config, config.training, execution
        self.completions = completions
        points = completions[0]
        self.device, self.layout = device, layout or FeatureLayout.plain(points.shape[1])
        self.step = 0
        self.history: list[dict[str, Any]] = []
        c, seed = config.folds, config.seed
        schedule = build_schedule(config.schedule).to(device)
        self._network = _build_folds(config, points.shape[1], schedule, bands=1).to(device)
        averaged = copy.deepcopy(self._network).requires_grad_(False).eval()
        self.denoiser = self._denoiser_of(self._network, schedule)
        self._weights, self._averages = FlatParameters(self._network), FlatParameters(averaged)
        self._moments, self._rates = Moments.of(self._weights.vector), Rates.on(device)
        self._generator, self._loss_sum = seeding.torch_stream(seed, "batches", device), torch.zeros((), device=device)
        order = seeding.stream(seed, "folds").permutation(len(points))
        parts = [np.sort(part) for part in np.array_split(order, c.number)]
        self._seen = [completions[:, np.setdiff1d(order, part)].flatten(0, 1) for part in parts]
        units, discrete = self.layout.units, self.layout.discrete
        self._batches = [
            build_batches(rows.to(device), schedule, config.objective, seed=seed, units=units) for rows in self._seen
        ]
        known = [known_rows(points[part], seen, discrete) for part, seen in zip(parts, self._seen, strict=True)]
        self._unseen = UnseenRows(self._denoiser_of(averaged, schedule), known, levels=c.levels, seed=seed)
        self._best = BestCheckpoints(self._unseen, self._averages, bands=c.bands)
        self._graphed = self._graph() if execution.graphed else None

    @property
    def compile_seconds(self) -> float:
        """Nothing is compiled: a step is a few large products, which a GPU replays as a CUDA graph."""
        return 0.0

    def _denoiser_of(self, network: FoldedMLP, schedule: Schedule) -> NetworkDenoiser:
        """Make the denoiser that asks each fold about rows of its own."""
        objective, discrete = self.config.objective, self.layout.discrete
        denoiser = NetworkDenoiser(ByFold(network), schedule, prediction=objective.prediction, discrete=discrete)
        denoiser.to(self.device)
        if objective.bounded:
            denoiser.limit(self.completions.flatten(0, 1).to(self.device))
        return denoiser

    @property
    def is_done(self) -> bool:
        """Whether the training has ended, by its number of steps or because the networks gain little any more."""
        gains = [checkpoint.get("gain") for checkpoint in self.history[-self.config.folds.patience :]]
        gained = any(gain is None or gain >= LEAST_GAIN for gain in gains)
        return self.step >= self.training.steps or (bool(gains) and not gained)

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
        """Train; yield every ``log_every`` steps, at the end, and when ``should_stop`` ends the training early."""
        every = self.training.log_every
        while not self.is_done:
            self._optimize()
            if self.step in CHECKPOINTS or self.step == self.training.steps:
                self._judge()
            if self.step % every == 0 or self.is_done:
                loss = float(self._loss_sum) / (self.step % every or every)
                self._loss_sum.zero_()
                yield Progress(self.step, (self._record(loss),))
            if should_stop():
                yield Progress(self.step, ())
                return

    def _record(self, loss: float) -> Record:
        """Make a line of the log, with the loss on unseen rows where there was a checkpoint since the last line."""
        before = (self.step - 1) // self.training.log_every * self.training.log_every
        losses = [_mean_loss(checkpoint) for checkpoint in self.history[-1:] if checkpoint["step"] > before]
        return Record(self.step, loss, learning_rate(self.step, self.training), *losses)

    def _optimize(self) -> None:
        """Take one step, and let the averages of the weights follow."""
        c = self.training
        self._rates.fill(learning_rate(self.step, c), self.step + 1, beta_2=c.beta2)
        draws = self._draw(self._generator)
        if self._graphed is None:
            self._descend(draws)
        else:
            self._graphed(*itertools.chain(*draws))
        self.step += 1
        follow(self._averages.vector, self._weights.vector, self.step, c)

    def _draw(self, generator: torch.Generator) -> list[Draws]:
        """Draw the random numbers of a step, for each fold those of a batch of the rows that it learns."""
        return [batches.draw(self.training.batch, generator) for batches in self._batches]

    def _graph(self) -> GraphedCall[None]:
        """Make the descent a CUDA graph that is given the draws of a step."""
        static = self._draw(seeding.torch_stream(0, "shapes of a batch", self.device))
        return GraphedCall(lambda: self._descend(static), self.device, inputs=list(itertools.chain(*static)))

    def _descend(self, draws: Sequence[Draws]) -> None:
        """Update all weights in place with the gradients of the folds' regressions, and add the loss to the sum."""
        c, folds = self.training, len(self._batches)
        batches = [each.make(own) for each, own in zip(self._batches, draws, strict=True)]
        x, epsilon, t = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("x", "epsilon", "t"))
        corrections = [batch.correction for batch in batches if batch.correction is not None]
        correction = torch.cat(corrections) if corrections else None
        shown = [batch.given for batch in batches if batch.given is not None]
        given = torch.cat(shown) if shown else None
        problem = self.denoiser.regression(x, epsilon, t, correction=correction, given=given)
        # The folds share no weights: each gets the gradient of its own mean.
        loss = folds * problem.squared_errors.mean()
        gradients = torch.autograd.grad(loss, list(self._network.parameters()))
        fused_adamw(
            self._weights.vector,
            torch.cat([gradient.flatten() for gradient in gradients]),
            self._moments,
            self._rates,
            beta_2=c.beta2,
            weight_decay=c.weight_decay,
            clip_norm=c.clip_norm * folds**0.5,
        )
        self._loss_sum.add_(loss.detach() / folds)

    def _judge(self) -> None:
        """Judge the averaged weights on unseen rows, and note their losses and what the best weights have gained."""
        before = self._best.answers() if self.history else None
        losses = self._best.judge()
        gain = None if before is None else self._gain(before, self._best.answers())
        self.history.append({"step": self.step, "held_out": losses.mean(1).tolist(), "gain": gain})

    def _gain(self, before: Tensor, after: Tensor) -> float:
        """Give what the networks have gained where they count, in bits a row; the answers are (L, F·m, width)."""
        w, points = self._weighing.weights_of_networks(after), self._unseen.points
        fallen = ((before - points).square() - (after - points).square()).sum(-1).mean(1)
        return float((w.square().clamp(min=LEAST_COUNTED) * self._unseen.bits * fallen).sum())

    @cached_property
    def _weighing(self) -> Weighing:
        """The experts in closed form, which are fitted when they are needed first; they depend on the rows alone."""
        return Weighing(self._unseen, self.completions, self._seen, config=self.config, layout=self.layout)

    def finish(self) -> tuple[StackedDenoiser, dict[str, Any]]:
        """Give the denoiser of the best weights and the closed forms, and what is to be said of it."""
        stacked = build_stacked(self.config, self.layout)
        stacked.learnt.network.load_state_dict(self._best.merged())
        stacked.learnt.limits = None if self.denoiser.limits is None else self.denoiser.limits.cpu()
        facts = self._weighing.finish(stacked, self._best)
        return stacked.requires_grad_(False).eval(), {"best_step": min(self.history, key=_mean_loss)["step"], **facts}

    def state_dict(self) -> dict[str, Any]:
        """Give everything that the rest of the training depends on, as tensors and plain values."""
        return {
            "step": self.step,
            "weights": self._weights.vector,
            "average": self._averages.vector,
            "moments": tuple(self._moments),
            "generator": self._generator.get_state(),
            "loss_sum": self._loss_sum,
            "best": self._best.losses,
            "kept": self._best.weights,
            "history": self.history,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` gave.

        Raises:
            KeyError, RuntimeError, ValueError: the state belongs to another configuration.

        """
        check_schema(state["history"], list[_Checkpoint])
        self.step, self.history = state["step"], state["history"]
        self._weights.vector.copy_(state["weights"])
        self._averages.vector.copy_(state["average"])
        for own, kept in zip(self._moments, state["moments"], strict=True):
            own.copy_(kept)
        self._generator.set_state(state["generator"].cpu())
        self._loss_sum.copy_(state["loss_sum"])
        self._best.load(state["best"], state["kept"])


def _mean_loss(checkpoint: dict[str, Any]) -> float:
    """Give the loss on unseen rows at an entry of the history, averaged over the bands."""
    return float(np.mean(checkpoint["held_out"]))
