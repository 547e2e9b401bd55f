"""What the backends are timed on: one data set and one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..config.schema import RunConfig
from ..data import Column, Scaler
from ..diffusion.denoisers import NetworkDenoiser
from ..jobs.inputs import fit_scaler, load_run_data, settle, training_points
from ..models.diffusion import TrainedModel, build_denoiser

__all__ = ["Subject", "subjects_of"]


@dataclass(frozen=True)
class Subject:
    """One data set and one model. The model is untrained: timing does not depend on the weights.

    Attributes:
        config: the settled configuration that our own backends run.
        published: the settled configuration of the paper's recipe, which the published loops run.
        points: training points in the denoiser's units, (N, d), float32, on the CPU.
        scaler, columns: the scaler and the columns of the data.
        samples: number of points in the sampling task.
        device: the device that torch works on.
        folder: the folder that exported files are written to.

    """

    config: RunConfig
    published: RunConfig
    points: Tensor
    scaler: Scaler
    columns: tuple[Column, ...]
    samples: int
    device: torch.device
    folder: Path

    def denoiser(self, config: RunConfig | None = None) -> NetworkDenoiser:
        """Make an untrained denoiser on the device, by default of the subject's own configuration."""
        return build_denoiser(config or self.config, len(self.columns)).to(self.device)

    def model(self) -> TrainedModel:
        """Make a model that samples with the untrained denoiser."""
        denoiser = self.denoiser().requires_grad_(False).eval()
        return TrainedModel(self.config, denoiser, self.scaler, self.columns, self.device)


def subjects_of(
    configs: Sequence[tuple[RunConfig, RunConfig]], *, samples: int, device: torch.device, folder: Path
) -> list[Subject]:
    """Make the subjects of one data set, which is read once.

    Args:
        configs: for each model its configuration, and the configuration of the same model in the paper's recipe.
        samples, device, folder: see `Subject`.

    """
    data = load_run_data(configs[0][0])
    subjects = []
    for requested, published in configs:
        config = settle(requested, data)
        points = training_points(config, data)
        scaler = fit_scaler(config, data, points)
        subjects.append(
            Subject(
                config=config,
                published=settle(published, data),
                points=torch.from_numpy(scaler.transform(points)).float(),
                scaler=scaler,
                columns=data.columns,
                samples=samples,
                device=device,
                folder=folder,
            )
        )
    return subjects
