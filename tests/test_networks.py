from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor, nn

from dualdiff_cli.config import MODELS, ModelConfig, resolve
from dualdiff_cli.networks import (
    GatedExperts,
    ResidualMLP,
    SinusoidalEmbedding,
    SplitLinear,
    build_network,
    count_parameters,
    matched_width,
)

# Table of the paper, "Networks".
PUBLISHED = {
    "baseline": 296_450,
    "dual-expert": 691_717,
    "enhanced-gating": 724_485,
    "increased-capacity": 789_765,
    "diversity-loss": 789_765,
}


def variant(name: str, **changes: Any) -> ModelConfig:
    return resolve(dataset="line", model=name, options={"model": changes}).model


def parameters(config: ModelConfig, dim: int) -> int:
    with torch.device("meta"):
        return count_parameters(build_network(config, dim))


def small(name: str, *, dim: int = 3, **changes: Any) -> ResidualMLP | GatedExperts:
    torch.manual_seed(0)
    changes = {"width": 8, "blocks": 2, "gate_hidden": [8, 4], **changes}
    return build_network(variant(name, **changes), dim)


def batch(dim: int = 3, n: int = 5) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(1)
    return torch.randn(n, dim, generator=draws), torch.randint(0, 100, (n,), generator=draws).float()


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


def test_constants_are_no_part_of_the_weights() -> None:
    network = small("dual-expert")
    assert network.state_dict().keys() == dict(network.named_parameters()).keys()
    assert sum(v.numel() for v in network.state_dict().values()) == count_parameters(network)


def published(state: dict[str, Tensor], prefix: str, e: np.ndarray, *, blocks: int) -> np.ndarray:
    """One MLP of the paper on the concatenated embedding, in NumPy and float64, from its named weights."""

    def linear(name: str, h: np.ndarray) -> np.ndarray:
        weight, bias = (state[f"{prefix}{name}.{kind}"].double().numpy() for kind in ("weight", "bias"))
        return h @ weight.T + bias

    h = linear("first", e)
    for i in range(blocks):
        h = h + linear(f"blocks.{i}.linear", np.maximum(h, 0))
    layer = 1
    while f"{prefix}head.{layer}.weight" in state:
        h = linear(f"head.{layer}", np.maximum(h, 0))
        layer += 2
    return h


def embedded(x: Tensor, t: Tensor) -> np.ndarray:
    f = 10_000.0 ** (-np.arange(64) / 63)
    parts = [a for column in (25 * x.double()).T for a in (np.sin(np.outer(column, f)), np.cos(np.outer(column, f)))]
    angles = np.outer(t.double(), f)
    return np.concatenate([*parts, np.sin(angles), np.cos(angles)], axis=1)


@pytest.mark.parametrize("head_hidden", [[], [6, 4]])
def test_one_network_equals_an_independent_transcription(head_hidden: list[int]) -> None:
    network, (x, t) = small("baseline", head_hidden=head_hidden), batch()
    expected = published(network.state_dict(), "trunk.", embedded(x, t), blocks=2)
    assert_allclose(network(x, t).detach(), expected, atol=1e-4)


def test_two_experts_equal_an_independent_transcription() -> None:
    network, (x, t) = small("increased-capacity", head_hidden=[6]), batch()
    e, state = embedded(x, t), network.state_dict()
    first, second = (published(state, f"trunks.{i}.", e, blocks=2) for i in range(2))
    g = 1 / (1 + np.exp(-published(state, "gate_trunk.", e, blocks=0)))
    assert_allclose(network(x, t).detach(), g * first + (1 - g) * second, atol=1e-4)
    assert isinstance(network, GatedExperts)
    assert_allclose(network.gate(x, t).detach(), np.concatenate([g, 1 - g], axis=1), atol=1e-4)


@pytest.mark.parametrize("rows", [1, 5])
def test_the_split_layer_is_one_linear_map_of_the_concatenation(rows: int) -> None:
    torch.manual_seed(0)
    split = SplitLinear(6, 4, 3).double()
    e_x, e_t = torch.randn(5, 6).double(), torch.randn(rows, 4).double()
    whole = nn.functional.linear(torch.cat([e_x, e_t.expand(5, 4)], dim=1), split.weight, split.bias)
    assert_allclose(split(e_x, e_t).detach(), whole.detach(), rtol=1e-12)


@pytest.mark.parametrize("name", ["baseline", "dual-expert"])
def test_one_time_for_all_points_equals_that_time_for_each(name: str) -> None:
    network, (x, _) = small(name), batch()
    t = torch.tensor([37.0])
    assert_allclose(network(x, t).detach(), network(x, t.expand(5)).detach(), atol=1e-6)
    if isinstance(network, GatedExperts):
        assert_allclose(network.gate(x, t).detach(), network.gate(x, t.expand(5)).detach(), atol=1e-6)


@pytest.mark.parametrize("name", ["baseline", "dual-expert"])
def test_points_do_not_see_each_other(name: str) -> None:
    network, (x, t) = small(name), batch()
    alone = torch.cat([network(x[i : i + 1], t[i : i + 1]) for i in range(5)])
    assert_allclose(network(x, t).detach(), alone.detach(), atol=1e-6)


@pytest.mark.parametrize("experts", [2, 3, 5])
def test_gate_rows_sum_to_one(experts: int) -> None:
    network, (x, t) = small("dual-expert", experts=experts), batch()
    assert isinstance(network, GatedExperts)
    weights = network.gate(x, t)
    assert weights.shape == (5, experts)
    assert (weights > 0).all()
    assert weights.std(0).min() > 0  # they depend on the point
    assert_allclose(weights.sum(1).detach(), 1, atol=1e-6)


@pytest.mark.parametrize("experts", [2, 3])
def test_an_open_gate_gives_that_expert(experts: int) -> None:
    network, (x, t) = small("dual-expert", experts=experts), batch()
    assert isinstance(network, GatedExperts)
    last = network.gate_trunk.head[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([-100.0] if experts == 2 else [0.0, 0.0, 100.0]))
    expected = published(network.state_dict(), f"trunks.{experts - 1}.", embedded(x, t), blocks=2)
    assert_allclose(network(x, t).detach(), expected, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_matters(name: str) -> None:
    network, (x, t) = small(name, width=8), batch(n=64)
    network(x, t).square().sum().backward()
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
