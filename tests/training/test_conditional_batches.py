from __future__ import annotations

import pytest
import torch

from dualdiff_cli.diffusion.schedules.continuous import LogSNRUniform
from dualdiff_cli.training.batches import Batches, ConditionalBatches, PlainBatches, PosteriorMeanBatches

SCHEDULE = LogSNRUniform(sigma_min=0.01, sigma_max=10.0)
POINTS = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
UNITS = (0, 1, 1, 2)


def sources() -> list[Batches]:
    return [PlainBatches(POINTS, SCHEDULE), PosteriorMeanBatches(POINTS, SCHEDULE, references=16, seed=1)]


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("k", [0, 1], ids=["plain", "posterior-means"])
def test_a_row_without_given_features_is_as_before_and_one_with_them_has_the_plain_target(k: int) -> None:
    inner = sources()[k]
    drawn = ConditionalBatches(inner, UNITS, share=0.5).draw(500, draws())
    own, before = ConditionalBatches(inner, UNITS, share=0.5).make(drawn), inner.make(drawn)
    assert torch.equal(own.x, before.x)
    assert torch.equal(own.epsilon, before.epsilon)
    assert torch.equal(own.t, before.t)
    assert own.given is not None
    assert before.given is None
    shown = own.given.any(1)
    assert 100 < int(shown.sum()) < 250
    if before.correction is None:
        assert own.correction is None
    else:
        assert own.correction is not None
        assert torch.equal(own.correction[~shown], before.correction[~shown])
        assert not own.correction[shown].any()


def test_the_features_of_a_unit_are_given_together_or_not_at_all() -> None:
    given = ConditionalBatches(sources()[0], UNITS, share=0.9)(2000, draws()).given
    assert given is not None
    assert torch.equal(given[:, 1], given[:, 2])
    assert not torch.equal(given[:, 0], given[:, 1])


def test_every_number_of_given_units_is_equally_frequent_among_the_chosen_rows() -> None:
    batch = ConditionalBatches(sources()[0], range(4), share=0.8)(40_000, draws())
    assert batch.given is not None
    shares = torch.bincount(batch.given.sum(1), minlength=5) / 40_000
    # With a probability that is uniform on (0, 1), the number of given units is uniform on 0 … 4.
    torch.testing.assert_close(shares[1:], torch.full((4,), 0.8 / 5), atol=0.01, rtol=0)
    torch.testing.assert_close(shares[0], torch.tensor(0.2 + 0.8 / 5), atol=0.01, rtol=0)


def test_a_share_of_zero_gives_nothing() -> None:
    given = ConditionalBatches(sources()[0], UNITS, share=0.0)(500, draws()).given
    assert given is not None
    assert not given.any()


def test_the_draws_decide_the_batch() -> None:
    batches = ConditionalBatches(sources()[1], UNITS, share=0.5)
    first, again, other = batches(64, draws(3)), batches(64, draws(3)), batches(64, draws(4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True) if a is not None and b is not None)
    assert first.given is not None
    assert other.given is not None
    assert not torch.equal(first.given, other.given)
