"""Leave pictures in a run: data beside samples, the loss curve, and what the gate does."""

from __future__ import annotations

import numpy as np
import torch

from ..device import choose_device
from ..figures import data_beside_samples, gate_histogram, gate_scatter, loss_curve, save
from ..models import TrainedModel
from ..runs import Run
from ..samplers import BLOCK
from .inputs import load_run_data

__all__ = ["plot"]


def plot(run: Run, *, n: int = 2 * BLOCK, seed: int = 0, device: str = "auto") -> list[str]:
    """Draw n points and make the run's pictures.

    Returns:
        Paths of the PNG files.

    Raises:
        InputError: the run is not finished.

    """
    model = TrainedModel.load(run, choose_device(device))
    columns = [column.name for column in model.columns]
    generated = np.concatenate(list(model.sample(n, seed=seed)))
    held_out = load_run_data(model.config).held_out[:n]
    title = f"{model.config.dataset} · {model.config.model.name} · {model.config.recipe}"
    pictures = {"samples": data_beside_samples(held_out, generated, columns=columns, title=title)}
    metrics = run.load_metrics()
    if metrics:
        pictures["loss"] = loss_curve(
            np.array([record["step"] for record in metrics]),
            np.array([record["loss"] for record in metrics]),
            title=title,
        )
    if model.config.model.experts > 1:
        weights = _gate_weights(model, generated)
        pictures["gate-scatter"] = gate_scatter(generated, weights, columns=columns)
        pictures["gate-histogram"] = gate_histogram(weights)
    return [str(path) for name, figure in pictures.items() for path in save(figure, run.output_path("figures", name))]


def _gate_weights(model: TrainedModel, points: np.ndarray) -> np.ndarray:
    """Weights of the experts at the least noisy time, where the samples are; (n, d) → (n, experts)."""
    x = torch.from_numpy(model.scaler.transform(points)).to(model.device)
    t = torch.tensor(model.denoiser.schedule.t_min, dtype=torch.float64, device=model.device)
    with torch.no_grad():
        return model.denoiser.gate(x, t).double().cpu().numpy()
