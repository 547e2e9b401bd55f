from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor, nn

from dualdiff_cli.config.recipes import MODELS, resolve
from dualdiff_cli.config.schema import ModelConfig
from dualdiff_cli.diffusion.networks.embeddings import MultiscaleEmbedding, PaperEmbedding, SinusoidalEmbedding
from dualdiff_cli.diffusion.networks.experts import (
    ChosenExperts,
    GatedExperts,
    Network,
    build_network,
    count_parameters,
    matched_width,
)
from dualdiff_cli.diffusion.networks.layers import GroupedLinear, SplitLinear, round_products

# Table of the paper, "Networks".
PUBLISHED = {
    "baseline": 296_450,
    "dual-expert": 691_717,
    "enhanced-gating": 724_485,
    "increased-capacity": 789_765,
    "diversity-loss": 789_765,
}


PRECISE = {
    "activation": "silu",
    "time_bias": True,
    "gate_on": "level",
    "embedding": "multiscale",
    "finest_frequency": 50.0,
}
"""The network of the precise recipe; 50 radians a unit stand for what it takes from the data."""


def variant(name: str, **changes: Any) -> ModelConfig:
    """A model of the paper's recipe with some of its settings changed."""
    return resolve(dataset="line", model=name, recipe="paper", options={"model": changes}).model


def test_the_precise_network_is_the_one_of_the_recipe() -> None:
    left_open = {**PRECISE, "finest_frequency": None}
    assert resolve(dataset="line", recipe="precise").model == variant("dual-expert", **left_open)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parameters(config: ModelConfig, dim: int) -> int:
    return count_parameters(build_network(config, dim, generator=draws()))


def small(name: str, *, dim: int = 3, **changes: Any) -> Network:
    changes = {"width": 8, "blocks": 2, "gate_hidden": [8, 4], **changes}
    return build_network(variant(name, **changes), dim, generator=draws())


def batch(dim: int = 3, n: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Points, times and shares of noise."""
    draws = torch.Generator().manual_seed(1)
    x, t = torch.randn(n, dim, generator=draws), torch.randint(0, 100, (n,), generator=draws).float()
    return x, t, torch.linspace(0, 1, n) ** 2


GATED = {**PRECISE, "gate_on": "time"}

any_network = pytest.mark.parametrize("settings", [{}, GATED, PRECISE], ids=["paper", "gate on time", "precise"])
gated_network = pytest.mark.parametrize("settings", [{}, GATED], ids=["paper", "gate on time"])


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_variants_have_the_published_parameter_counts(name: str, count: int) -> None:
    assert parameters(variant(name), 2) == count


@pytest.mark.parametrize("dim", [1, 2, 9])
@pytest.mark.parametrize(
    ("name", "first_layers", "heads"),
    [
        ("baseline", [256], [256]),
        ("dual-expert", [256, 256, 256], [256, 256]),
        ("increased-capacity", [256, 256, 256], [128, 128]),
    ],
)
def test_a_column_costs_128_weights_a_unit_of_each_first_layer_and_an_output_of_each_head(
    name: str, first_layers: list[int], heads: list[int], dim: int
) -> None:
    grown = parameters(variant(name), dim + 1) - parameters(variant(name), dim)
    assert grown == sum(128 * width for width in first_layers) + sum(width + 1 for width in heads)


def test_embedding_is_the_formula() -> None:
    s = torch.tensor([0.0, 1.0, -2.5, 99.0])
    features = SinusoidalEmbedding(scale=25.0)(s)
    frequencies = [10_000 ** (-j / 63) for j in range(64)]
    expected = [[f(25 * float(v) * w) for f in (math.sin, math.cos) for w in frequencies] for v in s]
    assert features.shape == (4, 128)
    assert_allclose(features, expected, atol=3e-4)  # of angles up to 2,475 in float32


@pytest.mark.parametrize("embedding", [PaperEmbedding(2), MultiscaleEmbedding(2, finest=40.0)], ids=type)
def test_where_products_are_rounded_an_embedding_is_what_they_would_make_of_it(embedding: nn.Module) -> None:
    x, s = torch.randn(64, 2, generator=torch.Generator().manual_seed(0)), torch.full((1, 1), 0.1)
    exact = embedding(x, s)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = embedding(x, s)
    assert (exact.dtype, rounded.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(rounded, exact.bfloat16())


def test_constants_are_no_part_of_the_weights() -> None:
    network = small("dual-expert")
    assert network.state_dict().keys() == dict(network.named_parameters()).keys()
    assert sum(v.numel() for v in network.state_dict().values()) == count_parameters(network)


def published(state: dict[str, Tensor], prefix: str, e: np.ndarray, *, blocks: int, group: int = 0) -> np.ndarray:
    """One MLP of the paper on the concatenated embedding, in NumPy and float64, from its named weights."""

    def linear(name: str, h: np.ndarray) -> np.ndarray:
        weight, bias = (state[f"{prefix}{name}.{kind}"][group].double().numpy() for kind in ("weight", "bias"))
        return h @ weight + bias

    h = linear("first", e)
    for i in range(blocks):
        h = h + linear(f"blocks.{i}.linear", np.maximum(h, 0))
    layer = 0
    while f"{prefix}head.{layer}.weight" in state:
        h = linear(f"head.{layer}", np.maximum(h, 0))
        layer += 1
    return h


def embedded(x: Tensor, t: Tensor) -> np.ndarray:
    f = 10_000.0 ** (-np.arange(64) / 63)
    parts = [a for column in (25 * x.double()).T for a in (np.sin(np.outer(column, f)), np.cos(np.outer(column, f)))]
    angles = np.outer(t.double(), f)
    return np.concatenate([*parts, np.sin(angles), np.cos(angles)], axis=1)


@pytest.mark.parametrize("head_hidden", [[], [6, 4]])
def test_one_network_equals_an_independent_transcription(head_hidden: list[int]) -> None:
    network, (x, t, s) = small("baseline", head_hidden=head_hidden), batch()
    expected = published(network.state_dict(), "trunk.", embedded(x, t), blocks=2)
    assert_allclose(network(x, t, s).detach(), expected, atol=1e-4)


def test_two_experts_equal_an_independent_transcription() -> None:
    network, (x, t, s) = small("increased-capacity", head_hidden=[6]), batch()
    e, state = embedded(x, t), network.state_dict()
    first, second = (published(state, "trunks.", e, blocks=2, group=i) for i in range(2))
    g = 1 / (1 + np.exp(-published(state, "gate_trunk.", e, blocks=0)))
    assert_allclose(network(x, t, s).detach(), g * first + (1 - g) * second, atol=1e-4)
    assert isinstance(network, GatedExperts)
    assert_allclose(network.gate(x, t, s).detach(), np.concatenate([g, 1 - g], axis=1), atol=1e-4)


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


# Beyond the paper


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


def test_multiscale_features_are_sines_and_the_point_itself() -> None:
    x = torch.tensor([[0.3, -1.2], [2.0, 0.01]])
    features = MultiscaleEmbedding(2, finest=40.0)(x, torch.zeros(1, 1))
    f = 40.0 ** (np.arange(64) / 63)
    angles = x.double().numpy()[:, :, None] * f
    expected = np.concatenate([np.sin(angles).reshape(2, -1), np.cos(angles).reshape(2, -1), x], axis=1)
    assert (f[0], f[-1]) == (1, pytest.approx(40))
    assert_allclose(features, expected, atol=2e-5)


@pytest.mark.parametrize("share", [0.02, 0.3, 1.0])
def test_a_multiscale_feature_is_what_noise_of_that_width_leaves_of_a_sine_on_average(share: float) -> None:
    x, draws = torch.tensor([0.7]), 100_000
    embedding = MultiscaleEmbedding(1, finest=50.0)
    noise = torch.randn(draws, 1, generator=torch.Generator().manual_seed(0))
    average = embedding(x + share * noise, torch.zeros(1, 1)).mean(0)
    features = embedding(x.unsqueeze(0), torch.full((1, 1), share))[0]
    # sines and cosines vary by at most one, the point itself by its noise
    assert_allclose(features, average, atol=5 / math.sqrt(draws))
    clean = embedding(x.unsqueeze(0), torch.zeros(1, 1))[0]
    assert float((features - clean).abs().max()) > 20 / math.sqrt(draws)


def test_every_point_has_the_fading_of_its_own_share_of_noise() -> None:
    embedding, (x, _, s) = MultiscaleEmbedding(3, finest=50.0), batch()
    features = embedding(x, s.unsqueeze(-1))
    assert features.shape == (5, embedding.width)
    assert_allclose(features, torch.cat([embedding(x[i : i + 1], s[i].reshape(1, 1)) for i in range(5)]), atol=1e-6)


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


@any_network
@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_matters(name: str, settings: dict[str, Any]) -> None:
    network = small(name, **settings)
    network(*batch(n=64)).square().sum().backward()
    still = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("dim", [1, 2, 30])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"match_parameters": 3, "blocks": 1},
        {"head_hidden": [128], "gate_hidden": [256, 128]},
        {"head_hidden": [512, 64]},
        {"width": 10, "gate_hidden": [5]},
        {"width": 4},  # less than a sixteenth of what its gate's weights come to
        PRECISE,
        {**PRECISE, "match_parameters": 4, "width": 30, "head_hidden": [9]},
        {"time_bias": True},
        {"embedding": "multiscale", "finest_frequency": 50.0},
    ],
)
def test_no_other_width_comes_nearer_to_the_experts_it_is_matched_to(changes: dict[str, Any], dim: int) -> None:
    matched = variant("baseline-matched", **changes)
    experts = {**changes, "experts": changes.get("match_parameters", 2), "match_parameters": 0}
    target = parameters(variant("dual-expert", **experts), dim)
    width = matched_width(matched, dim)

    def count(w: int) -> int:
        return parameters(variant("baseline", **{**changes, "match_parameters": 0, "width": w}), dim)

    assert min(range(width - 3, width + 4), key=lambda w: abs(count(w) - target)) == width
    assert parameters(matched, dim) == count(width)


def test_the_control_of_the_paper_has_the_parameters_of_its_experts() -> None:
    assert parameters(variant("baseline-matched"), 2) == pytest.approx(PUBLISHED["dual-expert"], rel=2e-3)


def test_rounding_the_products_leaves_biases_and_embeddings_in_full_precision() -> None:
    network = build_network(variant("dual-expert"), 2, generator=draws())
    round_products(network, torch.bfloat16)
    kinds = {name.rpartition(".")[2]: p.dtype for name, p in network.named_parameters()}
    assert kinds == {"weight": torch.bfloat16, "bias": torch.float32}
    assert {b.dtype for b in network.buffers()} == {torch.float32}
