from __future__ import annotations

import numpy as np
import pytest

from dualdiff_cli import seeding
from dualdiff_cli.config.peaks import find_peaks


def test_a_peak_of_three_per_cent_is_found_where_it_is_and_as_wide_as_it_is() -> None:
    rng = seeding.stream(0, "test")
    features = rng.uniform(-1.7, 1.7, (5000, 3))
    inside = rng.permutation(5000)[:165]
    features[inside, 2] = rng.uniform(0.5, 0.51, 165)
    (peak,) = find_peaks(features)
    assert peak.feature == 2
    assert peak.centre == pytest.approx(0.505, abs=0.002)
    assert 0.0035 < peak.half_width < 0.0075
    assert 130 < peak.holds(features)[inside].sum() <= peak.holds(features).sum() < 180


def test_two_peaks_of_a_feature_do_not_overlap() -> None:
    rng = seeding.stream(1, "test")
    values = np.concatenate(
        [rng.normal(size=4000), 0.3 + 0.001 * rng.normal(size=200), 0.5 + 0.003 * rng.normal(size=200)]
    )
    first, second = sorted(find_peaks(values[:, None]), key=lambda peak: peak.centre)
    assert first.centre == pytest.approx(0.3, abs=0.002)
    assert second.centre == pytest.approx(0.5, abs=0.006)
    assert first.half_width < second.half_width
    assert first.centre + first.half_width < second.centre - second.half_width


@pytest.mark.parametrize("n", [30, 300, 5000])
@pytest.mark.parametrize("shape", ["normal", "uniform", "exponential", "bimodal"])
def test_smooth_features_have_no_peak_by_chance(shape: str, n: int) -> None:
    rng = seeding.stream(n, shape)
    draws = {
        "normal": rng.normal(size=(n, 20)),
        "uniform": rng.uniform(-1.7, 1.7, (n, 20)),
        "exponential": rng.exponential(size=(n, 20)),
        "bimodal": rng.choice([-1.0, 1.0], (n, 20)) + 0.2 * rng.normal(size=(n, 20)),
    }
    assert find_peaks(draws[shape]) == []


def test_a_value_that_repeats_is_no_peak() -> None:
    values = seeding.stream(2, "test").normal(size=2000)
    values[:500] = 0.25
    assert find_peaks(values[:, None]) == []
    assert find_peaks(np.zeros((100, 1))) == []
