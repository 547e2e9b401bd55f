"""The loss on held-out rows while a training runs: the same rows, noise levels and noise each time."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import seeding
from ..diffusion.network_denoiser import NetworkDenoiser
from ..diffusion.schedules import Schedule

__all__ = ["MOST_JUDGED", "HeldOutRows"]

MOST_JUDGED = 2_048
"""The largest number of rows that are judged, so that judging takes a small part of a training."""


class HeldOutRows:
    """Rows that a training does not learn, with noise that stays the same, so that losses differ by the weights alone.

    Args:
        points: clean held-out rows, (m, d), on the device of the training; at most `MOST_JUDGED` of them are used.
        schedule: gives the times, one in each of equal slices of the time axis, in random order, since a file may be
            sorted.
        seed: of the rows that are used, and of the times and the noise, which are drawn from a stream of their own.
        noise: the noise that belongs to each row, (m, d); None draws the noise.

    """

    def __init__(self, points: Tensor, schedule: Schedule, *, seed: int, noise: Tensor | None = None) -> None:
        def judged(rows: Tensor) -> Tensor:
            return seeding.subsample(rows, MOST_JUDGED, seed=seed, role="judged rows")

        self.points = judged(points)
        stream = seeding.torch_stream(seed, "held-out curve", points.device)
        times = schedule.draw(len(self.points), stream, stratified=True)
        self.t = times[torch.randperm(len(times), generator=stream, device=times.device)]
        drawn = torch.randn(self.points.shape, generator=stream, device=points.device)
        self.noise = drawn if noise is None else judged(noise)

    @torch.no_grad()
    def loss(self, denoiser: NetworkDenoiser) -> Tensor:
        """Give the mean squared error of the network's output, as `estimate_loss` does, without waiting for the device.

        Returns:
            Shape (), on the device.

        """
        return denoiser.regression(self.points, self.noise, self.t).squared_errors.mean()
