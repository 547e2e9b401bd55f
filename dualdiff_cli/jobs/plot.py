"""Leave pictures in a run: data beside samples, the loss, and what the gate does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from .. import seeding
from ..compute.device import choose_device
from ..data import Data, FloatArray
from ..diffusion.stacking import EXPERT_NAMES, StackedDenoiser
from ..models import AS_DRAWN, Model, TrainableModel, load_model
from ..models.diffusion import DiffusionModel
from ..present.figures.gates import gate_histogram, gate_profile, gate_scatter
from ..present.figures.losses import loss_curve
from ..present.figures.points import rows_beside_samples
from ..present.figures.style import save
from ..store.run import Run
from ..training.gaps import held_out_features
from .inputs import data_of_run

__all__ = [
    "PICTURED",
    "draw_pictures",
    "expert_names",
    "experts_over_levels",
    "features_of",
    "gate_weights",
    "picture_of_experts",
    "picture_of_losses",
    "pictured_rows",
    "plot",
]

PICTURED = 4096
"""The number of rows in a picture of samples."""
PROFILE_ROWS, PROFILE_TIMES = 512, 64


def plot(run: Run | str | Path, *, n: int = PICTURED, seed: int = 0, device: str = "auto") -> list[str]:
    """Draw n rows and make the run's pictures.

    Args:
        run: a finished run, or its directory.
        n, seed: of the rows.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.

    Returns:
        Paths of the PNG files.

    Raises:
        InputError: there is no run, the run is not finished, or its data file has changed.
        DeviceError: the device is not there.

    """
    run = Run.open(run)
    model = load_model(run, device=choose_device(device))
    return draw_pictures(run, model, data_of_run(run), model.sample(n, seed=seed, options=AS_DRAWN), seed=seed)


def draw_pictures(
    run: Run, model: TrainableModel[Any], data: Data, generated: pl.DataFrame, *, seed: int = 0
) -> list[str]:
    """Make the pictures of a run whose model, data and n samples are at hand; see `plot`."""
    title = f"{Path(model.config.dataset).name} · {model.config.model.name} · {model.config.recipe}"
    held_out = pictured_rows(data, generated, seed=seed)
    pictures = {
        "samples": rows_beside_samples(held_out, generated, title=title),
        "loss": picture_of_losses(run, title=title),
    }
    if isinstance(model, DiffusionModel) and model.config.model.experts > 1 and model.config.model.gate_on == "point":
        weights = gate_weights(model, generated)
        pictures["gate-scatter"] = gate_scatter(features_of(model, generated), weights, columns=_feature_names(model))
        pictures["gate-histogram"] = gate_histogram(weights)
    pictures["gate-profile"] = picture_of_experts(model, data, title=title, seed=seed)
    return [
        str(path)
        for name, figure in pictures.items()
        if figure is not None
        for path in save(figure, run.output_path("figures", name))
    ]


def pictured_rows(data: Data, generated: pl.DataFrame, *, seed: int) -> pl.DataFrame:
    """Give the held-out rows that a picture shows beside generated rows: at most as many, with the same columns."""
    rows = data.held_out.select(generated.columns)
    return seeding.subsample(rows, generated.height, seed=seed, role="pictured rows")


def picture_of_losses(run: Run, *, title: str) -> Figure | None:
    """Draw the logged losses of a run and, where the run has them, those on unseen rows; None where none was logged.

    A single loss on unseen rows makes no curve.

    """
    metrics = run.load_metrics()
    if not metrics:
        return None
    steps, losses = ([record[key] for record in metrics] for key in ("step", "loss"))
    held_out = [(record["step"], record["held_out"]) for record in metrics if "held_out" in record]
    return loss_curve(steps, losses, held_out=held_out if len(held_out) > 1 else (), title=title)


def picture_of_experts(model: Model, data: Data, *, title: str, seed: int = 0) -> Figure | None:
    """Draw how the experts of a diffusion model share the noise levels; None for a model without experts."""
    found = experts_over_levels(model, data, seed=seed)
    if found is None:
        return None
    noise, weights, losses = found
    return gate_profile(noise, weights, losses=losses, names=expert_names(model), title=title)


def expert_names(model: Model) -> tuple[str, ...] | None:
    """Name the experts of a model that was trained in folds, the networks and the closed forms; None for others."""
    stacked = isinstance(model, DiffusionModel) and isinstance(model.denoiser, StackedDenoiser)
    return EXPERT_NAMES if stacked else None


def gate_weights(model: DiffusionModel, rows: pl.DataFrame) -> FloatArray:
    """Give the weights of the experts at the least noisy time, where the samples are, for n rows: (n, experts)."""
    t = torch.tensor(model.denoiser.schedule.t_min, dtype=torch.float64, device=model.device)
    with torch.no_grad():
        weights: FloatArray = model.denoiser.gate(_features(model, rows), t).double().cpu().numpy()
    return weights


def features_of(model: DiffusionModel, rows: pl.DataFrame) -> FloatArray:
    """Give the rows as a diffusion model sees them, (n, width); in the columns' own units where that is possible."""
    features = model.encoding.encode(rows, None)
    if any(column.affine is None for column in model.encoding.columns):
        return features
    shift, scale = model.encoding.affine
    return features * scale + shift


def _feature_names(model: DiffusionModel) -> list[str]:
    """Give each feature the name of its column, with a number where a column has several features."""
    return [
        column.name if column.width == 1 else f"{column.name} ({k})"
        for column in model.encoding.columns
        for k in range(1, column.width + 1)
    ]


def _features(model: DiffusionModel, rows: pl.DataFrame) -> Tensor:
    return torch.from_numpy(model.encoding.encode(rows, seeding.stream(0, "dequantise"))).to(model.device)


def experts_over_levels(model: Model, data: Data, *, seed: int) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    """Look at the experts of a diffusion model over the time axis, on noisy held-out rows.

    All levels noise the rows with the same ε, so that the levels differ in nothing else. A level with α = 0 is
    infinite and left out. The loss is the mean squared error of the velocity, (α² + σ²)/σ²·E(x̂ − x)², whatever the
    network predicts.

    Returns:
        The noise levels σ/α, (T,), the mean weights at each, (T, experts), and the loss at each, (T,); None for a model
        without experts.

    """
    if not isinstance(model, DiffusionModel) or not (model.config.model.experts > 1 or model.config.folds.number):
        return None
    schedule = model.denoiser.schedule
    entries = int(schedule.t_max - schedule.t_min) + 1
    times = schedule.times(min(PROFILE_TIMES, entries) if schedule.discrete else PROFILE_TIMES)
    alpha, sigma = schedule(times)
    held_out = held_out_features(model.encoding, data, seed=model.config.seed)
    x = torch.from_numpy(seeding.subsample(held_out, PROFILE_ROWS, seed=seed, role="profiled rows")).to(model.device)
    # The noise is drawn on the CPU, so that the picture is the same on every device.
    stream = seeding.torch_stream(seed, "gate profile")
    epsilon = torch.randn(x.shape, generator=stream, dtype=x.dtype).to(model.device)
    noise, weights, losses = [], [], []
    with torch.no_grad():
        for t, a, s in zip(times, alpha, sigma, strict=True):
            if a > 0:
                x_t = a * x + s * epsilon
                noise.append(float(s / a))
                weights.append(model.denoiser.gate(x_t, t).double().mean(0).cpu().numpy())
                error = (model.denoiser(x_t, t) - x).square().mean()
                losses.append(float((a**2 + s**2) / s**2 * error))
    return np.array(noise), np.array(weights), np.array(losses)
