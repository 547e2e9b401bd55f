"""The parts of a training step, apart from each other, for benchmarks that put them together in their own way."""

from __future__ import annotations

from collections.abc import Callable

from rivals import CPU, points_of
from torch import Tensor, nn
from torch.func import functional_call

from dualdiff_cli.compute.execution import Precision
from dualdiff_cli.compute.optimiser import FlatParameters, Moments, Rates
from dualdiff_cli.config.schema import DiffusionConfig
from dualdiff_cli.diffusion.network_denoiser import NetworkDenoiser
from dualdiff_cli.models.fitting import build_network_denoiser
from dualdiff_cli.seeding import torch_stream
from dualdiff_cli.training.batches import Draws
from dualdiff_cli.training.loop import build_batches
from dualdiff_cli.training.loss import batch_loss

__all__ = ["StepParts"]


class StepParts:
    """What a training step on moons is made of, as in `training.loop.Trainer`.

    Attributes:
        denoiser: the denoiser in training.
        batches: makes the batches.
        weights: the denoiser's parameters in one vector w (P,).
        moments, rates: the state of AdamW for w.

    """

    def __init__(self, config: DiffusionConfig, precision: Precision) -> None:
        self.config, self._rounded = config, precision == "bfloat16"
        self.denoiser = build_network_denoiser(config, 2)
        self.batches = build_batches(points_of(2), self.denoiser.schedule, config.objective, seed=0)
        self.weights = FlatParameters(self.denoiser.network, prefix="denoiser.network")
        self.moments, self.rates = Moments.of(self.weights.vector), Rates.on(CPU)
        self._random = torch_stream(0, "batches")
        self._loss = _LossModule(self.denoiser, self.batch_loss)

    def draw(self) -> Draws:
        """Draw the random part of a batch."""
        return self.batches.draw(self.config.training.batch, self._random)

    def batch_loss(self, draws: Draws) -> Tensor:
        """Give the loss of a batch under the denoiser's own parameters, ()."""
        return batch_loss(self.denoiser, self.config.objective, self.batches, draws, bfloat16=self._rounded)

    def loss_at(self, w: Tensor, draws: Draws) -> Tensor:
        """Give the loss of a batch under the parameters w (P,), ()."""
        loss: Tensor = functional_call(self._loss, self.weights.unpack(w), (draws,))
        return loss


class _LossModule(nn.Module):
    """The loss as a module, whose parameters `functional_call` can replace."""

    def __init__(self, denoiser: NetworkDenoiser, loss: Callable[[Draws], Tensor]) -> None:
        super().__init__()
        self.denoiser, self.loss = denoiser, loss

    def forward(self, draws: Draws) -> Tensor:
        return self.loss(draws)
