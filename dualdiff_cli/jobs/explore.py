"""Write a page on which a diffusion of two features can be played with; everything is computed beforehand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data import FloatArray
from ..diffusion.likelihood import log_density
from ..errors import InputError
from ..present.explorer.page import packed, packed_bytes, write_explorer
from ..store.run import Run
from .plot import expert_names, experts_over_levels
from .shown import MOST_POINTS, Shown, shown_model
from .trajectories import Process, forward_process, reverse_process
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
STILL = ("langevin",)
"""The samplers that stay at one noise level. Where cells are given they are left out: they teach about modes alone."""
GUIDANCE = (0.0, 1.0, 2.0, 4.0)
"""The guidance weights that a page with given cells has points of."""
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
    given: Mapping[str, Any] | None = None,
    points: int = MOST_POINTS,
    frames: int = 40,
    seed: int = 0,
    device: str = "auto",
    announce: Announce = lambda what: None,
) -> dict[str, Any]:
    """Compute the points on their way and write the page.

    Args:
        source: a finished run of a diffusion model, or its directory; None finds the newest run. The two features of
            the model are shown, or the two that are left when cells are given.
        dataset: the name of a density whose exact denoiser takes the place of a model.
        output: the folder of the page, which is made if need be; its ``index.html`` opens without a server.
        samplers: names of samplers, shown side by side from the same noise; None takes `EXPLORED`, without those that
            do not suit the model, and with given cells without `STILL`.
        given: for some columns the value, or its text, that all points are to have. The page then has the points of
            every weight in `GUIDANCE`.
        points: how many points are followed, at most 2,000.
        frames: how many states of each point are kept; the page interpolates between them.
        seed: of the noise.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``, where a run's model is loaded.
        announce: told what is being computed.

    Returns:
        The record of the ``explore`` command: "run", "dataset", "output", "page", "bytes", "samplers", "points" and
        "frames"; with given cells also "given" and "guidance", the weights.

    Raises:
        InputError: see `shown_model` and `reverse_process`; or there are fewer than 2 frames, or the folder is a file.
        DeviceError: the device is not there.

    """
    if frames < 2:
        raise InputError(f"{frames} frames show no way from noise to data.", "Ask for at least 2 frames.")
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, not a folder.", "Name a folder with -o.")
    shown = shown_model(source, dataset, n=points, given=given or {}, device=device)
    weights = GUIDANCE if given else (1.0,)
    forward = forward_process(shown, frames=frames, seed=seed)
    drawn: list[list[Process]] = []
    for name in samplers or [name for name in EXPLORED if not given or name not in STILL]:
        announce(f"points of {name}")
        try:
            drawn.append(
                [reverse_process(shown, name, n=points, frames=frames, seed=seed, guidance=w) for w in weights]
            )
        except InputError:
            if samplers is not None:
                raise
    announce("the field of the denoiser")
    files = write_explorer(folder, _data(shown, forward, drawn))
    return {
        "run": None if shown.run is None else str(shown.run),
        "dataset": dataset,
        "output": str(folder),
        "page": str(folder / "index.html"),
        "bytes": sum(path.stat().st_size for path in files),
        "samplers": [first.name for first, *_ in drawn],
        "points": drawn[0][0].states.shape[1],
        "frames": len(drawn[0][0].states),
        **({"given": dict(given), "guidance": list(weights)} if given else {}),
    }


def _data(shown: Shown, forward: Process, drawn: Sequence[Sequence[Process]]) -> dict[str, Any]:
    """Give everything that the page shows, as plain values.

    Args:
        shown: whose diffusion it is.
        forward: of the true points; left out of the page where no true point has the given cells.
        drawn: for each sampler a process for every guidance weight.

    """
    limit = _limit([forward, *drawn[0]])
    noise = forward.noise
    groups = [[forward]] if forward.states.size else []
    return {
        "title": shown.title,
        "columns": shown.columns,
        "limit": limit,
        "frames": len(noise),
        "points": drawn[0][0].states.shape[1],
        "noise": [level if math.isfinite(level) else None for level in noise.tolist()],
        "given": None if shown.given is None else {"words": shown.given.words, "weights": GUIDANCE},
        "processes": [
            {
                "name": first.name,
                "label": "Forward process" if first.name == "forward" else EXPLORED.get(first.name, first.name),
                "still": float(first.noise[0]) if first.name in STILL else None,
                "points": first.states.shape[1],
                "states": [packed(process.states, limit=limit) for process in (first, *others)],
            }
            for first, *others in [*groups, *drawn]
        ],
        "field": {"side": FIELD, "answers": packed(_field(shown, noise, limit), limit=limit)},
        "density": _density(shown, limit),
        "experts": _experts(shown),
        "modes": _modes(shown),
    }


def _limit(processes: Sequence[Process]) -> float:
    """Give the half-width of a square that holds nearly all points at all times."""
    ends = [np.abs(process.states[[0, -1]]) for process in processes if process.states.size]
    reach = max(float(np.quantile(end, 0.9995)) for end in ends)
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
    denoiser, schedule = shown.of_plane, shown.denoiser.schedule
    grid = torch.from_numpy(_square(limit, FIELD)).to(schedule.device)
    answers = []
    for level in noise:
        if level == 0:
            answers.append(grid.cpu().numpy())
            continue
        log_snr = -2 * math.log(level) if math.isfinite(level) else -math.inf
        t = schedule.time(torch.tensor(log_snr, dtype=torch.float64, device=schedule.device))
        alpha, sigma = schedule(t)
        answers.append(denoiser(grid * torch.sqrt(alpha**2 + sigma**2), t).cpu().numpy())
    return np.stack(answers)


def _density(shown: Shown, limit: float) -> dict[str, Any] | None:
    """Give the log-density of the clean points as shares of the shown range; None where neither has one.

    It is that of the two shown features given the cells, unless one of the two is itself given.
    """
    cells = DENSITY_CELLS if shown.density is not None else MODEL_CELLS
    places = _square(limit, cells)
    if shown.density is not None and shown.affine is not None:
        shift, scale = shown.affine
        values, of = shown.density.log_prob(places * scale + shift), "the density"
    elif shown.model is not None:
        denoiser = shown.denoiser if shown.width == 2 else shown.of_plane
        values, of = log_density(denoiser, places), "the model"
    else:
        return None
    shares = 1 - (np.max(values) - values) / DENSITY_RANGE
    return {"side": cells, "of": of, "shares": packed_bytes(np.nan_to_num(shares, nan=0.0, neginf=0.0))}


def _experts(shown: Shown) -> dict[str, Any] | None:
    """Give the experts' mean weights over the noise levels; None for a model without experts."""
    if shown.model is None or shown.data is None:
        return None
    found = experts_over_levels(shown.model, shown.data, seed=0)
    if found is None:
        return None
    noise, weights, _ = found
    order = np.argsort(noise)
    names = expert_names(shown.model)
    return {"noise": noise[order].tolist(), "weights": weights[order].round(4).tolist(), "names": names}


def _modes(shown: Shown) -> dict[str, Any] | None:
    """Give the centres of a density's modes as features, and their true shares; None where there are none or many."""
    modes = None if shown.density is None or shown.given is not None else shown.density.modes
    if modes is None or len(modes.weights) > MOST_MODES or shown.affine is None:
        return None
    shift, scale = shown.affine
    return {"centres": ((modes.centres - shift) / scale).tolist(), "shares": modes.weights.tolist()}
