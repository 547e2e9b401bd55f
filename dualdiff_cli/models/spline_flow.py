"""A neural spline flow: an invertible map between the rows and Gaussian noise, trained by maximum likelihood.

The flow is a composition x ↦ u = f(x) of masked autoregressive maps, each of which transforms every feature by a
monotonic rational-quadratic spline whose knots a network computes from the features before it (Durkan, Bekasov, Murray
and Papamakarios 2019, "Neural spline flows", §3). With the standard normal density N,

    log p(x) = log N(f(x)) + log |det ∂f/∂x|    (eq. 1 there)

is exact. Training stops where the likelihood of a tenth of the training rows, which no gradient sees, no longer rises,
and the weights with the greatest such likelihood are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from zuko.flows import NSF

from .. import seeding
from ..config.schema import SplineFlowConfig, SplineFlowSettings
from ..data import FloatArray, TableEncoding
from ..store.run import Run
from ..training.batches import passes
from ..training.mixture import dequantised
from ..training.session import Callbacks, train_at_once
from .base import ROWS_PER_BLOCK, Drawing, DrawingOptions, draw_blocks
from .density import DensityModel
from .trainable import Kept, Plan

__all__ = ["SplineFlow"]

VALIDATION_SHARE = 0.1
"""The share of the training rows whose likelihood decides when training stops."""
ROUND_STEPS = 100
"""The likelihood of these rows is computed after each pass over the other rows, and at least so often, in steps."""
CLIP_NORM = 5.0
"""The norm for gradient clipping."""


class _ReLUWithDropout(nn.Module):
    """ReLU and then dropout, with a generator of its own instead of the global one."""

    def __init__(self, share: float, generator: torch.Generator) -> None:
        super().__init__()
        self.share, self.generator = share, generator

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x)
        if not self.training or not self.share:
            return x
        kept = torch.empty_like(x).bernoulli_(1 - self.share, generator=self.generator)
        return x * kept / (1 - self.share)


@dataclass(frozen=True)
class SplineFlow(DensityModel[SplineFlowConfig]):
    """A neural spline flow over the features.

    Attributes:
        config: of the run.
        encoding: between columns and features.
        flow: zuko's flow in float64, on the CPU.

    """

    kind = "spline-flow"

    config: SplineFlowConfig
    encoding: TableEncoding
    flow: NSF = field(repr=False)

    @classmethod
    def fit(
        cls, plan: Plan[SplineFlowConfig], run: Run, *, device: torch.device, callbacks: Callbacks = Callbacks()
    ) -> tuple[Self, dict[str, Any]]:
        """Train the flow; a training that was stopped starts over. See `TrainableModel.fit`.

        Raises:
            InputError: the loss is no longer a number.

        """
        config = plan.config
        features = dequantised(plan.features, plan.encoding.layout.discrete, seed=config.seed)
        training = _Training(features, config.model, seed=config.seed, device=device)
        train_at_once(run, training.rounds(), config.model, callbacks, device=device, name="A neural spline flow")
        model = cls(config, plan.encoding, training.best())
        return model, {
            "steps": training.step,
            "parameters": sum(p.numel() for p in model.flow.parameters()),
            "best_step": training.best_step,
            **model.held_out_bits(plan.held_out),
        }

    def draw(self, n: int, *, seed: int, options: DrawingOptions = DrawingOptions()) -> Drawing:
        """Draw n rows; see `Model.draw`."""
        options.refuse(f"the model {self.config.model.name}, which draws rows without steps")

        def block(rows: int, rng: np.random.Generator) -> FloatArray:
            u = torch.from_numpy(rng.standard_normal((rows, self.encoding.width)))
            with torch.no_grad():
                features: FloatArray = self.flow().transform.inv(u).numpy()
            return features

        return Drawing(draw_blocks(self.encoding.decode, block, n, seed=seed))

    def log_density_of_features(self, z: FloatArray) -> FloatArray:
        """Give the exact log-density of the flow; see `DensityModel.log_density_of_features`."""
        with torch.no_grad():
            parts = [self.flow().log_prob(part) for part in torch.split(torch.from_numpy(z), ROWS_PER_BLOCK)]
        log_p: FloatArray = torch.cat(parts).numpy()
        return log_p

    def _kept(self) -> Kept:
        """Give the weights in float32, in which they were trained; see `TrainableModel._kept`."""
        tensors = {name: parameter.detach().float() for name, parameter in self.flow.named_parameters()}
        return Kept(tensors, {"encoding": self.encoding.model_dump(mode="json")})

    @classmethod
    def _restored(cls, config: SplineFlowConfig, encoding: TableEncoding, kept: Kept) -> Self:
        """Build the flow with the kept weights; see `TrainableModel._restored`."""
        flow = _build(encoding.width, config.model, seed=config.seed)
        for name, parameter in flow.named_parameters():
            if kept.tensors[name].shape != parameter.shape:
                raise ValueError(f"{name} has another shape")
            parameter.data.copy_(kept.tensors[name])
        return cls(config, encoding, flow.double().eval().requires_grad_(False))


class _Training:
    """The training of a flow: AdamW on batches of nine tenths of the rows, judged by the other tenth.

    Args:
        features: the training rows, (n, width).
        settings: of the model.
        seed: of the weights, the batches and the division of the rows.
        device: where the training runs.

    Attributes:
        step: the number of steps done.
        best_step: the step with the greatest likelihood of the rows that no gradient sees.

    """

    def __init__(self, features: FloatArray, settings: SplineFlowSettings, *, seed: int, device: torch.device) -> None:
        self._settings, self._seed, self._width = settings, seed, features.shape[1]
        order = seeding.stream(seed, "rows that stop the training").permutation(len(features))
        judged = max(1, round(VALIDATION_SHARE * len(features)))
        z = torch.from_numpy(features[order]).float().to(device)
        self._judging, self._learnt = z[:judged], z[judged:]
        self._flow = _build(self._width, settings, seed=seed, device=device).to(device)
        self._optimiser = torch.optim.AdamW(
            self._flow.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._weights: dict[str, Tensor] = {}
        self._least = math.inf
        self.step = self.best_step = 0

    def rounds(self) -> Iterator[tuple[int, float]]:
        """Train, and give the number of steps done and the loss of the judging rows after each round."""
        settings, since = self._settings, 0
        batches = passes(self._learnt, settings.batch, seeding.torch_stream(self._seed, "batches of the flow"))
        steps = min(ROUND_STEPS, math.ceil(len(self._learnt) / settings.batch))
        while self.step < settings.steps and since < settings.patience:
            self._flow.train()
            for _ in range(min(steps, settings.steps - self.step)):
                self._descend(next(batches))
            self._flow.eval()
            with torch.no_grad():
                loss = float(self._loss(self._judging))
            since += 1
            if loss < self._least:
                self._least, self.best_step, since = loss, self.step, 0
                self._weights = {name: value.clone() for name, value in self._flow.state_dict().items()}
            yield self.step, loss

    def best(self) -> NSF:
        """Give the flow with the best weights, in float64 and on the CPU, where rows are drawn."""
        flow = _build(self._width, self._settings, seed=self._seed)
        flow.load_state_dict(self._weights)
        return flow.double().eval().requires_grad_(False)

    def _loss(self, z: Tensor) -> Tensor:
        loss: Tensor = -self._flow().log_prob(z).mean()
        return loss

    def _descend(self, batch: Tensor) -> None:
        self._optimiser.zero_grad(set_to_none=True)
        self._loss(batch).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._flow.parameters(), CLIP_NORM)
        self._optimiser.step()
        self.step += 1


def _build(width: int, settings: SplineFlowSettings, *, seed: int, device: torch.device | str = "cpu") -> NSF:
    """Make an untrained flow on the CPU, whose weights depend on the seed alone.

    Args:
        width: the number of features.
        settings: of the model.
        seed: of the weights and of dropout.
        device: where dropout will be drawn.

    """
    dropout = seeding.torch_stream(seed, "dropout", device)
    with torch.random.fork_rng(devices=()):  # zuko draws weights from the global generator; they are replaced below
        flow = NSF(
            width,
            transforms=settings.transforms,
            bins=settings.bins,
            hidden_features=settings.hidden,
            activation=partial(_ReLUWithDropout, settings.dropout, dropout),
        )
    weights = seeding.torch_stream(seed, "weights")
    with torch.no_grad():
        for module in flow.modules():
            if isinstance(module, nn.Linear):  # with PyTorch's own bounds
                bound = 1 / math.sqrt(module.in_features)
                for parameter in module.parameters():
                    parameter.uniform_(-bound, bound, generator=weights)
        for name, parameter in flow.named_parameters():
            if ".phi." in name:  # the knots of a feature that depends on no other, where there is one feature only
                parameter.normal_(generator=weights)
    return flow
