"""Experts that a gate mixes or the noise level chooses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from small_networks import PRECISE, batch, draws, embedded, gated_network, published, small, variant

from dualdiff_cli.diffusion.networks.experts import (
    ChosenExperts,
    GatedExperts,
    build_network,
)
from dualdiff_cli.diffusion.networks.layers import GroupedLinear


def test_two_experts_equal_an_independent_transcription() -> None:
    network, (x, t, s) = small("increased-capacity", head_hidden=[6]), batch()
    e, state = embedded(x, t), network.state_dict()
    first, second = (published(state, "trunks.", e, blocks=2, group=i) for i in range(2))
    g = 1 / (1 + np.exp(-published(state, "gate_trunk.", e, blocks=0)))
    assert_allclose(network(x, t, s).detach(), g * first + (1 - g) * second, atol=1e-4)
    assert isinstance(network, GatedExperts)
    assert_allclose(network.gate(x, t, s).detach(), np.concatenate([g, 1 - g], axis=1), atol=1e-4)


@gated_network
@pytest.mark.parametrize("experts", [2, 3, 5])
def test_gate_rows_sum_to_one(experts: int, settings: dict[str, Any]) -> None:
    network, (x, t, s) = small("dual-expert", experts=experts, **settings), batch()
    assert isinstance(network, GatedExperts)
    weights = network.gate(x, t, s)
    assert weights.shape == (5, experts)
    assert (weights > 0).all()
    assert weights.std(0).min() > 0  # they depend on what the gate sees
    assert_allclose(weights.sum(1).detach(), 1, atol=1e-6)


@pytest.mark.parametrize("gate_on", ["point", "time"])
def test_a_gate_on_time_sees_the_time_and_nothing_of_the_point(gate_on: str) -> None:
    network, (x, t, s) = small("dual-expert", gate_on=gate_on), batch()
    assert isinstance(network, GatedExperts)
    weights = network.gate(x, t, s)
    moved = network.gate(x + 1, t, 1 - s)
    assert torch.equal(moved, weights) == (gate_on == "time")
    assert not torch.isclose(network.gate(x, t + 1, s), weights).any()


@pytest.mark.parametrize("experts", [2, 4])
def test_each_share_of_the_time_axis_is_one_experts_alone(experts: int) -> None:
    network, (x, _, s) = small("dual-expert", experts=experts, **PRECISE), batch(n=8)
    assert isinstance(network, ChosenExperts)
    t = torch.tensor([0.0, 20, 24.9, 25, 49.9, 50, 99, 100])
    number = [min(int(v) * experts // 100, experts - 1) for v in t]
    assert torch.equal(network.gate(x, t, s), torch.eye(experts)[number])
    before = network(x, t, s)
    with torch.no_grad():
        for p in network.trunks.parameters():
            p[1] += 1.0
    moved = (network(x, t, s) != before).any(1)
    assert moved.tolist() == [i == 1 for i in number]


@pytest.mark.parametrize("n", [8, 10, 3])
def test_the_rows_of_a_stratified_batch_meet_the_experts_that_any_batch_does(n: int) -> None:
    network, (x, _, s) = small("dual-expert", experts=2, **PRECISE), batch(n=n)
    t = 100 * (torch.arange(n) + torch.rand(n, generator=torch.Generator().manual_seed(2))) / n
    assert_allclose(network(x, t, s, stratified=True).detach(), network(x, t, s).detach(), atol=1e-6)


def test_an_expert_of_a_table_has_its_share_of_the_entries() -> None:
    network = build_network(variant("dual-expert", gate_on="level", width=4), 2, generator=draws(), span=1000.0)
    x, t = torch.zeros(4, 2), torch.tensor([0.0, 499, 500, 999])
    assert network.gate(x, t, t)[:, 1].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("experts", [2, 3])
def test_an_open_gate_gives_that_expert(experts: int) -> None:
    network, (x, t, s) = small("dual-expert", experts=experts), batch()
    assert isinstance(network, GatedExperts)
    last = network.gate_trunk.head[-1]
    assert isinstance(last, GroupedLinear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([-100.0] if experts == 2 else [0.0, 0.0, 100.0]))
    expected = published(network.state_dict(), "trunks.", embedded(x, t), blocks=2, group=experts - 1)
    assert_allclose(network(x, t, s).detach(), expected, atol=1e-4)
