"""Small untrained models, which round as trained ones do, for the tests of exported files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.config.schema import RunConfig
from dualdiff_cli.data import Column, Scaler
from dualdiff_cli.models.diffusion import TrainedModel, build_denoiser
from dualdiff_cli.store.run import Run

NARROW: dict[str, Any] = {"width": 16, "blocks": 2, "gate_hidden": [16], "finest_frequency": 100.0}
COLUMNS = (Column("age (years)", "integer"), Column("samples", "float"), Column("val_0", "float"))
"""Names that an ONNX graph has other uses for."""


def narrow(recipe: str = "precise", model: str = "dual-expert", **options: Any) -> RunConfig:
    sections = {"model": NARROW, "schedule": {"sigma_min": 0.01}, "sampling": {"steps": 5}, **options}
    return resolve(dataset="moons", recipe=recipe, model=model, options=sections)


def untrained(
    config: RunConfig, columns: tuple[Column, ...] = (Column("x", "float"), Column("y", "float"))
) -> TrainedModel:
    """A model whose every weight counts: those that start at zero are drawn too."""
    dim = len(columns)
    denoiser = build_denoiser(config, dim)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    scaler = Scaler(torch.linspace(40, 0, dim).double().numpy(), torch.linspace(12, 0.5, dim).double().numpy())
    return TrainedModel(config, denoiser.requires_grad_(False).eval(), scaler, columns, torch.device("cpu"))


def finished(config: RunConfig, path: Path) -> Run:
    """A run that looks finished."""
    run = Run.create(config, path)
    untrained(config).save(run)
    return run
