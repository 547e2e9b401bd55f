from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dualdiff_cli.compute.optimiser import FlatParameters, Moments, Rates, adamw, fused_adamw
from dualdiff_cli.seeding import torch_stream


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch_stream(seed, "test"))


@pytest.mark.parametrize("update", [adamw, fused_adamw])
@pytest.mark.parametrize("clip_norm", [None, 0.5, 1e6])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_updates_are_torchs_adamw_on_clipped_gradients(
    clip_norm: float | None, weight_decay: float, update: Callable[..., None]
) -> None:
    w, beta_2 = normal(50, seed=0), 0.98
    theirs = nn.Parameter(w.clone())
    optimizer = torch.optim.AdamW([theirs], betas=(0.9, beta_2), weight_decay=weight_decay)
    moments, rates = Moments.of(w), Rates.on(w.device)
    for n, eta in enumerate((0.1, 0.05, 0.2, 0.0), start=1):
        g = normal(50, seed=n) * 10.0 ** (2 - n)  # norms from 700 to 0.07: some are clipped, some are not
        theirs.grad = g.clone()
        if clip_norm is not None:
            nn.utils.clip_grad_norm_([theirs], clip_norm)
        optimizer.param_groups[0]["lr"] = eta
        optimizer.step()
        rates.fill(eta, n, beta_2=beta_2)
        update(w, g, moments, rates, beta_2=beta_2, weight_decay=weight_decay, clip_norm=clip_norm)
        torch.testing.assert_close(w, theirs.detach(), rtol=1e-5, atol=1e-6)


def test_a_gradient_is_left_as_it_was() -> None:
    w, g = normal(5, seed=0), normal(5, seed=1)
    before, rates = g.clone(), Rates.on(w.device)
    rates.fill(0.1, 1, beta_2=0.99)
    adamw(w, g, Moments.of(w), rates, beta_2=0.99, weight_decay=0.1, clip_norm=0.01)
    assert torch.equal(g, before)


def test_parameters_and_their_vector_are_one_memory() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    before = [p.detach().clone() for p in module.parameters()]
    flat = FlatParameters(module, prefix="inner")
    assert flat.vector.shape == (3 * 4 + 4 + 4 * 2 + 2,)
    assert all(torch.equal(p, b) for p, b in zip(module.parameters(), before, strict=True))
    flat.vector.zero_()
    assert not any(p.any() for p in module.parameters())
    module.load_state_dict({key: torch.ones_like(value) for key, value in module.state_dict().items()})
    assert float(flat.vector.sum()) == len(flat.vector)


def test_a_vector_is_unpacked_into_the_parameters_it_stands_for() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    flat = FlatParameters(module, prefix="inner")
    unpacked = flat.unpack(flat.vector.clone())
    assert list(unpacked) == ["inner.0.weight", "inner.0.bias", "inner.1.weight", "inner.1.bias"]
    for mine, theirs in itertools.zip_longest(unpacked.values(), module.parameters()):
        assert torch.equal(mine, theirs)
