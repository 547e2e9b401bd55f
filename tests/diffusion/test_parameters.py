"""The number of parameters, and the width that matches it."""

from __future__ import annotations

from typing import Any

import pytest
from small_networks import PRECISE, draws, variant

from dualdiff_cli.config.sections import NetworkSettings
from dualdiff_cli.diffusion.networks.experts import (
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


def parameters(config: NetworkSettings, dim: int) -> int:
    return count_parameters(build_network(config, dim, generator=draws()))


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
