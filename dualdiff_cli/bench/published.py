"""The published training and sampling, written plainly: the yardstick that our times stand beside.

It is the usual experiment script's way: layers of their own for each expert, one evaluated after the other, a data
loader that indexes point by point and stacks, schedule, optimiser and average stepped through their objects, the loss
read every step, and all points walking at once with a time each. Weights and equations are those of the rest of the
package (paper, "Networks" and "Training, sampling, scoring"), and tests hold them to that. It is there to be timed:
what trains and samples is `networks`, `training` and `samplers`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ..compute.device import generator
from ..compute.optimiser import ema_decay
from ..config.schema import ObjectiveConfig, TrainingConfig
from ..diffusion.denoisers import NetworkDenoiser
from ..diffusion.networks.embeddings import PaperEmbedding, SinusoidalEmbedding
from ..diffusion.networks.experts import GatedExperts, ResidualMLP
from ..diffusion.networks.layers import GroupedLinear, ResidualBlock, Trunk
from ..diffusion.schedules.tables import TableSchedule
from ..training.loss import diversity

__all__ = ["MovingAverage", "NoiseTable", "PlainNetwork", "published_loss", "published_sampling", "published_training"]


class PlainMLP(nn.Module):
    """Linear → residual blocks → head, with the weights of one of a `Trunk`'s MLPs."""

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
    """The paper's network as published, with the weights of one of ours.

    Args:
        network: of the recipe `paper`; it is left alone.

    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        assert isinstance(network, ResidualMLP | GatedExperts), "the paper has one network, or experts and a gate"
        assert isinstance(network.point, PaperEmbedding), "the paper embeds points as it does times"
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
    """The forward process and its posterior, one row of a β table at a time (Ho et al. 2020, eq. 4, 6, 7 and 15).

    Args:
        schedule: whose ᾱ the table is of.
        device: where the points are.

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
        """One column's values at times t (n,) → (n, 1)."""
        return self.columns[name][t].reshape(-1, 1)

    def add_noise(self, x: Tensor, epsilon: Tensor, t: Tensor) -> Tensor:
        """x_t = √ᾱ_t x + √(1 − ᾱ_t) ε; x, ε (n, d), t (n,)."""
        return self.at(t, "signal") * x + self.at(t, "noise") * epsilon

    def step(self, x_t: Tensor, epsilon: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """x_{t−1} ~ q(x_{t−1} | x_t, x̂) with x̂ from the predicted noise ε; x_t, ε, z (n, d), t (n,)."""
        clean = (x_t - self.at(t, "noise") * epsilon) / self.at(t, "signal")
        mean = self.at(t, "from_clean") * clean + self.at(t, "from_noisy") * x_t
        moved: Tensor = mean + self.at(t, "posterior_std") * z
        return moved


class MovingAverage:
    """The average of a network's weights, moved one tensor at a time.

    Args:
        network: whose weights.
        config: how often, and how far (`training.ema_decay`).

    """

    def __init__(self, network: nn.Module, config: TrainingConfig) -> None:
        self.network, self.config = network, config
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Count a step, and move the average where one is due."""
        self.steps += 1
        if self.steps % self.config.ema_every:
            return
        decay = ema_decay(self.steps, self.config)
        for mean, parameter in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(parameter, 1 - decay)


def predicted_noise(network: nn.Module, x_t: Tensor, t: Tensor) -> Tensor:
    """ε̂ (n, d) at x_t (n, d) with a time for each, t (n,)."""
    epsilon: Tensor = network(x_t, t.float())
    return epsilon


def published_loss(
    network: nn.Module, table: NoiseTable, objective: ObjectiveConfig, x: Tensor, epsilon: Tensor, t: Tensor
) -> Tensor:
    """‖ε̂ − ε‖² as a mean over n and d, and λ·L_div where the objective has a λ; ()."""
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
    """Train a network, one loss a step, for as long as it is asked.

    Args:
        denoiser: predicts noise under a table, on the device; its weights are where the training begins.
        points: clean training points (N, d), on the CPU, where the loader stacks them.
        objective, config: λ, and what the optimiser and the average are told.
        seed: of the order of the points, the noise and the times.
        device: where the network is.

    """
    network, table = PlainNetwork(denoiser.network), _table(denoiser, device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config.steps)
    average = MovingAverage(network, config)
    order, draws = torch.Generator().manual_seed(seed), generator(seed, device)
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
    denoiser: NetworkDenoiser, n: int, *, dim: int, seed: int, device: torch.device
) -> Iterator[Tensor]:
    """Walk n points at once down the whole table, giving them, (n, dim), after each of its T steps.

    Args:
        denoiser: predicts noise under a table, on the device.
        n, dim: number of points and columns.
        seed: of the noise.
        device: where the network is.

    """
    network, table, draws = PlainNetwork(denoiser.network), _table(denoiser, device), generator(seed, device)
    x = torch.randn(n, dim, generator=draws, device=device)
    for time in reversed(range(table.length)):
        t = torch.full((n,), time, device=device)
        z = torch.randn(x.shape, generator=draws, device=device)
        x = table.step(x, predicted_noise(network, x, t), t, z)
        yield x


def _table(denoiser: NetworkDenoiser, device: torch.device) -> NoiseTable:
    schedule = denoiser.schedule
    assert isinstance(schedule, TableSchedule), "the published loops know tables only"
    assert denoiser.prediction == "noise", "the published network predicts noise"
    return NoiseTable(schedule, device)
