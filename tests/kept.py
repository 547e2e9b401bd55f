"""What a model answers to fixed questions, without random numbers: how the tests recognise a model that was kept."""

from __future__ import annotations

from typing import Any

import torch

from dualdiff_cli.exporting.runtime import ExportedModel
from dualdiff_cli.models import TrainableModel
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.models.tabddpm import TabDDPM

__all__ = ["answers_of_file", "answers_of_model"]

ROWS = 5
Answers = list[list[float]]


def questions(*shape: int) -> torch.Tensor:
    """Numbers between −2 and 2."""
    numbers = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return 2 * torch.sin(1 + numbers).reshape(shape)


@torch.no_grad()
def answers_of_model(model: TrainableModel[Any]) -> Answers:
    """What the network says of noisy features, or, of a model without noise levels, the log-density."""
    points = questions(ROWS, model.encoding.width)
    if isinstance(model, TabDDPM):
        middle = torch.full((ROWS,), model.diffusion.steps // 2)
        return model.diffusion.network(points.float(), middle).double().tolist()  # type: ignore[no-any-return]
    if not isinstance(model, DiffusionModel):
        return [model.log_density_of_features(points.numpy()).tolist()]
    ends = model.denoiser.schedule.ends
    return model.denoiser(points.float(), ends.mean().round()).double().tolist()  # type: ignore[no-any-return]


@torch.no_grad()
def answers_of_file(model: ExportedModel) -> Answers:
    """The rows that an exported sampler makes of a noise."""
    width, draws = model.encoding.width, model.metadata["step_draws"]
    noise, step_noise = questions(ROWS, width).float(), questions(draws, ROWS, width).float()
    return model.walk(noise, step_noise if draws else None).double().tolist()  # type: ignore[no-any-return]
