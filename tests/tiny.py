"""The small configurations and models of the whole test suite: they train and sample in a fraction of a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dualdiff_cli import seeding
from dualdiff_cli.config.recipes import resolve, resolve_diffusion
from dualdiff_cli.config.schema import DiffusionConfig, RunConfig
from dualdiff_cli.data import TableEncoding
from dualdiff_cli.data.encoding.integer import IntegerColumn
from dualdiff_cli.data.encoding.number import NumberColumn
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.models.fitting import build_network_denoiser
from dualdiff_cli.store.run import Run

__all__ = [
    *("COLUMNS", "NARROW", "SETTLED", "TINY", "XY"),
    *("finished", "integers", "narrow", "tiny", "tiny_of", "untrained"),
]

TINY: dict[str, Any] = {
    "data": {"points": 200, "held_out_points": 200},
    "model": {"width": 8, "blocks": 1, "gate_hidden": [8]},
    "training": {"steps": 12, "batch": 16, "log_every": 5, "checkpoint_every": 7, "ema_every": 5, "ema_warmup": 2},
    "sampling": {"steps": 4},
}
"""Two narrow experts; none of the logging, checkpoint and EMA intervals divides the number of steps."""

SETTLED = [
    "schedule.sigma_min=0.02",
    "model.finest_frequency=50.0",
    "objective.references=32",
    "training.warmup=3",
    "training.ema_every=1",
]
"""Settings that the precise recipe otherwise takes from the data, or that need more training steps than TINY has."""

NARROW: dict[str, Any] = {"width": 16, "blocks": 2, "gate_hidden": [16], "finest_frequency": 100.0}
"""The [model] section of the models whose exports are tested."""


def integers(name: str, shift: float, scale: float) -> IntegerColumn:
    """Encode whole numbers as the number (x + u − shift)/scale."""
    return IntegerColumn(name=name, inner=NumberColumn(name=name, shift=shift, scale=scale))


XY = TableEncoding(
    columns=(NumberColumn(name="x", shift=40.0, scale=12.0), NumberColumn(name="y", shift=0.0, scale=0.5))
)
"""Two columns of numbers."""

COLUMNS = TableEncoding(
    columns=(
        integers("age (years)", 40.0, 12.0),
        NumberColumn(name="samples", shift=20.0, scale=6.25),
        NumberColumn(name="val_0", shift=0.0, scale=0.5),
    )
)
"""Column names that an ONNX graph already uses for other things."""


def tiny(recipe: str = "paper", **changes: Any) -> DiffusionConfig:
    """A recipe with the sizes of TINY; ``changes`` are arguments of `resolve_diffusion`, with settings added last."""
    settings = [*(SETTLED if recipe == "precise" else []), *changes.pop("settings", [])]
    return resolve_diffusion(**{"dataset": "line", "recipe": recipe, "options": TINY, "settings": settings, **changes})


def tiny_of(kind: str, *, dataset: str) -> RunConfig:
    """The smallest configuration of a kind of model; a mixture has three Gaussians."""
    if kind == "diffusion":
        return tiny("precise", dataset=dataset)
    settings = {
        "mixture": ["model.components=3", "model.covariance=full"],
        "spline-flow": ["model.hidden=[8]", "model.transforms=1", "model.steps=50"],
        "tabddpm": ["model.hidden=[8]", "model.timesteps=8", "model.steps=50"],
    }.get(kind, [])
    return resolve(dataset=dataset, model=kind, options={"data": TINY["data"]}, settings=settings)


def narrow(recipe: str = "precise", model: str = "dual-expert", **options: Any) -> DiffusionConfig:
    """A narrow network with five sampling steps; ``options`` are further sections of the configuration."""
    sections = {"model": NARROW, "schedule": {"sigma_min": 0.01}, "sampling": {"steps": 5}, **options}
    return resolve_diffusion(dataset="moons", recipe=recipe, model=model, options=sections)


def untrained(config: DiffusionConfig, encoding: TableEncoding = XY) -> DiffusionModel:
    """A model that was not trained but whose every weight matters: parameters that start at zero are drawn too."""
    denoiser = build_network_denoiser(config, encoding.width)
    generator = seeding.torch_stream(0, "parameters that start at zero")
    with torch.no_grad():
        for parameter in denoiser.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return DiffusionModel(config, encoding, denoiser.requires_grad_(False).eval(), torch.device("cpu"))


def finished(config: DiffusionConfig, path: Path) -> Run:
    """A run directory that holds an untrained model, as a finished training would have left it."""
    run = Run.create(config, path)
    untrained(config).save(run)
    return run
