"""The points of a diffusion on their way, from noise to data and back: what `animate` and `explore` show.

Positions are those of x_t/√(α² + σ²), which are of order one at every noise level. They equal the noise where nothing
is left of the data, and the data at the clean end. Their unit is that of the features, in which the data have about
unit variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..config.registry import SAMPLERS
from ..data import FloatArray
from ..diffusion.samplers import Level, Sampler, build_sampler, draw_noise
from ..diffusion.samplers.langevin import Langevin
from ..diffusion.schedules import Schedule
from ..errors import InputError
from ..models.diffusion import check_sampler
from .shown import Shown

__all__ = ["Process", "forward_process", "reverse_process"]

T = TypeVar("T")

STEPS_A_FRAME = 2
"""Steps of a sampler between two frames."""
LANGEVIN_NOISE = 0.1
"""σ/α of the Langevin dynamics."""


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


class _SmallNoise(Langevin):
    """Langevin dynamics at a level with so much noise that a point reaches a mode within the frames."""

    def levels(self, schedule: Schedule) -> list[Level]:
        """Give the level nearest to `LANGEVIN_NOISE` N times and the clean end; see `Sampler.levels`."""
        *visited, clean = Sampler.levels(self, schedule)
        nearest = min(visited, key=lambda level: abs(float(level.lam) + math.log(LANGEVIN_NOISE)))
        return [nearest] * self.steps + [clean]


def forward_process(shown: Shown, *, frames: int, seed: int) -> Process:
    """Noise the true points with the same ε at every level: the noise that the samplers start from."""
    schedule = shown.denoiser.schedule
    levels = _frames_of(_sampler(shown, "ddim", frames).levels(schedule), frames)
    clean = torch.from_numpy(shown.points).to(schedule.device)
    epsilon = draw_noise(seed, 0, dim=shown.width, draws=1)[0, : len(clean), list(shown.plane)].double().to(clean)
    states = [_position(level.alpha * clean + level.sigma * epsilon, level) for level in levels]
    return Process("forward", np.array([_noise_of(level) for level in levels]), np.stack(states))


def reverse_process(shown: Shown, sampler: str, *, n: int, frames: int, seed: int, guidance: float = 1.0) -> Process:
    """Let a sampler turn noise into n points; every sampler starts from the same noise.

    Args:
        shown: whose diffusion is shown.
        sampler: its name.
        n: the number of points.
        frames: the number of states that are kept of each point.
        seed: of the noise.
        guidance: how strongly the points follow the given cells, W of `GuidedDenoiser`.

    Raises:
        InputError: the sampler is unknown, adapts its steps, or does not suit the training of the model.

    """
    sampler = SAMPLERS.check(sampler)
    method = _sampler(shown, sampler, frames)
    if not method.fixed_steps:
        raise InputError(f"The sampler {sampler} chooses its own steps.", "Name another sampler.")
    if shown.model is not None:
        check_sampler(shown.model.config, method)
    device = shown.denoiser.schedule.device
    noise = draw_noise(seed, 0, dim=shown.width, draws=method.draws)[:, :n].to(device)
    visited = list(method.states(shown.guided(guidance), noise[0], noise[1:] if len(noise) > 1 else None))
    chosen = _frames_of(visited, frames)
    states = np.stack([_position(x[:, list(shown.plane)], level) for level, x in chosen])
    return Process(sampler, np.array([_noise_of(level) for level, _ in chosen]), states)


def _sampler(shown: Shown, name: str, frames: int) -> Sampler:
    """Make a sampler with a few steps for each frame, or as many as the schedule has."""
    schedule = shown.denoiser.schedule
    most = int(schedule.t_max - schedule.t_min) + 1 if schedule.discrete else STEPS_A_FRAME * (frames - 1)
    steps = min(STEPS_A_FRAME * (frames - 1), most)
    sampling = shown.config.sampling.model_copy(update={"sampler": name, "steps": steps})
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
