"""Write a film of the forward process and of one sampler's reverse process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InputError
from ..present.figures.film import Film, check_film
from ..store.run import Run
from .shown import shown_model
from .trajectories import forward_process, reverse_process
from .truth import Announce

__all__ = ["animate"]

SAMPLER = "ddim"
"""The sampler for a density, which has none of its own."""


def animate(
    source: Run | str | Path | None = None,
    *,
    dataset: str | None = None,
    output: str | Path | None = None,
    sampler: str | None = None,
    points: int = 1_000,
    frames: int = 60,
    seed: int = 0,
    device: str = "auto",
    announce: Announce = lambda what: None,
) -> dict[str, Any]:
    """Compute the points on their way and write the film.

    Args:
        source: a finished run of a diffusion model of two features, or its directory; None finds the newest run.
        dataset: the name of a density whose exact denoiser takes the place of a model.
        output: a .gif, .mp4 or .html file; None writes ``figures/diffusion.gif`` in the run, or for a density
            ``NAME.gif`` in the working directory.
        sampler: its name; None takes that of the run, and DDIM for a density.
        points: how many points are shown, at most 2,000.
        frames: how many states of each point are shown.
        seed: of the noise.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``, where a run's model is loaded.
        announce: told what is being done.

    Returns:
        The record of the ``animate`` command: "run", "dataset", "sampler", "points", "frames", "output" and "bytes".

    Raises:
        InputError: see `shown_model`, `reverse_process` and `check_film`; or there are fewer than 2 frames.
        DeviceError: the device is not there.

    """
    if frames < 2:
        raise InputError(f"{frames} frames make no film.", "Ask for at least 2 frames.")
    if output is not None:
        check_film(Path(output))
    shown = shown_model(source, dataset, n=points, device=device)
    if output is not None:
        target = Path(output)
    else:
        target = Path(f"{dataset}.gif") if shown.run is None else shown.run.output_path("figures", "diffusion.gif")
    name = sampler or (SAMPLER if shown.model is None else shown.model.config.sampling.sampler)
    announce(f"points of {name}")
    forward = forward_process(shown, frames=frames, seed=seed)
    reverse = reverse_process(shown, name, n=points, frames=frames, seed=seed)
    announce("the film")
    film = Film(forward.states, reverse.states, forward.noise, title=shown.title, sampler=name)
    film.save(target)
    return {
        "run": None if shown.run is None else str(shown.run),
        "dataset": dataset,
        "sampler": name,
        "points": reverse.states.shape[1],
        "frames": film.frames,
        "output": str(target),
        "bytes": target.stat().st_size,
    }
