"""A model: the denoiser that a configuration describes, and a trained one with its scaler and columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from .. import seeding
from ..compute.execution import PLAIN, AnyPrecision, Execution, LayerShape, Switch, decide_sampling
from ..config.schema import RunConfig
from ..data import Column, Scaler
from ..diffusion.denoisers import Denoiser, NetworkDenoiser
from ..diffusion.networks.experts import build_network
from ..diffusion.samplers import BLOCK, Sampler, build_sampler, generate, prepare
from ..diffusion.schedules import build_schedule
from ..errors import InputError
from ..store.run import Run

__all__ = [
    "TrainedModel",
    "build_denoiser",
    "check_sampler",
    "training_layer",
]


def build_denoiser(config: RunConfig, dim: int) -> NetworkDenoiser:
    """Make the untrained denoiser for d = dim columns; its initial weights depend on the configuration's seed alone."""
    schedule = build_schedule(config.schedule)
    weights = seeding.torch_stream(config.seed, "weights")
    network = build_network(config.model, dim, span=schedule.network_span, generator=weights)
    return NetworkDenoiser(network, schedule, prediction=config.objective.prediction)


def training_layer(config: RunConfig) -> LayerShape:
    """The shape of the network's products in a training step."""
    c, batch = config.model, config.training.batch
    shared = c.experts > 1 and c.gate_on == "level" and config.objective.stratified and batch % c.experts == 0
    return LayerShape(c.experts, batch // c.experts if shared else batch, c.width)


def check_sampler(config: RunConfig, sampler: Sampler) -> None:
    """Refuse to draw fresh noise on the way where training did not.

    Raises:
        InputError: noise and points of the training were coupled, and the sampler is a stochastic one.

    """
    objective = config.objective
    if sampler.stochastic and (objective.teacher is not None or objective.coupling != "independent"):
        raise InputError(
            f"The sampler {sampler.name} draws fresh noise, but this model has learnt one point for every noise.",
            "Use a deterministic one, such as euler, heun or dpmpp-2m.",
        )


@dataclass(frozen=True)
class TrainedModel:
    """What samples are drawn from.

    Attributes:
        config: of its run.
        denoiser: with the averaged weights, in evaluation mode.
        scaler: from the denoiser's units to data units.
        columns: names and kinds, d of them.
        device: where the denoiser lives.
        execution: how points are drawn.
        prepared: the denoiser for that, if it is another one.

    """

    config: RunConfig
    denoiser: NetworkDenoiser = field(repr=False)
    scaler: Scaler
    columns: tuple[Column, ...]
    device: torch.device
    execution: Execution = PLAIN
    prepared: Denoiser | None = field(default=None, repr=False)

    def carried_out(self, execution: Execution) -> TrainedModel:
        """Give the model as one that draws its points so; threads and the like are the caller's to set."""
        return replace(self, execution=execution, prepared=prepare(self.denoiser, execution))

    def choose_execution(
        self, n: int, evaluations: int, *, compile: Switch = "auto", precision: AnyPrecision = "float32"
    ) -> Execution:
        """Decide how n points in so many evaluations are best drawn; see `execution.decide_sampling`."""
        c = self.config.model
        asked = sum(p.numel() for p in self.denoiser.network.parameters()) / (c.experts if c.gate_on == "level" else 1)
        layer = LayerShape(1 if c.gate_on == "level" else c.experts, BLOCK, c.width)
        work = n * evaluations * asked
        return decide_sampling(compile, precision, self.device, work=work, layer=layer)

    @classmethod
    def load(cls, run: Run, device: torch.device) -> TrainedModel:
        """Read a finished run.

        Raises:
            InputError: the run is not finished, or damaged.

        """
        tensors, metadata = run.load_model()
        config = run.config
        try:
            columns = tuple(Column(**column) for column in metadata["columns"])
            scaler = Scaler.from_dict(metadata["scaler"])
            denoiser = build_denoiser(config, len(columns))
            denoiser.load_weights(tensors)
        except (KeyError, TypeError, RuntimeError) as error:
            raise InputError(
                f"The model of the run {run} is not its configuration's.", "Train the run again."
            ) from error
        denoiser.requires_grad_(False).eval().to(device)
        return cls(config, denoiser, scaler, columns, device)

    def save(self, run: Run) -> None:
        """Write the run's model file."""
        metadata: dict[str, Any] = {
            "dataset": self.config.dataset,
            "model": self.config.model.name,
            "recipe": self.config.recipe,
            "columns": [{"name": column.name, "kind": column.kind} for column in self.columns],
            "scaler": self.scaler.to_dict(),
        }
        run.save_model(self.denoiser.weights(), metadata)

    def sample(
        self, n: int, *, seed: int, sampler: Sampler | None = None, on_call: Callable[[], None] = lambda: None
    ) -> Iterator[np.ndarray]:
        """Draw n points in data units, in chunks (c, d) float64; see `samplers.generate`.

        Args:
            n, seed: of the points.
            sampler: the method; None takes the configuration's.
            on_call: told of every call of the denoiser.

        Raises:
            InputError: the sampler does not go with the training; see `check_sampler`.

        """
        sampler = sampler or build_sampler(self.config.sampling)
        check_sampler(self.config, sampler)
        denoiser = self.prepared or self.denoiser
        listening = denoiser.register_forward_hook(lambda *_: on_call())
        d, how = len(self.columns), self.execution
        for chunk in generate(sampler, denoiser, n, dim=d, seed=seed, device=self.device, execution=how):
            yield self.scaler.inverse(chunk)
        listening.remove()
