"""Gaussian and multinomial diffusion together, against rows of a known distribution."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from dualdiff_cli import seeding
from dualdiff_cli.diffusion.mixed import MixedDiffusion
from dualdiff_cli.diffusion.networks.timed import TimedMLP
from dualdiff_cli.diffusion.schedules.tables import Cosine

ALPHA_BAR = Cosine(length=100).log_snr_table.sigmoid()
SHARES = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
MEANS = torch.tensor([-1.5, 0.0, 2.0], dtype=torch.float64)
SPREAD = 0.4
"""Rows of one category c ~ SHARES and one number z | c ~ N(MEANS[c], SPREAD²)."""


class Exact(nn.Module):
    """The best answer of a network for these rows, in closed form."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        alpha_bar = ALPHA_BAR[t][:, None]
        z, log_ct = x[:, :1].double(), x[:, 1:].double()
        variance = alpha_bar * SPREAD**2 + 1 - alpha_bar
        residual = z - alpha_bar.sqrt() * MEANS
        by_number = SHARES.log() - residual**2 / (2 * variance)  # log p(c_0 | z_t), without what c_t says
        by_both = by_number + torch.log(alpha_bar * log_ct.exp() + (1 - alpha_bar) / 3)
        eps = ((1 - alpha_bar).sqrt() * residual / variance * by_both.softmax(dim=1)).sum(dim=1, keepdim=True)
        return torch.cat([eps, by_number], dim=1)


def rows(n: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Numbers (n, 1) and places (n, 1)."""
    c = torch.multinomial(SHARES, n, replacement=True, generator=stream)
    return (MEANS[c] + SPREAD * torch.randn(n, generator=stream, dtype=torch.float64))[:, None], c[:, None]


def noise(n: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Normal numbers (n, 1) and uniform numbers (n, 3)."""
    eps = torch.randn(n, 1, generator=stream, dtype=torch.float64)
    return eps, torch.rand(n, 3, generator=stream, dtype=torch.float64)


def test_the_reverse_chain_of_the_exact_network_draws_numbers_and_categories_that_belong_together() -> None:
    n, stream = 20_000, seeding.torch_stream(0, "rows")
    diffusion = MixedDiffusion(Exact(), ALPHA_BAR, numbers=1, sizes=[3])
    x = diffusion.noise(*noise(n, stream))
    for t in reversed(range(diffusion.steps)):
        x = diffusion.step(x, t, *noise(n, stream))
    z, c = x[:, 0], diffusion.multinomial.places(x[:, 1:])[:, 0]
    assert_close(torch.bincount(c) / n, SHARES.float(), atol=0.015, rtol=0)
    for k in range(3):
        assert float(z[c == k].mean()) == pytest.approx(float(MEANS[k]), abs=0.05)
        assert float(z[c == k].std()) == pytest.approx(SPREAD, abs=0.06)


def test_the_exact_network_has_the_least_loss() -> None:
    stream = seeding.torch_stream(0, "loss")
    z, places = rows(20_000, stream)
    t = torch.randint(100, (len(z),), generator=stream)
    eps, u = noise(len(z), stream)

    class Shifted(Exact):
        def __init__(self, entry: int) -> None:
            super().__init__()
            self.entry = entry

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            answer = super().forward(x, t)
            answer[:, self.entry] += 1.0
            return answer

    def loss(network: nn.Module) -> float:
        diffusion = MixedDiffusion(network, ALPHA_BAR, numbers=1, sizes=[3])
        return float(diffusion.loss(diffusion.clean(z, places), t, eps, u).mean())

    least = loss(Exact())
    assert all(loss(Shifted(entry)) > least + 0.005 for entry in range(4))


def test_the_loss_of_a_gaussian_is_known() -> None:
    """For z ~ N(0, s²), E‖ε − ε̂‖² = ᾱs²/(ᾱs² + 1 − ᾱ)."""
    s, stream = 0.7, seeding.torch_stream(0, "gaussian")

    class Best(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            alpha_bar = ALPHA_BAR[t][:, None]
            return (1 - alpha_bar).sqrt() * x / (alpha_bar * s**2 + 1 - alpha_bar)

    diffusion = MixedDiffusion(Best(), ALPHA_BAR, numbers=1, sizes=[])
    n = 400
    t = torch.arange(100).repeat_interleave(n)
    eps = torch.randn(len(t), 1, generator=stream, dtype=torch.float64)
    z = s * torch.randn(len(t), 1, generator=stream, dtype=torch.float64)
    places = torch.empty(len(t), 0, dtype=torch.long)
    loss = diffusion.loss(diffusion.clean(z, places), t, eps, torch.empty(len(t), 0)).reshape(100, n).mean(dim=1)
    known = ALPHA_BAR * s**2 / (ALPHA_BAR * s**2 + 1 - ALPHA_BAR)
    assert_close(loss / known, torch.ones(100, dtype=torch.float64), atol=6 * math.sqrt(2 / n), rtol=0)


def test_the_last_step_of_numbers_is_the_mean_and_needs_no_noise() -> None:
    diffusion = MixedDiffusion(Exact(), ALPHA_BAR, numbers=1, sizes=[3])
    stream = seeding.torch_stream(0, "last")
    x = diffusion.noise(*noise(5, stream))
    first, second = (diffusion.step(x, 0, *noise(5, stream))[:, 0] for _ in range(2))
    assert torch.equal(first, second)


def test_the_network_sees_the_time_and_is_made_of_its_seed_alone() -> None:
    nets = [TimedMLP(5, (16, 8), generator=seeding.torch_stream(seed, "weights")) for seed in (0, 0, 1)]
    x = torch.randn(4, 5, generator=seeding.torch_stream(0, "x"))
    early, again, other = (net(x, torch.tensor([3])) for net in nets)
    assert early.shape == x.shape
    assert torch.equal(early, again)
    assert not torch.equal(early, other)
    assert not torch.allclose(early, nets[0](x, torch.tensor([500])))
    assert_close(nets[0](x, torch.full((4,), 3)), early)
