"""Densities of single features: what is fitted, to which rows, and the denoiser that comes of it."""

from __future__ import annotations

import pytest
import torch

from dualdiff_cli import seeding
from dualdiff_cli.data import DiscreteSpan, FeatureLayout
from dualdiff_cli.diffusion.schedules.continuous import LogSNRUniform
from dualdiff_cli.training import marginals
from dualdiff_cli.training.marginals import FittedMarginals

pytestmark = pytest.mark.usefixtures("_full_search")

RNG = seeding.stream(0, "features")
N = 400
POINTS = torch.from_numpy(RNG.normal(size=(N, 3)))
POINTS[:, 1] = torch.from_numpy(RNG.choice([-1.0, 1.0], N) + 0.05 * RNG.normal(size=N))
POINTS[:, 2] = (POINTS[:, 2] > 0).double()
LAYOUT = FeatureLayout((0, 1, 2), (DiscreteSpan(start=2, width=1, scale=1.0, shift=(-0.5,)),))


def test_each_feature_has_the_components_that_it_needs_and_those_with_few_values_have_none() -> None:
    fitted = FittedMarginals.fit(POINTS, LAYOUT, seed=0)
    assert {i: mixture.components for i, mixture in fitted.mixtures.items()} == {0: 1, 1: 2}
    assert fitted.mixtures[0].gaussians.means[0, 0] == pytest.approx(float(POINTS[:, 0].mean()))
    assert sorted(fitted.mixtures[1].gaussians.means[:, 0]) == pytest.approx([-1.0, 1.0], abs=0.02)


def test_a_part_of_the_rows_gets_as_many_components_of_its_own() -> None:
    fitted, part = FittedMarginals.fit(POINTS, LAYOUT, seed=0), POINTS[:100]
    refitted = fitted.refit(part)
    assert refitted.mixtures[1].components == 2
    assert refitted.mixtures[0].gaussians.means[0, 0] == pytest.approx(float(part[:, 0].mean()))


def test_the_denoiser_knows_the_densities() -> None:
    schedule = LogSNRUniform(sigma_min=0.01, sigma_max=10.0)
    denoiser = FittedMarginals.fit(POINTS, LAYOUT, seed=0).denoiser(schedule)
    x_t = torch.zeros(1, 3, dtype=torch.float64)
    x_t[0, 1] = 0.6
    answer = denoiser(x_t, torch.tensor(0.35, dtype=torch.float64))[0]
    assert float(answer[1]) > 0.8, "x is near one of two places"
    assert float(answer[2]) == pytest.approx(0), "both values are as likely"
    assert denoiser.means.shape == (3, 2)


def test_very_many_rows_are_not_all_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marginals, "MOST_ROWS", 50)
    few, again = (FittedMarginals.fit(POINTS[:, :1], FeatureLayout.plain(1), seed=0) for _ in range(2))
    assert few.mixtures[0].gaussians.means[0, 0] != pytest.approx(float(POINTS[:, 0].mean()), abs=1e-6)
    assert few.mixtures[0].gaussians.means.tolist() == again.mixtures[0].gaussians.means.tolist()
