"""Small networks and their inputs, and a transcription of the paper's MLP in NumPy, for the tests of the networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.config.sections import NetworkSettings
from dualdiff_cli.diffusion.networks.experts import (
    Network,
    build_network,
)

PRECISE = {
    "activation": "silu",
    "time_bias": True,
    "gate_on": "level",
    "embedding": "multiscale",
    "finest_frequency": 50.0,
}
"""The network of the precise recipe; 50 radians a unit stand for what it takes from the data."""


GATED = {**PRECISE, "gate_on": "time"}

any_network = pytest.mark.parametrize("settings", [{}, GATED, PRECISE], ids=["paper", "gate on time", "precise"])
gated_network = pytest.mark.parametrize("settings", [{}, GATED], ids=["paper", "gate on time"])


def variant(name: str, **changes: Any) -> NetworkSettings:
    """A model of the paper's recipe with some of its settings changed."""
    return resolve(dataset="line", model=name, recipe="paper", options={"model": changes}).model


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(name: str, *, dim: int = 3, **changes: Any) -> Network:
    changes = {"width": 8, "blocks": 2, "gate_hidden": [8, 4], **changes}
    return build_network(variant(name, **changes), dim, generator=draws())


def batch(dim: int = 3, n: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Points, times and shares of noise."""
    draws = torch.Generator().manual_seed(1)
    x, t = torch.randn(n, dim, generator=draws), torch.randint(0, 100, (n,), generator=draws).float()
    return x, t, torch.linspace(0, 1, n) ** 2


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
