"""Reflow: a second training, on the ends of a trained model's own paths.

The probability flow takes every noise z to one point x. A flow that is trained on these pairs, x_t = (1 − t)x + t z,
has the same ends and straighter paths, which fewer steps can follow (Liu et al. 2023, "Flow Straight and Fast", §2.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checked import refusing
from ..config.registry import SAMPLERS
from ..config.schema import DiffusionConfig
from ..data import Data, TableEncoding
from ..diffusion.denoisers import Denoiser, LearntDenoiser
from ..diffusion.samplers import BLOCK, Reach, draw_noise, points_per_call
from ..errors import InputError
from ..store.run import Run
from .loss import LossEstimate, estimate_loss

__all__ = ["Pairs", "check_teacher", "draw_pairs", "held_out_loss", "try_teacher"]

STEPS = 50
"""Steps of Heun's method along the teacher's flow: 99 evaluations of the network."""
DECIDING = ("sha256", "rows", "dropped_rows", "train_rows", "held_out_rows", "seed")
"""The entries of a provenance that, beside the columns, decide which rows of a file are held out."""
MOST_OUT_OF_REACH = 0.05
"""A teacher of whose points more than this share is not finite or far from all training rows is refused."""
TRIED = 1_000
"""The number of points by which a teacher is judged before the run of its reflow is made."""
FIRST_BLOCK = 2**32
"""The number of the first block of noise of the pairs: the noise of samples never has numbers as high."""


@dataclass(frozen=True)
class Pairs:
    """Points and the noise that flows to them, as features.

    Attributes:
        points, noise: to train on, (n, width) float32.
        held_out: further points and their noise, (2, m, width).
        encoding: the teacher's encoding of the columns.

    """

    points: Tensor
    noise: Tensor
    held_out: Tensor
    encoding: TableEncoding

    def save(self, run: Run) -> None:
        """Keep the pairs in the run, which can then be resumed without the teacher."""
        tensors = {"points": self.points, "noise": self.noise, "held_out": self.held_out}
        run.save_pairs(tensors, self.encoding.model_dump(mode="json"))

    @classmethod
    def load(cls, run: Run) -> Pairs | None:
        """Give the pairs that a run was begun on; None if there are none."""
        kept = run.load_pairs()
        if kept is None:
            return None
        with refusing(f"The pairs of the run {run} are damaged.", "Remove pairs.safetensors to have them drawn again."):
            pairs = cls(**kept[0], encoding=TableEncoding.read(kept[1]))
            if pairs.points.shape[1] != pairs.encoding.width:
                raise ValueError("another number of features")
        return pairs


@torch.no_grad()
def draw_pairs(
    denoiser: Denoiser, encoding: TableEncoding, n: int, *, reach: Reach, seed: int, device: torch.device
) -> Pairs:
    """Draw n pairs and a tenth more to hold out; the same seed gives the same pairs, up to a device's rounding.

    Args:
        denoiser: the teacher's, on the device.
        encoding: the teacher's.
        n: how many pairs.
        reach: how far a point may lie from the training rows; a pair whose point is out of reach is left out.
        seed: of the noise.
        device: where the flow is followed.

    Raises:
        InputError: more than the share `MOST_OUT_OF_REACH` of the points is out of reach.

    """
    wanted = n + max(n // 10, 1)
    sampler = SAMPLERS["heun"](steps=STEPS, grid="log-snr")
    blocks = range(FIRST_BLOCK, FIRST_BLOCK - (-wanted // BLOCK))
    noise = torch.cat([draw_noise(seed, block, dim=encoding.width, draws=1)[0] for block in blocks])[:wanted]
    calls = torch.split(noise, points_per_call(device, len(noise)))
    points = torch.cat([sampler(denoiser, z.to(device)).float().cpu() for z in calls])
    good = torch.from_numpy(reach.holds(points.numpy()))
    lost = wanted - int(good.sum())
    if lost > MOST_OUT_OF_REACH * wanted:
        raise InputError(
            f"{lost:,} of {wanted:,} points to which the teacher's flow leads are not finite or far outside the range "
            "of the training rows.",
            "Train the teacher for longer, or choose another teacher.",
        )
    learnt, rest = good[:n], good[n:]
    return Pairs(points[:n][learnt], noise[:n][learnt], torch.stack([points[n:][rest], noise[n:][rest]]), encoding)


def try_teacher(denoiser: Denoiser, encoding: TableEncoding, *, reach: Reach, seed: int, device: torch.device) -> None:
    """Refuse a teacher of whose first `TRIED` points many are out of reach; see `draw_pairs`."""
    draw_pairs(denoiser, encoding, TRIED, reach=reach, seed=seed, device=device)


def check_teacher(teacher: Run, encoding: TableEncoding, config: DiffusionConfig, data: Data) -> None:
    """Refuse a teacher that has learnt other rows than the reflow is to learn.

    Args:
        teacher: its run.
        encoding: the teacher's.
        config, data: of the reflow.

    Raises:
        InputError: the rows are others, so that some of those which the reflow holds out could have been learnt.

    """
    learnt, before = teacher.config.dataset, teacher.load_data() or {}
    if learnt != config.dataset or encoding.names != data.train.columns:
        raise InputError(
            f"The teacher {teacher} is of the data {learnt}, not of {config.dataset}.",
            "Leave --dataset and --columns out: a reflow takes them from its teacher.",
        )
    if data.density is None and any(before.get(key) != data.provenance.get(key) for key in DECIDING):
        raise InputError(
            f"Rows of {data.name} would be held out that the teacher {teacher} has learnt: the file, the seed or a "
            "setting of the data is not the teacher's.",
            "Leave --seed and all settings of the data out; if the file has changed, train the teacher again.",
        )


def held_out_loss(denoiser: LearntDenoiser, points: Tensor, pairs: Pairs | None, *, seed: int) -> LossEstimate:
    """Estimate the loss on held-out points (n, width) with fresh noise, or for a reflow on the held-out pairs."""
    if pairs is None:
        return estimate_loss(denoiser, points, seed=seed)
    x, z = pairs.held_out.to(points.device)
    return estimate_loss(denoiser, x, noise=z, seed=seed)
