"""Leave pictures in a run: data beside samples, the loss, and what the gate does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from .. import seeding
from ..compute.device import choose_device
from ..data import Data, FloatArray
from ..models import TrainableModel, load_model
from ..models.diffusion import DiffusionModel
from ..present.figures.gates import gate_histogram, gate_profile, gate_scatter
from ..present.figures.losses import loss_curve
from ..present.figures.points import data_beside_samples
from ..present.figures.style import save
from ..store.run import Run
from .inputs import data_of_run

__all__ = ["PICTURED", "draw_pictures", "gate_weights", "plot"]

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
    return draw_pictures(run, model, data_of_run(run), model.sample(n, seed=seed), seed=seed)


def draw_pictures(run: Run, model: TrainableModel, data: Data, generated: pl.DataFrame, *, seed: int = 0) -> list[str]:
    """Make the pictures of a run whose model, data and n samples are at hand; see `plot`."""
    title = f"{Path(model.config.dataset).name} · {model.config.model.name} · {model.config.recipe}"
    held_out = data.held_out[: generated.height].select(generated.columns)
    pictures = {
        "samples": data_beside_samples(
            held_out.to_numpy(), generated.to_numpy(), columns=generated.columns, title=title
        )
    }
    metrics = run.load_metrics()
    if metrics:
        pictures["loss"] = loss_curve(
            np.array([record["step"] for record in metrics]),
            np.array([record["loss"] for record in metrics]),
            held_out=[(record["step"], record["held_out"]) for record in metrics if "held_out" in record],
            title=title,
        )
    if isinstance(model, DiffusionModel) and (model.config.model.experts > 1 or model.config.folds.number):
        if model.config.model.experts > 1 and model.config.model.gate_on == "point":
            weights = gate_weights(model, generated)
            pictures["gate-scatter"] = gate_scatter(generated.to_numpy(), weights, columns=generated.columns)
            pictures["gate-histogram"] = gate_histogram(weights)
        profile = _mean_gate_weights(model, data.held_out[:PROFILE_ROWS], seed=seed)
        pictures["gate-profile"] = gate_profile(*profile, title=title)
    return [str(path) for name, figure in pictures.items() for path in save(figure, run.output_path("figures", name))]


def gate_weights(model: DiffusionModel, rows: pl.DataFrame) -> FloatArray:
    """Give the weights of the experts at the least noisy time, where the samples are, for n rows: (n, experts)."""
    t = torch.tensor(model.denoiser.schedule.t_min, dtype=torch.float64, device=model.device)
    with torch.no_grad():
        weights: FloatArray = model.denoiser.gate(_features(model, rows), t).double().cpu().numpy()
    return weights


def _features(model: DiffusionModel, rows: pl.DataFrame) -> Tensor:
    return torch.from_numpy(model.encoding.encode(rows, seeding.stream(0, "dequantise"))).to(model.device)


def _mean_gate_weights(model: DiffusionModel, rows: pl.DataFrame, *, seed: int) -> tuple[FloatArray, FloatArray]:
    """Give noise levels σ/α over the time axis, (T,), and at each the mean weights over noisy rows, (T, experts).

    All levels noise the rows with the same ε, so that the levels differ in nothing else. A level with α = 0 is
    infinite and left out.
    """
    schedule = model.denoiser.schedule
    entries = int(schedule.t_max - schedule.t_min) + 1
    times = schedule.times(min(PROFILE_TIMES, entries) if schedule.discrete else PROFILE_TIMES)
    alpha, sigma = schedule(times)
    x = _features(model, rows)
    # The noise is drawn on the CPU, so that the picture is the same on every device.
    stream = seeding.torch_stream(seed, "gate profile")
    epsilon = torch.randn(x.shape, generator=stream, dtype=x.dtype).to(model.device)
    noise, weights = [], []
    with torch.no_grad():
        for t, a, s in zip(times, alpha, sigma, strict=True):
            if a > 0:
                noise.append(float(s / a))
                weights.append(model.denoiser.gate(a * x + s * epsilon, t).double().mean(0).cpu().numpy())
    return np.array(noise), np.array(weights)
