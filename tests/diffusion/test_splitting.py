"""A device with too little memory: calls are halved, the samples stay the same, and the user is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dualdiff_cli.diffusion.samplers import BLOCK, generate_by
from dualdiff_cli.diffusion.samplers.splitting import SplitWalk

N = 5 * BLOCK + 17


class Device:
    """Makes samples of noise, at most so many at once; what a GPU does without memory is all that it has of one."""

    def __init__(self, holds: int) -> None:
        self._holds = holds
        self.calls: list[int] = []

    def walk(self, noise: Tensor, step_noise: Tensor | None) -> Tensor:
        if len(noise) > self._holds:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.calls.append(len(noise))
        return noise.double() if step_noise is None else noise.double() + step_noise.sum(0)


def drawn(device: Device, *, draws: int) -> np.ndarray:
    walk = SplitWalk(device.walk, least=BLOCK)
    return np.concatenate(list(generate_by(walk, N, dim=2, draws=draws, seed=0, per_call=8 * BLOCK)))


@pytest.mark.parametrize("draws", [1, 3])
def test_a_device_with_too_little_memory_draws_the_same_rows_with_smaller_calls(draws: int) -> None:
    large, small = Device(100 * BLOCK), Device(2 * BLOCK)
    expected = drawn(large, draws=draws)
    with pytest.warns(UserWarning, match="too little memory"):
        found = drawn(small, draws=draws)
    assert np.array_equal(found, expected)
    assert large.calls == [N]
    assert max(small.calls) <= 2 * BLOCK
    assert sum(small.calls) == N


def test_a_device_that_cannot_hold_one_block_is_out_of_memory() -> None:
    with pytest.warns(UserWarning, match="too little memory"), pytest.raises(torch.OutOfMemoryError):
        drawn(Device(BLOCK - 1), draws=1)
