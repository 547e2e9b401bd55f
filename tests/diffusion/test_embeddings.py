"""The embeddings of points and times."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from small_networks import batch
from torch import nn

from dualdiff_cli.diffusion.networks.embeddings import MultiscaleEmbedding, PaperEmbedding, SinusoidalEmbedding


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
