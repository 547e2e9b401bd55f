"""A model: the denoiser that a configuration describes, and a trained one with its scaler and columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .config import RunConfig, SamplingConfig
from .data import Column, Scaler
from .denoisers import NetworkDenoiser
from .networks import build_network
from .runs import Run
from .samplers import SAMPLERS, Sampler, generate
from .schedules import LinearBeta, Schedule

__all__ = ["TrainedModel", "build_denoiser", "build_sampler", "build_schedule"]


def build_schedule(config: RunConfig) -> Schedule:
    """Make the noise schedule."""
    s = config.schedule
    return LinearBeta(length=s.length, beta_min=s.beta_min, beta_max=s.beta_max)


def build_denoiser(config: RunConfig, dim: int) -> NetworkDenoiser:
    """Make the untrained denoiser for d = dim columns; its initial weights depend on the configuration's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build_network(config.model, dim)
    return NetworkDenoiser(network, build_schedule(config), prediction=config.objective.prediction)


def build_sampler(config: SamplingConfig) -> Sampler:
    """Make the sampler."""
    return SAMPLERS[config.sampler](steps=config.steps)


@dataclass(frozen=True)
class TrainedModel:
    """What samples are drawn from.

    Attributes:
        config: of its run.
        denoiser: with the averaged weights, in evaluation mode.
        scaler: from the denoiser's units to data units.
        columns: names and kinds, d of them.
        device: where the denoiser lives.

    """

    config: RunConfig
    denoiser: NetworkDenoiser = field(repr=False)
    scaler: Scaler
    columns: tuple[Column, ...]
    device: torch.device

    @classmethod
    def load(cls, run: Run, device: torch.device) -> TrainedModel:
        """Read a finished run.

        Raises:
            InputError: the run is not finished, or damaged.

        """
        tensors, metadata = run.load_model()
        columns = tuple(Column(**column) for column in metadata["columns"])
        denoiser = build_denoiser(run.config, len(columns))
        denoiser.network.load_state_dict(tensors)
        denoiser.requires_grad_(False).eval().to(device)
        return cls(run.config, denoiser, Scaler.from_dict(metadata["scaler"]), columns, device)

    def save(self, run: Run) -> None:
        """Write the run's model file."""
        metadata: dict[str, Any] = {
            "dataset": self.config.dataset,
            "model": self.config.model.name,
            "recipe": self.config.recipe,
            "columns": [{"name": column.name, "kind": column.kind} for column in self.columns],
            "scaler": self.scaler.to_dict(),
        }
        run.save_model(self.denoiser.network.state_dict(), metadata)

    def sample(self, n: int, *, seed: int, sampler: Sampler | None = None) -> Iterator[np.ndarray]:
        """Draw n points in data units, in chunks (c, d) float64; see `samplers.generate`."""
        sampler = sampler or build_sampler(self.config.sampling)
        for chunk in generate(sampler, self.denoiser, n, dim=len(self.columns), seed=seed, device=self.device):
            yield self.scaler.inverse(chunk)
