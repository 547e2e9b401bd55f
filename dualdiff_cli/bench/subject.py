"""What the backends are timed on: one data set and one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..config.schema import DiffusionConfig
from ..config.settle import settle
from ..data import TableEncoding
from ..diffusion.network_denoiser import NetworkDenoiser
from ..jobs.inputs import load_run_data
from ..models.diffusion import DiffusionModel
from ..models.fitting import build_network_denoiser

__all__ = ["Subject", "subjects_of"]


@dataclass(frozen=True)
class Subject:
    """One data set and one model. The model is untrained: timing does not depend on the weights.

    Attributes:
        config: the settled configuration that our own backends run.
        published: the settled configuration of the paper's recipe, which the published loops run.
        points: the training rows as features, (N, width), float32, on the CPU.
        encoding: between the columns of the data and features.
        samples: number of points in the sampling task.
        device: the device that torch works on.
        folder: the folder that exported files are written to.

    """

    config: DiffusionConfig
    published: DiffusionConfig
    points: Tensor
    encoding: TableEncoding
    samples: int
    device: torch.device
    folder: Path

    def denoiser(self, config: DiffusionConfig | None = None) -> NetworkDenoiser:
        """Make an untrained denoiser on the device, by default of the subject's own configuration."""
        return build_network_denoiser(config or self.config, self.encoding.width, self.encoding.layout.discrete).to(
            self.device
        )

    def model(self) -> DiffusionModel:
        """Make a model that samples with the untrained denoiser."""
        denoiser = self.denoiser().requires_grad_(False).eval()
        return DiffusionModel(self.config, self.encoding, denoiser, self.device)


def subjects_of(
    configs: Sequence[tuple[DiffusionConfig, DiffusionConfig]], *, samples: int, device: torch.device, folder: Path
) -> list[Subject]:
    """Make the subjects of one data set, which is read once.

    Args:
        configs: for each model its configuration, and the configuration of the same model in the paper's recipe.
        samples, device, folder: see `Subject`.

    """
    data = load_run_data(configs[0][0])
    subjects = []
    for requested, published in configs:
        plan = DiffusionModel.plan(requested, data, device=device)
        subjects.append(
            Subject(
                config=plan.config,
                published=settle(published, plan.features),
                points=torch.from_numpy(plan.features).float(),
                encoding=plan.encoding,
                samples=samples,
                device=device,
                folder=folder,
            )
        )
    return subjects
