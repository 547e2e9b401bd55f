"""The published training and sampling, written plainly: the reference that our own times are compared with.

It is written the way experiment scripts usually are: every expert has layers of its own, and experts are evaluated one
after the other; a data loader indexes point by point and stacks the points; schedule, optimiser and weight average are
objects that are stepped; the loss is read at every step; and all points are sampled at once, each with its own time.
Weights and equations are the same as in the rest of the package (paper, "Networks" and "Training, sampling, scoring"),
and tests hold them equal. This module is only timed; `training` and `diffusion` do the real work.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ..compute.optimiser import ema_decay
from ..config.sections import ObjectiveConfig, TrainingConfig
from ..diffusion.network_denoiser import NetworkDenoiser
from ..diffusion.networks.embeddings import PaperEmbedding, SinusoidalEmbedding
from ..diffusion.networks.experts import GatedExperts, ResidualMLP
from ..diffusion.networks.layers import GroupedLinear, ResidualBlock, Trunk
from ..diffusion.schedules.tables import TableSchedule
from ..errors import InputError
from ..seeding import torch_stream
from ..training.loss import diversity

__all__ = [
    "MovingAverage",
    "NoiseTable",
    "PlainNetwork",
    "published_loss",
    "published_parts",
    "published_sampling",
    "published_training",
]

WITHOUT_PUBLISHED = "Leave the backend published out, or the settings that change the paper's recipe."


class PlainMLP(nn.Module):
    """Linear → residual blocks → head, with the weights of one group of a `Trunk`."""

    def __init__(self, trunk: Trunk, group: int) -> None:
        super().__init__()
        blocks, head = cast(Iterable[ResidualBlock], trunk.blocks), cast(Iterable[GroupedLinear], trunk.head)
        self.first = _linear(trunk.first, group)
        self.blocks = nn.ModuleList(_linear(block.linear, group) for block in blocks)
        self.head = nn.ModuleList(_linear(layer, group) for layer in head)

    def forward(self, e: Tensor) -> Tensor:
        """(n, width_x + width_t) → (n, out)."""
        h: Tensor = self.first(e)
        for linear in self.blocks:
            h = h + linear(nn.functional.relu(h))
        for linear in self.head:
            h = linear(nn.functional.relu(h))
        return h


def _linear(layer: GroupedLinear, group: int) -> nn.Linear:
    _, width_in, width_out = layer.weight.shape
    plain = nn.Linear(width_in, width_out, device=layer.weight.device)
    with torch.no_grad():
        plain.weight.copy_(layer.weight[group].T)
        plain.bias.copy_(layer.bias[group].flatten())
    return plain


class PlainNetwork(nn.Module):
    """The paper's network as published, with the weights of one of our networks.

    Args:
        network: a network of the recipe `paper`; its weights are copied.

    Raises:
        InputError: the paper has no such network.

    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if not isinstance(network, ResidualMLP | GatedExperts):
            raise InputError("The paper has one network, or experts and a gate.", WITHOUT_PUBLISHED)
        if not isinstance(network.point, PaperEmbedding):
            raise InputError("The paper embeds points as it does times.", WITHOUT_PUBLISHED)
        self.point: SinusoidalEmbedding = copy.deepcopy(network.point.phi)
        self.time = copy.deepcopy(network.time)
        trunks = network.trunk if isinstance(network, ResidualMLP) else network.trunks
        self.experts = nn.ModuleList(PlainMLP(trunks, i) for i in range(network.experts))
        self.gate = PlainMLP(network.gate_trunk, 0) if isinstance(network, GatedExperts) else None

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """ε̂ for points x (n, d) at times t (n,) → (n, d)."""
        e = torch.cat([self.point(x).flatten(1), self.time(t)], dim=1)
        outputs = [expert(e) for expert in self.experts]
        if self.gate is None:
            mixed: Tensor = outputs[0]
        elif len(outputs) == 2:
            g = torch.sigmoid(self.gate(e))
            mixed = g * outputs[0] + (1 - g) * outputs[1]
        else:
            mixed = (torch.softmax(self.gate(e), dim=1).unsqueeze(1) * torch.stack(outputs, dim=2)).sum(2)
        return mixed


class NoiseTable:
    """The forward process and its posterior as tables over t (Ho et al. 2020, eq. 4, 6, 7 and 15).

    Args:
        schedule: the schedule that gives ᾱ_t.
        device: the device of the points.

    """

    def __init__(self, schedule: TableSchedule, device: torch.device) -> None:
        alpha_bar = schedule(torch.arange(int(schedule.t_max) + 1, device=schedule.device))[0] ** 2
        before = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])
        beta = 1 - alpha_bar / before
        columns = {
            "signal": alpha_bar.sqrt(),
            "noise": (1 - alpha_bar).sqrt(),
            "from_clean": before.sqrt() * beta / (1 - alpha_bar),
            "from_noisy": (1 - beta).sqrt() * (1 - before) / (1 - alpha_bar),
            "posterior_std": (beta * (1 - before) / (1 - alpha_bar)).sqrt(),
        }
        self.columns: dict[str, Tensor] = {name: column.float().to(device) for name, column in columns.items()}
        self.length = len(alpha_bar)

    def at(self, t: Tensor, name: str) -> Tensor:
        """Give the values of one column at the times t (n,), as (n, 1)."""
        return self.columns[name][t].reshape(-1, 1)

    def add_noise(self, x: Tensor, epsilon: Tensor, t: Tensor) -> Tensor:
        """Give x_t = √ᾱ_t x + √(1 − ᾱ_t) ε (n, d); x, ε (n, d), t (n,)."""
        return self.at(t, "signal") * x + self.at(t, "noise") * epsilon

    def step(self, x_t: Tensor, epsilon: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """Draw x_{t−1} ~ q(x_{t−1} | x_t, x̂), with x̂ from the predicted noise ε; x_t, ε, z (n, d), t (n,)."""
        clean = (x_t - self.at(t, "noise") * epsilon) / self.at(t, "signal")
        mean = self.at(t, "from_clean") * clean + self.at(t, "from_noisy") * x_t
        moved: Tensor = mean + self.at(t, "posterior_std") * z
        return moved


class MovingAverage:
    """The exponential moving average (EMA) of a network's weights, updated one tensor at a time.

    Args:
        network: the network whose weights are averaged.
        config: gives the interval between updates and the EMA decay; see `compute.optimiser.ema_decay`.

    """

    def __init__(self, network: nn.Module, config: TrainingConfig) -> None:
        self.network, self.config = network, config
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Count a training step, and update the average if an update is due."""
        self.steps += 1
        if self.steps % self.config.ema_every:
            return
        decay = ema_decay(self.steps, self.config)
        for mean, parameter in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(parameter, 1 - decay)


def predicted_noise(network: nn.Module, x_t: Tensor, t: Tensor) -> Tensor:
    """Give ε̂ (n, d) at the points x_t (n, d) and their times t (n,)."""
    epsilon: Tensor = network(x_t, t.float())
    return epsilon


def published_loss(
    network: nn.Module, table: NoiseTable, objective: ObjectiveConfig, x: Tensor, epsilon: Tensor, t: Tensor
) -> Tensor:
    """Give the mean of (ε̂ − ε)² over n and d, plus λ·L_div if the objective has a diversity weight λ; shape ()."""
    prediction = predicted_noise(network, table.add_noise(x, epsilon, t), t)
    loss = nn.functional.mse_loss(prediction, epsilon)
    return loss + objective.diversity * diversity(prediction) if objective.diversity else loss


def published_training(
    denoiser: NetworkDenoiser,
    points: Tensor,
    *,
    objective: ObjectiveConfig,
    config: TrainingConfig,
    seed: int,
    device: torch.device,
) -> Iterator[float]:
    """Train a network without end, and yield the loss after each step.

    Args:
        denoiser: a denoiser on the device that predicts noise and has a table schedule; gives the initial weights.
        points: clean training points (N, d), on the CPU, where the data loader stacks them.
        objective, config: the loss, and the settings of the optimiser and of the average.
        seed: seed of the order of the points, of the noise and of the times.
        device: the device of the network.

    """
    network, table = published_parts(denoiser, device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config.steps)
    average = MovingAverage(network, config)
    order, draws = torch_stream(seed, "published order"), torch_stream(seed, "published noise", device)
    loader = DataLoader(TensorDataset(points), batch_size=config.batch, shuffle=True, generator=order)
    while True:
        for (batch,) in loader:
            x = batch.to(device)
            epsilon = torch.randn(x.shape, generator=draws, device=device)
            t = torch.randint(table.length, (len(x),), generator=draws, device=device)
            loss = published_loss(network, table, objective, x, epsilon, t)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            annealing.step()
            average.update()
            yield loss.item()


@torch.no_grad()
def published_sampling(
    network: PlainNetwork, table: NoiseTable, n: int, *, dim: int, seed: int, device: torch.device
) -> Iterator[Tensor]:
    """Sample n points at once, and yield all points (n, dim) after each of the T steps.

    Args:
        network, table: see `published_parts`; whoever samples often makes them once.
        n, dim: number of points, and of their coordinates.
        seed: seed of the noise.
        device: the device of the network and of the table.

    """
    draws = torch_stream(seed, "published noise", device)
    x = torch.randn(n, dim, generator=draws, device=device)
    for time in reversed(range(table.length)):
        t = torch.full((n,), time, device=device)
        z = torch.randn(x.shape, generator=draws, device=device)
        x = table.step(x, predicted_noise(network, x, t), t, z)
        yield x


def published_parts(denoiser: NetworkDenoiser, device: torch.device) -> tuple[PlainNetwork, NoiseTable]:
    """Make the network and the table of the published loops.

    Args:
        denoiser: a denoiser on the device that predicts noise and has a table schedule; its weights are copied.
        device: the device of both.

    Raises:
        InputError: the paper has no such network, prediction or schedule.

    """
    network, schedule = PlainNetwork(denoiser.network), denoiser.schedule
    if not isinstance(schedule, TableSchedule):
        raise InputError("The published loops need a schedule that is a table.", WITHOUT_PUBLISHED)
    if denoiser.prediction != "noise":
        raise InputError("The published network predicts noise.", WITHOUT_PUBLISHED)
    return network, NoiseTable(schedule, device)
