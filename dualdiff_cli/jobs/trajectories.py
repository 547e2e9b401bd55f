"""The points of a diffusion on their way, from noise to data and back: what `animate` and `explore` show.

Positions are those of x_t/√(α² + σ²), which are of order one at every noise level. They equal the noise where nothing
is left of the data, and the data at the clean end. Their unit is that of the features, in which the data have about
unit variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
import torch
from torch import Tensor

from ..compute.device import choose_device
from ..config.recipes import resolve_diffusion
from ..config.registry import SAMPLERS
from ..config.schema import DiffusionConfig
from ..data import Density, FloatArray, draw, get_density
from ..diffusion.denoisers import Denoiser
from ..diffusion.exact import exact_denoiser
from ..diffusion.samplers import Level, Sampler, build_sampler, draw_noise
from ..diffusion.samplers.langevin import Langevin
from ..diffusion.schedules import Schedule, build_schedule
from ..errors import InputError
from ..models import load_model
from ..models.diffusion import DiffusionModel, check_sampler
from ..store.run import Run
from .inputs import data_of_run

__all__ = ["MOST_POINTS", "Process", "Shown", "forward_process", "reverse_process", "shown_model"]

T = TypeVar("T")

MOST_POINTS = 2_000
"""The largest number of points; all of them come from one block of noise."""
STEPS_A_FRAME = 2
"""Steps of a sampler between two frames."""
SCALED_ON = 10_000
"""The points of a density that decide its feature units."""
EXACT = ("schedule.sigma_min=0.02", "schedule.sigma_max=20.0", "model.finest_frequency=50.0")
"""The noise levels of a density; the finest frequency is that of a network, of which there is none."""
LANGEVIN_NOISE = 0.1
"""σ/α of the Langevin dynamics."""


@dataclass(frozen=True)
class Shown:
    """A model, or a density with its exact denoiser, whose diffusion is shown.

    Attributes:
        title: what it is called.
        run: where the model is; None for a density.
        denoiser: of two features.
        columns: the names of the two axes: the columns, or "feature 1" and "feature 2".
        affine: (shift, scale), each (2,): value of a column = shift + scale·feature; None where a column is encoded in
            another way.
        config: the noise schedule and the spacing of the levels.
        rows: true rows.
        points: the same rows as features, (n, 2).
        density: what the rows were drawn from; None for a file.
        model: the run's; None for a density.

    """

    title: str
    run: Run | None
    denoiser: Denoiser
    columns: list[str]
    affine: tuple[FloatArray, FloatArray] | None
    config: DiffusionConfig
    rows: pl.DataFrame
    points: FloatArray
    density: Density | None
    model: DiffusionModel | None


@dataclass(frozen=True)
class Process:
    """Points on their way.

    Attributes:
        name: of the sampler, or "forward".
        noise: σ/α at each frame, (F,); infinite where nothing is left of the data, and 0 at the clean end.
        states: positions, (F, n, 2); the first frame is noise and the last one is data.

    """

    name: str
    noise: FloatArray
    states: FloatArray


def shown_model(source: Run | str | Path | None, dataset: str | None, *, n: int, device: str = "auto") -> Shown:
    """Find whose diffusion is to be shown.

    Args:
        source: a finished run of a diffusion model or its directory; None finds the newest run.
        dataset: the name of a density whose exact denoiser is shown in place of a model.
        n: the number of true rows.
        device: where a model is loaded.

    Raises:
        InputError: a run and a density are both named, one does not exist, the model is no diffusion model, or its rows
            do not have exactly two features.
        DeviceError: the device is not there.

    """
    if not 1 <= n <= MOST_POINTS:
        raise InputError(f"{n:,} points cannot be shown.", f"Ask for 1 to {MOST_POINTS:,} points.")
    if dataset is not None:
        if source is not None:
            raise InputError(f"The run {source} and the density {dataset} were both named.", "Leave one of them out.")
        return _of_density(get_density(dataset), n)
    run = Run.open(source)
    model = load_model(run, device=choose_device(device))
    if not isinstance(model, DiffusionModel):
        raise InputError(
            f"The model of the run {run} is a {model.config.model.name}, which has no noise levels to show.",
            "Name the run of a diffusion model, or a density with --dataset.",
        )
    if model.encoding.width != 2:
        raise InputError(
            f"The model of the run {run} has {model.encoding.width} features, and a plane shows exactly 2.",
            "Train on two columns with --columns A,B, or name a density with --dataset.",
        )
    data = data_of_run(run)
    title = f"{data.name} · {model.config.model.name} · {model.config.recipe}"
    rows, encoding = data.held_out[:n], model.encoding
    is_affine = len(encoding.columns) == 2 and all(column.affine is not None for column in encoding.columns)
    return Shown(
        title=title,
        run=run,
        denoiser=model.denoiser,
        columns=encoding.names if is_affine else ["feature 1", "feature 2"],
        affine=encoding.affine if is_affine else None,
        config=model.config,
        rows=rows,
        points=encoding.encode(rows, None),
        density=data.density,
        model=model,
    )


def _of_density(density: Density, n: int) -> Shown:
    """Give a density with its exact denoiser under the noise schedule of the recipe `precise`.

    The origin stays where it is, because it is where plain Langevin dynamics start: between the modes of a density that
    lies symmetrically about it. So that the start is right for all other samplers, the schedule ends in more noise.
    """
    config = resolve_diffusion(dataset=density.name, recipe="precise", settings=EXACT)
    scale = np.sqrt(np.mean(draw(density, SCALED_ON, seed=0, role="units").to_numpy() ** 2, axis=0))
    rows = draw(density, n, seed=0, role="shown")
    return Shown(
        title=f"{density.name} · exact denoiser",
        run=None,
        denoiser=exact_denoiser(density, build_schedule(config.schedule), scale=scale),
        columns=list(density.columns),
        affine=(np.zeros(2), scale),
        config=config,
        rows=rows,
        points=rows.to_numpy() / scale,
        density=density,
        model=None,
    )


class _SmallNoise(Langevin):
    """Langevin dynamics at a level with so much noise that a point reaches a mode within the frames."""

    def levels(self, schedule: Schedule) -> list[Level]:
        """Give the level nearest to `LANGEVIN_NOISE` N times and the clean end; see `Sampler.levels`."""
        *visited, clean = Sampler.levels(self, schedule)
        nearest = min(visited, key=lambda level: abs(float(level.lam) + math.log(LANGEVIN_NOISE)))
        return [nearest] * self.steps + [clean]


def forward_process(shown: Shown, *, frames: int, seed: int) -> Process:
    """Noise the true points with the same ε at every level: the noise that the samplers start from."""
    levels = _frames_of(_sampler(shown, "ddim", frames).levels(shown.denoiser.schedule), frames)
    clean = torch.from_numpy(shown.points)
    epsilon = draw_noise(seed, 0, dim=2, draws=1)[0, : len(clean)].double()
    states = [_position(level.alpha * clean + level.sigma * epsilon, level) for level in levels]
    return Process("forward", np.array([_noise_of(level) for level in levels]), np.stack(states))


def reverse_process(shown: Shown, sampler: str, *, n: int, frames: int, seed: int) -> Process:
    """Let a sampler turn noise into n points; every sampler starts from the same noise.

    Raises:
        InputError: the sampler is unknown, adapts its steps, or does not suit the training of the model.

    """
    method = _sampler(shown, sampler, frames)
    if not method.fixed_steps:
        raise InputError(f"The sampler {sampler} chooses its own steps.", "Name another sampler.")
    if shown.model is not None:
        check_sampler(shown.model.config, method)
    device = shown.denoiser.schedule.device
    noise = draw_noise(seed, 0, dim=2, draws=method.draws)[:, :n].to(device)
    visited = list(method.states(shown.denoiser, noise[0], noise[1:] if len(noise) > 1 else None))
    chosen = _frames_of(visited, frames)
    states = np.stack([_position(x, level) for level, x in chosen])
    return Process(sampler, np.array([_noise_of(level) for level, _ in chosen]), states)


def _sampler(shown: Shown, name: str, frames: int) -> Sampler:
    """Make a sampler with a few steps for each frame, or as many as the schedule has."""
    schedule = shown.denoiser.schedule
    most = int(schedule.t_max - schedule.t_min) + 1 if schedule.discrete else STEPS_A_FRAME * (frames - 1)
    steps = min(STEPS_A_FRAME * (frames - 1), most)
    sampling = shown.config.sampling.model_copy(update={"sampler": SAMPLERS.check(name), "steps": steps})
    return _SmallNoise.from_config(sampling) if name == Langevin.name else build_sampler(sampling)


def _frames_of(visited: list[T], frames: int) -> list[T]:
    """Choose evenly spaced entries, the first and the last among them."""
    chosen = np.unique(np.linspace(0, len(visited) - 1, frames).round().astype(int))
    return [visited[k] for k in chosen]


def _position(x: Tensor, level: Level) -> FloatArray:
    place: FloatArray = (x / torch.sqrt(level.alpha**2 + level.sigma**2)).cpu().numpy()
    return place


def _noise_of(level: Level) -> float:
    return float(level.sigma / level.alpha) if level.alpha > 0 else float("inf")
