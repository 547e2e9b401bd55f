"""The grouped layers."""

from __future__ import annotations

import pytest
import torch
from numpy.testing import assert_allclose
from small_networks import draws, variant
from torch import nn

from dualdiff_cli.diffusion.networks.experts import (
    build_network,
)
from dualdiff_cli.diffusion.networks.layers import GroupedLinear, SplitLinear, round_products


def drawn(layer: GroupedLinear) -> GroupedLinear:
    """A layer with weights of every group drawn."""
    generator = draws()
    for group in range(len(layer.weight)):
        layer.reset(group, generator)
    return layer.double()


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("rows", [1, 5])
def test_the_split_layer_is_one_linear_map_of_the_concatenation(rows: int, groups: int) -> None:
    split = drawn(SplitLinear(groups, 6, 4, 3))
    e_x, e_t = torch.randn(5, 6).double(), torch.randn(rows, 4).double()
    whole = torch.cat([e_x, e_t.expand(5, 4)], dim=1) @ split.weight + split.bias
    assert_allclose(split(e_x, e_t).detach(), (whole if groups > 1 else whole[0]).detach(), rtol=1e-12)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("groups", [1, 3])
def test_a_grouped_layer_is_torchs_linear_layer_of_each_group_with_its_initial_weights(
    groups: int, shared: bool
) -> None:
    layer = drawn(GroupedLinear(groups, 6, 4))
    torch.manual_seed(0)
    theirs = [nn.Linear(6, 4).double() for _ in range(groups)]
    x = torch.randn(groups, 5, 6).double()
    inputs = x[0] if shared or groups == 1 else x
    expected = torch.stack([linear(x[0 if shared else i]) for i, linear in enumerate(theirs)]).detach()
    found = layer(inputs).detach().reshape(expected.shape)
    assert_allclose(found, expected, rtol=1e-6)  # the bounds of their uniform numbers round differently
    for i in range(groups):
        assert_allclose(layer(x[0], torch.tensor([i])).detach(), theirs[i](x[0]).detach(), rtol=1e-6)


def test_rounding_the_products_leaves_biases_and_embeddings_in_full_precision() -> None:
    network = build_network(variant("dual-expert"), 2, generator=draws())
    round_products(network, torch.bfloat16)
    kinds = {name.rpartition(".")[2]: p.dtype for name, p in network.named_parameters()}
    assert kinds == {"weight": torch.bfloat16, "bias": torch.float32}
    assert {b.dtype for b in network.buffers()} == {torch.float32}
