"""The training for few rows: folds, each with the checkpoint that unseen rows choose, and closed forms beside them.

A network that passes over few rows many times learns the rows by heart, first at small noise, where the posterior mean
of the training rows differs most from that of the data. So the rows are split into F parts, and F networks, trained
together as one grouped product, each learn all parts but one. The denoising loss on the part that a network has not
seen is followed in B bands of noise levels, and for each band the weights with the least loss are kept. The mean of the
F networks is the learnt expert: no row is wasted, and the mean is better than its parts. A Gaussian mixture and
independent features are the experts in closed form, and the same unseen rows decide how much each counts
(`weighing.py`).

The training ends after `patience` checkpoints in a row at which the networks have gained little where they count, or
after the configured steps: what the closed forms know, the networks need not learn. The error of the weighted mean of
experts with independent errors falls by w² times that of the networks, so a gain at a noise level counts by w². But
networks that have just begun have no weight yet, so a large gain counts in any case.
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
from ..data import DiscreteSpan, FeatureLayout
from ..diffusion.network_denoiser import NetworkDenoiser
from ..diffusion.networks.folds import ByFold, FoldedMLP
from ..diffusion.schedules import build_schedule
from ..diffusion.stacking import StackedDenoiser
from .batches import Draws
from .exam import Exam, known_rows
from .loop import Progress, Record, build_batches
from .weighing import Weighing

__all__ = ["FoldTrainer", "build_stacked"]

CHECKPOINTS = frozenset(int(100 * 1.4**k) for k in range(60))
"""The steps after which unseen rows are denoised: from 100 on, each 1.4 times as late as the one before."""
LEAST_GAIN = 0.01
"""A smaller gain from one checkpoint to the next is little, in bits a row."""
LEAST_COUNTED = 0.1
"""A gain at a noise level counts by at least so much: networks that gain much may have weight later."""


def build_stacked(config: DiffusionConfig, width: int, discrete: Sequence[DiscreteSpan] = ()) -> StackedDenoiser:
    """Make the denoiser that the finished training of folds has, with tensors that are still to be loaded."""
    c = config.folds
    schedule = build_schedule(config.schedule)
    network = FoldedMLP(config.model, width, folds=c.number, bands=c.bands, span=schedule.network_span)
    network.reset(seeding.torch_stream(config.seed, "weights"))
    learnt = NetworkDenoiser(network, schedule, prediction=config.objective.prediction, discrete=discrete)
    return StackedDenoiser(learnt, levels=c.levels, width=width)


class _Judged(BaseModel):
    """An entry of the history of a training: a checkpoint, and how good it is on unseen rows."""

    step: Annotated[int, Field(ge=0)]
    held_out: list[float]
    gain: float | None = None


class FoldTrainer:
    """A training of folds in progress; it has the face of `loop.Trainer`.

    Args:
        config: of the run.
        points: the training rows as features, (N, width), float32 on the CPU.
        device: where the networks are trained and asked; all else stays on the CPU.
        layout: of the features; None for continuous features, each a unit of its own.
        execution: how the arithmetic is carried out.

    Attributes:
        step: the number of steps done.
        history: for each checkpoint its step, the losses on unseen rows in each band, averaged over the folds, and what
            the best networks until then have gained since the checkpoint before, in bits a row; at first None.

    """

    def __init__(
        self,
        config: DiffusionConfig,
        points: Tensor,
        *,
        device: torch.device,
        layout: FeatureLayout | None = None,
        execution: Execution = PLAIN,
    ) -> None:
        self.config, self.training, self.points, self.execution = config, config.training, points, execution
        self.device = device
        self.step = 0
        self.layout = layout or FeatureLayout.plain(points.shape[1])
        self.history: list[dict[str, Any]] = []
        c, seed = config.folds, config.seed
        schedule = build_schedule(config.schedule).to(device)
        network = FoldedMLP(config.model, points.shape[1], folds=c.number, bands=1, span=schedule.network_span)
        network.reset(seeding.torch_stream(seed, "weights"))
        self._network = network.to(device)
        self.denoiser = self._denoiser_of(self._network)
        averaged = copy.deepcopy(self._network).requires_grad_(False).eval()
        self._weights, self._averages = FlatParameters(self._network), FlatParameters(averaged)
        self._moments, self._rates = Moments.of(self._weights.vector), Rates.on(device)
        self._generator, self._loss_sum = seeding.torch_stream(seed, "batches", device), torch.zeros((), device=device)
        order = seeding.stream(seed, "folds").permutation(len(points))
        unseen = [np.sort(part) for part in np.array_split(order, c.number)]
        self._seen = [points[np.setdiff1d(order, part)] for part in unseen]
        units = self.layout.units
        self._batches = [
            build_batches(rows.to(device), schedule, config.objective, seed=seed, units=units) for rows in self._seen
        ]
        judged = [
            known_rows(points[part], seen, self.layout.discrete) for part, seen in zip(unseen, self._seen, strict=True)
        ]
        self._exam = Exam(self._denoiser_of(averaged), judged, levels=c.levels, seed=seed)
        self._best = torch.full((c.bands, c.number), torch.inf)
        self._kept = self._averages.vector.repeat(c.bands, 1)
        self._answers: Tensor | None = None
        self._graphed = self._graph() if execution.graphed else None

    @property
    def compile_seconds(self) -> float:
        """Nothing is compiled: a step is a few large products, which a GPU replays as a CUDA graph."""
        return 0.0

    def _denoiser_of(self, network: FoldedMLP) -> NetworkDenoiser:
        """Make the denoiser that asks each fold about rows of its own."""
        schedule = build_schedule(self.config.schedule)
        prediction, discrete = self.config.objective.prediction, self.layout.discrete
        denoiser = NetworkDenoiser(ByFold(network), schedule, prediction=prediction, discrete=discrete).to(self.device)
        if self.config.objective.bounded:
            denoiser.limit(self.points.to(self.device))
        return denoiser

    @property
    def is_done(self) -> bool:
        """Whether the training has ended, by its number of steps or because the networks gain little any more."""
        gains = [judged.get("gain") for judged in self.history[-self.config.folds.patience :]]
        gained = any(gain is None or gain >= LEAST_GAIN for gain in gains)
        return self.step >= self.training.steps or (bool(gains) and not gained)

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
        """Train; yield every ``log_every`` steps, at the end, and when ``should_stop`` ends the training early."""
        every = self.training.log_every
        while not self.is_done:
            self._optimize()
            if self.step in CHECKPOINTS or self.step == self.training.steps:
                self._examine()
            stop = should_stop()
            if self.step % every == 0 or self.is_done:
                loss = float(self._loss_sum) / (self.step % every or every)
                self._loss_sum.zero_()
                yield Progress(self.step, (self._record(loss),))
            elif stop:
                yield Progress(self.step, ())
            if stop:
                return

    def _record(self, loss: float) -> Record:
        """Make a line of the log, with the loss on unseen rows where a checkpoint was judged since the last line."""
        before = (self.step - 1) // self.training.log_every * self.training.log_every
        judged = [float(np.mean(entry["held_out"])) for entry in self.history[-1:] if entry["step"] > before]
        return Record(self.step, loss, learning_rate(self.step, self.training), *judged)

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
        output, target, weight = self.denoiser.regression(x, epsilon, t, correction=correction, given=given)
        # The folds share no weights: each gets the gradient of its own mean.
        loss = folds * (weight * (output - target).square()).mean()
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

    def _examine(self) -> None:
        """Keep, for every band and fold, the averaged weights if unseen rows have never been denoised better."""
        answers = self._exam.answers(self._exam.denoiser)
        losses = self._exam.losses(answers)
        bands = losses.reshape(len(self._best), -1, losses.shape[1]).mean(1)
        better = bands < self._best
        self._best = torch.where(better, bands, self._best)
        before = self._answers_of_best() if self.history else answers
        of_rows = better.repeat_interleave(len(losses) // len(better), 0)
        of_rows = of_rows.repeat_interleave(answers.shape[1] // better.shape[1], 1)
        self._answers = torch.where(of_rows.unsqueeze(-1), answers, before)
        gain = self._gain(before, self._answers) if self.history else None
        chosen = better.to(self.device)
        for band, kept in enumerate(self._kept):
            views, now = self._averages.unpack(kept), self._averages.unpack(self._averages.vector)
            for name, view in views.items():
                view[chosen[band]] = now[name][chosen[band]]
        self.history.append({"step": self.step, "held_out": bands.mean(1).tolist(), "gain": gain})

    def _gain(self, before: Tensor, after: Tensor) -> float:
        """Give what the networks have gained where they count, in bits a row; the answers are (L, F·m, width)."""
        w = self._weighing.weights_of_networks(after)
        fallen = ((before - self._exam.points).square() - (after - self._exam.points).square()).sum(-1).mean(1)
        return float((w.square().clamp(min=LEAST_COUNTED) * self._exam.bits * fallen).sum())

    @cached_property
    def _weighing(self) -> Weighing:
        """The experts in closed form, which are fitted at the first checkpoint; they depend on the rows alone."""
        schedule = build_schedule(self.config.schedule)
        return Weighing(self._exam, self.points, self._seen, schedule, config=self.config, layout=self.layout)

    def finish(self) -> tuple[StackedDenoiser, dict[str, Any]]:
        """Give the denoiser of the best weights and the mixture, and what is to be said of it."""
        stacked = build_stacked(self.config, self.layout.width, self.layout.discrete)
        per_band = [self._averages.unpack(kept) for kept in self._kept]
        merged = {name: torch.cat([band[name] for band in per_band]) for name in per_band[0]}
        stacked.learnt.network.load_state_dict(merged)
        stacked.learnt.limits = None if self.denoiser.limits is None else self.denoiser.limits.cpu()
        facts = self._weighing.finish(stacked, self._answers_of_best)
        best = min(self.history, key=lambda judged: float(np.mean(judged["held_out"])))
        return stacked.requires_grad_(False).eval(), {"best_step": best["step"], **facts}

    def _answers_of_best(self, given: Tensor | None = None) -> Tensor:
        """Ask the network with the kept weights of each band about unseen rows; see `Exam.answers`.

        The answers without given features are known from the checkpoints, unless the training was resumed since.
        """
        if given is None and self._answers is not None:
            return self._answers
        c, exam, now = self.config.folds, self._exam, self._averages.vector.clone()
        net = torch.empty_like(exam.points)
        for band, kept in enumerate(self._kept):
            self._averages.vector.copy_(kept)
            levels = slice(band * c.levels // c.bands, (band + 1) * c.levels // c.bands)
            net[levels] = exam.answers(exam.denoiser, given, levels=levels)
        self._averages.vector.copy_(now)
        return net

    def state_dict(self) -> dict[str, Any]:
        """Give everything that the rest of the training depends on, as tensors and plain values."""
        return {
            "step": self.step,
            "weights": self._weights.vector,
            "average": self._averages.vector,
            "moments": tuple(self._moments),
            "generator": self._generator.get_state(),
            "loss_sum": self._loss_sum,
            "best": self._best,
            "kept": self._kept,
            "history": self.history,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` gave.

        Raises:
            KeyError, RuntimeError, ValueError: the state belongs to another configuration.

        """
        check_schema(state["history"], list[_Judged])
        self.step, self.history, self._answers = state["step"], state["history"], None
        self._weights.vector.copy_(state["weights"])
        self._averages.vector.copy_(state["average"])
        for own, kept in zip(self._moments, state["moments"], strict=True):
            own.copy_(kept)
        self._generator.set_state(state["generator"].cpu())
        self._loss_sum.copy_(state["loss_sum"])
        for own, kept in ((self._best, state["best"]), (self._kept, state["kept"])):
            if own.shape != kept.shape:
                raise ValueError("another number of bands or folds")
            own.copy_(kept)
