"""Write a page on which a diffusion of two features can be played with; everything is computed beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data import FloatArray
from ..errors import InputError
from ..present.explorer.page import packed, packed_bytes, write_explorer
from ..store.run import Run
from .plot import experts_over_levels
from .trajectories import MOST_POINTS, Process, Shown, forward_process, reverse_process, shown_model
from .truth import Announce

__all__ = ["EXPLORED", "explore"]

EXPLORED = {
    "ancestral": "DDPM (ancestral)",
    "ddim": "DDIM",
    "heun": "Probability flow (Heun)",
    "dpmpp-2m-sde": "Reverse SDE (DPM-Solver++)",
    "langevin": "Langevin at one noise level",
}
"""The samplers of the page, and what the page calls them."""
FIELD = 17
"""Arrows along each side of the plane."""
DENSITY_CELLS, MODEL_CELLS = 96, 48
"""Cells of the log-density along each side, for a density and for a model, whose log-density takes longer."""
DENSITY_RANGE = 8.0
"""The range of the log-density that is shown, in nats below the largest value."""
MOST_MODES = 12
"""The largest number of modes whose shares are counted."""


def explore(
    source: Run | str | Path | None = None,
    *,
    dataset: str | None = None,
    output: str | Path,
    samplers: Sequence[str] | None = None,
    points: int = MOST_POINTS,
    frames: int = 40,
    seed: int = 0,
    device: str = "auto",
    announce: Announce = lambda what: None,
) -> dict[str, Any]:
    """Compute the points on their way and write the page.

    Args:
        source: a finished run of a diffusion model of two features, or its directory; None finds the newest run.
        dataset: the name of a density whose exact denoiser takes the place of a model.
        output: the folder of the page, which is made if need be; its ``index.html`` opens without a server.
        samplers: names of samplers, shown side by side from the same noise; None takes `EXPLORED`, without those that
            do not suit the model.
        points: how many points are followed, at most 2,000.
        frames: how many states of each point are kept; the page interpolates between them.
        seed: of the noise.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``, where a run's model is loaded.
        announce: told what is being computed.

    Returns:
        The record of the ``explore`` command: "run", "dataset", "output", "page", "bytes", "samplers", "points" and
        "frames".

    Raises:
        InputError: see `shown_model` and `reverse_process`; or there are fewer than 2 frames, or the folder is a file.
        DeviceError: the device is not there.

    """
    if frames < 2:
        raise InputError(f"{frames} frames show no way from noise to data.", "Ask for at least 2 frames.")
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, not a folder.", "Name a folder with -o.")
    shown = shown_model(source, dataset, n=points, device=device)
    processes = [forward_process(shown, frames=frames, seed=seed)]
    for name in samplers or tuple(EXPLORED):
        announce(f"points of {name}")
        try:
            processes.append(reverse_process(shown, name, n=points, frames=frames, seed=seed))
        except InputError:
            if samplers is not None:
                raise
    announce("the field of the denoiser")
    files = write_explorer(folder, _data(shown, processes))
    return {
        "run": None if shown.run is None else str(shown.run),
        "dataset": dataset,
        "output": str(folder),
        "page": str(folder / "index.html"),
        "bytes": sum(path.stat().st_size for path in files),
        "samplers": [process.name for process in processes[1:]],
        "points": processes[1].states.shape[1],
        "frames": len(processes[1].states),
    }


def _data(shown: Shown, processes: Sequence[Process]) -> dict[str, Any]:
    """Give everything that the page shows, as plain values."""
    limit = _limit(processes)
    noise = processes[0].noise
    return {
        "title": shown.title,
        "columns": shown.columns,
        "limit": limit,
        "frames": len(noise),
        "points": processes[-1].states.shape[1],
        "noise": [level if math.isfinite(level) else None for level in noise.tolist()],
        "processes": [
            {
                "name": process.name,
                "label": "Forward process" if process.name == "forward" else EXPLORED.get(process.name, process.name),
                "still": float(process.noise[0]) if len(np.unique(process.noise[:-1])) == 1 else None,
                "points": process.states.shape[1],
                "states": packed(process.states, limit=limit),
            }
            for process in processes
        ],
        "field": {"side": FIELD, "answers": packed(_field(shown, noise, limit), limit=limit)},
        "density": _density(shown, limit),
        "experts": _experts(shown),
        "modes": _modes(shown),
    }


def _limit(processes: Sequence[Process]) -> float:
    """Give the half-width of a square that holds nearly all points at all times."""
    reach = max(float(np.quantile(np.abs(process.states[[0, -1]]), 0.9995)) for process in processes[:2])
    return 1.08 * reach


def _axis(limit: float, cells: int) -> FloatArray:
    """Give the middles of cells that fill [−limit, limit], (cells,)."""
    return np.asarray(((np.arange(cells) + 0.5) / cells * 2 - 1) * limit, np.float64)


def _square(limit: float, cells: int) -> FloatArray:
    """Give the middles of the cells of the square, (cells², 2); the first axis is the fastest."""
    axis = _axis(limit, cells)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


@torch.no_grad()
def _field(shown: Shown, noise: FloatArray, limit: float) -> FloatArray:
    """Give E[x | x_t] on a grid of positions at every frame, (F, FIELD², 2); at the clean end the position itself."""
    schedule = shown.denoiser.schedule
    grid = torch.from_numpy(_square(limit, FIELD)).to(schedule.device)
    answers = []
    for level in noise:
        if level == 0:
            answers.append(grid.cpu().numpy())
            continue
        t = schedule.time(
            torch.tensor(-2 * math.log(level) if math.isfinite(level) else -math.inf, dtype=torch.float64)
        )
        alpha, sigma = schedule(t)
        answers.append(shown.denoiser(grid * torch.sqrt(alpha**2 + sigma**2), t).cpu().numpy())
    return np.stack(answers)


def _density(shown: Shown, limit: float) -> dict[str, Any] | None:
    """Give the log-density of the clean points as shares of the shown range; None where neither has one."""
    cells = DENSITY_CELLS if shown.density is not None else MODEL_CELLS
    places = _square(limit, cells)
    if shown.density is not None and shown.affine is not None:
        shift, scale = shown.affine
        values, of = shown.density.log_prob(places * scale + shift), "the density"
    elif shown.model is not None:
        values, of = shown.model.log_density_of_features(places), "the model"
    else:
        return None
    shares = 1 - (np.max(values) - values) / DENSITY_RANGE
    return {"side": cells, "of": of, "shares": packed_bytes(np.nan_to_num(shares, nan=0.0, neginf=0.0))}


def _experts(shown: Shown) -> dict[str, Any] | None:
    """Give the experts' mean weights over the noise levels; None for a model without experts."""
    found = None if shown.model is None else experts_over_levels(shown.model, shown.rows, seed=0)
    if found is None:
        return None
    noise, weights, _ = found
    order = np.argsort(noise)
    return {"noise": noise[order].tolist(), "weights": weights[order].round(4).tolist()}


def _modes(shown: Shown) -> dict[str, Any] | None:
    """Give the centres of a density's modes as features, and their true shares; None where there are none or many."""
    modes = None if shown.density is None else shown.density.modes
    if modes is None or len(modes.weights) > MOST_MODES or shown.affine is None:
        return None
    shift, scale = shown.affine
    return {"centres": ((modes.centres - shift) / scale).tolist(), "shares": modes.weights.tolist()}
