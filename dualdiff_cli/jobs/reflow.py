"""Reflow: a second training, on the ends of a trained run's own paths.

The probability flow takes every noise z to one point x. A flow that is trained on these pairs, x_t = (1 − t)x + t z,
has the same ends and straighter paths, which fewer steps follow (Liu et al. 2023, "Flow Straight and Fast", §2.2).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..config.registry import SAMPLERS
from ..config.schema import RunConfig
from ..data import Data, Scaler
from ..diffusion.denoisers import NetworkDenoiser
from ..diffusion.samplers import BLOCK, draw_noise, points_per_call
from ..errors import InputError
from ..models.diffusion import TrainedModel
from ..store.run import Run
from ..training.loss import LossEstimate, estimate_loss

__all__ = ["Pairs", "draw_pairs", "held_out_loss", "kept_pairs", "load_teacher"]

STEPS = 50
"""Of Heun's method, along the teacher's flow: 99 evaluations."""
FIRST_BLOCK = 2**32
"""Where the pairs' noise begins: no sample's noise is numbered so high."""


@dataclass(frozen=True)
class Pairs:
    """Points and the noise that flows to them, in the teacher's units.

    Attributes:
        points, noise: to train on, (n, d) float32.
        held_out: further points and their noise, (2, m, d).
        scaler: the teacher's.

    """

    points: Tensor
    noise: Tensor
    held_out: Tensor
    scaler: Scaler

    def save(self, run: Run) -> None:
        """Keep them in the run, which can then be resumed without its teacher."""
        tensors = {"points": self.points, "noise": self.noise, "held_out": self.held_out}
        run.save_pairs(tensors, json.dumps(self.scaler.to_dict()))


def kept_pairs(run: Run) -> Pairs | None:
    """Give the pairs that a run was begun on, None if there are none."""
    kept = run.load_pairs()
    return None if kept is None else Pairs(**kept[0], scaler=Scaler.from_dict(json.loads(kept[1])))


def load_teacher(config: RunConfig, data: Data, device: torch.device) -> TrainedModel:
    """Read the run that a configuration names as its teacher.

    Raises:
        InputError: it is not finished, or has learnt other points.

    """
    assert config.objective.teacher is not None, "only a reflow has a teacher"
    run = Run.open(Path(config.objective.teacher))
    teacher = TrainedModel.load(run, device)
    if teacher.config.dataset != config.dataset or teacher.columns != data.columns:
        raise InputError(
            f"The teacher {run} is of the data {teacher.config.dataset}, not of {config.dataset}.",
            "Leave --dataset and --columns out: a reflow takes them from its teacher.",
        )
    if data.density is None and teacher.config.seed != config.seed:
        raise InputError(
            f"With seed {config.seed} rows of {data.name} would be held out that the teacher {run} has learnt.",
            f"Leave --seed out, or use its seed, {teacher.config.seed}.",
        )
    return teacher


@torch.no_grad()
def draw_pairs(teacher: TrainedModel, n: int, *, seed: int) -> Pairs:
    """Draw n pairs and a tenth more to hold out; the same ones for the same seed, but for a device's rounding."""
    wanted = n + max(n // 10, 1)
    sampler, dim, device = SAMPLERS["heun"](steps=STEPS, grid="log-snr"), len(teacher.columns), teacher.device
    noise = torch.cat(
        [draw_noise(seed, FIRST_BLOCK + block, dim=dim, draws=1)[0] for block in range(-(-wanted // BLOCK))]
    )[:wanted]
    calls = torch.split(noise, points_per_call(device, len(noise)))
    points = torch.cat([sampler(teacher.denoiser, z.to(device)).float().cpu() for z in calls])
    return Pairs(points[:n], noise[:n], torch.stack([points[n:], noise[n:]]), teacher.scaler)


def held_out_loss(denoiser: NetworkDenoiser, points: Tensor, pairs: Pairs | None, *, seed: int) -> LossEstimate:
    """Loss on held-out points (n, d) with fresh noise, or of a reflow on the pairs that were held out."""
    if pairs is None:
        return estimate_loss(denoiser, points, seed=seed)
    x, z = pairs.held_out.to(points.device)
    return estimate_loss(denoiser, x, noise=z, seed=seed)
