from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import pytest
import torch
from torch import Tensor

from dualdiff_cli.bench.published import (
    MovingAverage,
    NoiseTable,
    PlainNetwork,
    predicted_noise,
    published_loss,
    published_parts,
    published_sampling,
    published_training,
)
from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.config.registry import SAMPLERS
from dualdiff_cli.config.schema import RunConfig
from dualdiff_cli.diffusion.network_denoiser import NetworkDenoiser
from dualdiff_cli.diffusion.samplers.base import Level
from dualdiff_cli.diffusion.schedules.tables import LinearBeta
from dualdiff_cli.models.fitting import build_network_denoiser
from dualdiff_cli.seeding import torch_stream
from dualdiff_cli.training.batches import Batch
from dualdiff_cli.training.loop import Trainer
from dualdiff_cli.training.loss import regression_loss

CPU = torch.device("cpu")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch_stream(seed, "test"))


@pytest.fixture
def denoiser(tiny_config: RunConfig) -> NetworkDenoiser:
    return build_network_denoiser(tiny_config, 2)


@pytest.mark.parametrize("diversity", [0.0, 0.1])
def test_the_loss_is_ours_on_the_same_batch_and_noise(
    tiny_config: RunConfig, denoiser: NetworkDenoiser, diversity: float
) -> None:
    objective = tiny_config.objective.model_copy(update={"diversity": diversity})
    x, epsilon = normal(32, 2), normal(32, 2, seed=1)
    t = torch.randint(100, (32,), generator=torch_stream(2, "test"))
    theirs = published_loss(
        PlainNetwork(denoiser.network), NoiseTable(denoiser.schedule, CPU), objective, x, epsilon, t
    )
    ours = regression_loss(denoiser, objective, Batch(x, epsilon, t.double(), None))
    assert theirs.item() == pytest.approx(ours.item(), rel=1e-5)


@pytest.mark.parametrize("experts", [1, 2, 3])
@pytest.mark.parametrize("name", ["dual-expert", "increased-capacity"])
def test_the_network_is_ours_with_a_layer_for_each_expert(name: str, experts: int) -> None:
    changes = {"experts": experts, "width": 8, "gate_hidden": [8, 4]}
    config = resolve(dataset="line", model=name, recipe="paper", options={"model": changes})
    ours = build_network_denoiser(config, 3).network
    plain = PlainNetwork(ours)
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in ours.parameters())
    x, t = normal(20, 3), torch.arange(20.0) * 5
    torch.testing.assert_close(plain(x, t), ours(x, t, torch.zeros(20)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("time", [99, 50, 1, 0])
def test_a_step_of_sampling_is_the_ancestral_one(denoiser: NetworkDenoiser, time: int) -> None:
    table, x, z = NoiseTable(denoiser.schedule, CPU), normal(64, 2), normal(64, 2, seed=1)
    t = torch.full((64,), time)
    with torch.no_grad():
        theirs = table.step(x, predicted_noise(PlainNetwork(denoiser.network), x, t), t, z)
        levels = SAMPLERS["ancestral"](steps=100).levels(denoiser.schedule)
        now, after = levels[99 - time], levels[100 - time]
        assert isinstance(now, Level)
        ours = SAMPLERS["ancestral"](steps=100).step(denoiser, x.double(), now, after, z[None].double(), [])
    assert (theirs - ours).abs().max() < 1e-5


def test_the_walk_is_the_ancestral_sampler_on_the_same_noise(denoiser: NetworkDenoiser) -> None:
    *_, theirs = published_sampling(*published_parts(denoiser, CPU), 50, dim=2, seed=3, device=CPU)
    draws = torch_stream(3, "published noise")
    noise = torch.stack([torch.randn(50, 2, generator=draws) for _ in range(101)])
    ours = SAMPLERS["ancestral"](steps=100)(denoiser, noise[0], noise[1:-1])
    assert (theirs - ours).abs().max() < 1e-4


def test_the_average_is_ours_after_the_same_weights(tiny_config: RunConfig, denoiser: NetworkDenoiser) -> None:
    """Our trainer's steps, watched: every tensor of its average comes out of the plain one too."""
    training = tiny_config.training.model_copy(update={"log_every": 1, "steps": 20})
    trainer = Trainer(denoiser, normal(100, 2), objective=tiny_config.objective, training=training, seed=0)
    average = MovingAverage(denoiser.network, training)
    for _ in trainer.run():
        average.update()
    for theirs, ours in zip(average.average.parameters(), trainer.average.parameters(), strict=True):
        torch.testing.assert_close(theirs, ours)


def losses(make: Callable[[], object], n: int) -> list[float]:
    return list(islice(make(), n))  # type: ignore[call-overload, no-any-return]


def test_training_lowers_the_loss_and_repeats_from_its_seed(tiny_config: RunConfig) -> None:
    points = 0.1 * normal(64, 2) + 2

    def train() -> object:
        return published_training(
            build_network_denoiser(tiny_config, 2),
            points,
            objective=tiny_config.objective,
            config=tiny_config.training.model_copy(update={"steps": 300, "learning_rate": 1e-2}),
            seed=0,
            device=CPU,
        )

    first = losses(train, 300)
    assert sum(first[-50:]) < 0.9 * sum(first[:50])
    assert losses(train, 20) == first[:20]


def test_the_table_is_ho_et_al() -> None:
    """β linear from 1e-4 to 0.02, β̃ = (1 − ᾱ_{t−1})/(1 − ᾱ_t)·β_t (eq. 7)."""
    beta = torch.linspace(1e-4, 0.02, 100, dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - beta, 0)
    variance = (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:]) * beta[1:]
    table = NoiseTable(LinearBeta(), CPU)
    torch.testing.assert_close(table.columns["posterior_std"][1:], variance.sqrt().float(), rtol=1e-4, atol=0)
    assert table.columns["posterior_std"][0] == 0
