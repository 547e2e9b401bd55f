"""Leave pictures in a run: data beside samples, the loss curve, and what the gate does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..compute.device import choose_device
from ..diffusion.samplers import BLOCK
from ..models.diffusion import TrainedModel
from ..present.figures.gates import gate_histogram, gate_profile, gate_scatter
from ..present.figures.points import data_beside_samples, loss_curve
from ..present.figures.style import save
from ..store.run import Run
from .inputs import held_out_points, reload_data

__all__ = ["gate_weights", "plot"]

PROFILE_POINTS, PROFILE_TIMES = 512, 64


def plot(run: Run, *, n: int = 2 * BLOCK, seed: int = 0, device: str = "auto") -> list[str]:
    """Draw n points and make the run's pictures.

    Returns:
        Paths of the PNG files.

    Raises:
        InputError: the run is not finished, or its data file has changed.

    """
    model = TrainedModel.load(run, choose_device(device))
    columns = [column.name for column in model.columns]
    generated = np.concatenate(list(model.sample(n, seed=seed)))
    data = reload_data(run)
    held_out = data.held_out[:n]
    title = f"{Path(model.config.dataset).name} · {model.config.model.name} · {model.config.recipe}"
    pictures = {"samples": data_beside_samples(held_out, generated, columns=columns, title=title)}
    metrics = run.load_metrics()
    if metrics:
        pictures["loss"] = loss_curve(
            np.array([record["step"] for record in metrics]),
            np.array([record["loss"] for record in metrics]),
            title=title,
        )
    if model.config.model.experts > 1:
        if model.config.model.gate_on == "point":
            weights = gate_weights(model, generated)
            pictures["gate-scatter"] = gate_scatter(generated, weights, columns=columns)
            pictures["gate-histogram"] = gate_histogram(weights)
        points = held_out_points(data, seed=model.config.seed)[:PROFILE_POINTS]
        pictures["gate-profile"] = gate_profile(*_mean_gate_weights(model, points, seed=seed), title=title)
    return [str(path) for name, figure in pictures.items() for path in save(figure, run.output_path("figures", name))]


def gate_weights(model: TrainedModel, points: np.ndarray) -> np.ndarray:
    """Weights of the experts at the least noisy time, where the samples are; (n, d) → (n, experts)."""
    x = torch.from_numpy(model.scaler.transform(points)).to(model.device)
    t = torch.tensor(model.denoiser.schedule.t_min, dtype=torch.float64, device=model.device)
    with torch.no_grad():
        return model.denoiser.gate(x, t).double().cpu().numpy()


def _mean_gate_weights(model: TrainedModel, points: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise levels σ/α over the time axis, (T,), and at each the mean of the weights over noisy points, (T, experts).

    Every level noises the points (n, d) with the same ε, so that the levels differ in nothing else. Where α = 0 the
    level is infinite and left out.
    """
    schedule = model.denoiser.schedule
    entries = int(schedule.t_max - schedule.t_min) + 1
    times = schedule.times(min(PROFILE_TIMES, entries) if schedule.discrete else PROFILE_TIMES)
    alpha, sigma = schedule(times)
    x = torch.from_numpy(model.scaler.transform(points)).to(model.device)
    # drawn on the CPU: the picture is the same on every device
    epsilon = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype).to(model.device)
    noise, weights = [], []
    with torch.no_grad():
        for t, a, s in zip(times, alpha, sigma, strict=True):
            if a > 0:
                noise.append(float(s / a))
                weights.append(model.denoiser.gate(a * x + s * epsilon, t).double().mean(0).cpu().numpy())
    return np.array(noise), np.array(weights)
