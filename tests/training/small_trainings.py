"""Small trainings, and what is read from them, for the tests of the loop and the loss."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dualdiff_cli.compute.execution import PLAIN, Execution
from dualdiff_cli.config.schema import RunConfig
from dualdiff_cli.models.fitting import build_network_denoiser
from dualdiff_cli.training.loop import Progress, Record, Trainer

POINTS = torch.randn(200, 2, generator=torch.Generator().manual_seed(5)) * torch.tensor([1.0, 0.3]) + 0.5


def changed(config: RunConfig, **values: dict[str, Any]) -> RunConfig:
    """The configuration with some values of its sections replaced."""
    sections = {name: getattr(config, name).model_copy(update=update) for name, update in values.items()}
    return config.model_copy(update=sections)


def trainer(
    config: RunConfig,
    *,
    points: Tensor = POINTS,
    seed: int = 0,
    weights_seed: int | None = None,
    execution: Execution = PLAIN,
) -> Trainer:
    """A training with one seed for its weights and its draws, or with two."""
    weights_seed = seed if weights_seed is None else weights_seed
    denoiser = build_network_denoiser(config.model_copy(update={"seed": weights_seed}), points.shape[1]).to(
        points.device
    )
    settings: dict[str, Any] = {"objective": config.objective, "training": config.training}
    return Trainer(denoiser, points, **settings, seed=seed, execution=execution)


def records(reports: Iterable[Progress]) -> list[Record]:
    return [record for report in reports for record in report.records]


def weights(network: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in network.parameters()]


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
