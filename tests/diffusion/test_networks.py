"""Whole networks: against independent transcriptions, and what every network has to fulfil."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from small_networks import PRECISE, any_network, batch, embedded, published, small, variant
from torch import nn

from dualdiff_cli.config.recipes import MODELS, resolve
from dualdiff_cli.diffusion.networks.experts import (
    ChosenExperts,
    GatedExperts,
    count_parameters,
)


def test_the_precise_network_is_the_one_of_the_recipe() -> None:
    left_open = {**PRECISE, "finest_frequency": None}
    assert resolve(dataset="line", recipe="precise").model == variant("dual-expert", **left_open)


def test_constants_are_no_part_of_the_weights() -> None:
    network = small("dual-expert")
    assert network.state_dict().keys() == dict(network.named_parameters()).keys()
    assert sum(v.numel() for v in network.state_dict().values()) == count_parameters(network)


@pytest.mark.parametrize("head_hidden", [[], [6, 4]])
def test_one_network_equals_an_independent_transcription(head_hidden: list[int]) -> None:
    network, (x, t, s) = small("baseline", head_hidden=head_hidden), batch()
    expected = published(network.state_dict(), "trunk.", embedded(x, t), blocks=2)
    assert_allclose(network(x, t, s).detach(), expected, atol=1e-4)


@any_network
@pytest.mark.parametrize("name", ["baseline", "dual-expert"])
def test_one_time_for_all_points_equals_that_time_for_each(name: str, settings: dict[str, Any]) -> None:
    network, (x, _, _) = small(name, **settings), batch()
    one = torch.tensor([37.0]), torch.tensor([0.3])
    each = [c.expand(5) for c in one]
    assert_allclose(network(x, *one).detach(), network(x, *each).detach(), atol=1e-6)
    if isinstance(network, GatedExperts | ChosenExperts):
        assert network.gate(x, *one).shape == (5, 2)
        assert_allclose(network.gate(x, *one).detach(), network.gate(x, *each).detach(), atol=1e-6)


@any_network
@pytest.mark.parametrize("name", ["baseline", "dual-expert"])
def test_points_do_not_see_each_other(name: str, settings: dict[str, Any]) -> None:
    network, (x, t, s) = small(name, **settings), batch()
    alone = torch.cat([network(*(c[i : i + 1] for c in (x, t, s))) for i in range(5)])
    assert_allclose(network(x, t, s).detach(), alone.detach(), atol=1e-6)


def with_time_biases(network: nn.Module, value: float) -> nn.Module:
    with torch.no_grad():
        for name, p in network.named_parameters():
            if ".time." in name:
                p.fill_(value)
    return network


def test_biases_by_time_start_without_effect_and_can_have_one() -> None:
    told, untold = small("dual-expert", time_bias=True), small("dual-expert")
    biases = [name for name in told.state_dict() if ".time." in name]
    assert len(biases) == 2 * 2  # weight and bias of two blocks, for both experts at once: the gate has no block
    shared = {name: value for name, value in told.state_dict().items() if name not in biases}
    untold.load_state_dict(shared)
    inputs = batch()
    start = told(*inputs)
    assert torch.equal(start, untold(*inputs))
    assert not torch.isclose(with_time_biases(told, 0.1)(*inputs), start).any()


def test_a_block_that_is_told_the_time_equals_an_independent_transcription() -> None:
    network, (x, t, s) = small("baseline", **PRECISE, head_hidden=[6]), batch()
    with_time_biases(network, 0.05)
    state = {name: value.double().numpy() for name, value in network.state_dict().items()}

    def linear(name: str, h: np.ndarray) -> np.ndarray:
        return h @ state[f"trunk.{name}.weight"][0] + state[f"trunk.{name}.bias"][0]

    def silu(h: np.ndarray) -> np.ndarray:
        return h / (1 + np.exp(-h))

    e_t = embedded(x[:, :0], t)
    f = 50.0 ** (np.arange(64) / 63)
    angles, fade = x.double().numpy()[:, :, None] * f, np.exp(-((f * s.double().numpy()[:, None]) ** 2) / 2)[:, None]
    e_x = np.concatenate([(np.sin(angles) * fade).reshape(5, -1), (np.cos(angles) * fade).reshape(5, -1), x], axis=1)
    h = linear("first", np.concatenate([e_x, e_t], axis=1))
    for i in range(2):
        h = h + linear(f"blocks.{i}.linear", silu(h + linear(f"blocks.{i}.time", e_t)))
    expected = linear("head.1", silu(linear("head.0", silu(h))))
    assert_allclose(network(x, t, s).detach(), expected, atol=1e-4)


@any_network
@pytest.mark.parametrize("name", [name for name, layer in MODELS.items() if "kind" not in layer["model"]])
def test_every_parameter_matters(name: str, settings: dict[str, Any]) -> None:
    network = small(name, **settings)
    network(*batch(n=64)).square().sum().backward()
    still = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
