"""Mode scores on samples whose scores can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dualdiff_cli.errors import InputError
from dualdiff_cli.metrics import mode_scores

CENTRES = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
RADII = np.full((4, 2), 1.0)
WEIGHTS = np.array([0.4, 0.3, 0.2, 0.1])
MODES = (CENTRES, RADII, WEIGHTS)


def samples_holding(*counts: int) -> np.ndarray:
    return np.repeat(CENTRES, counts, axis=0) + 0.5


def test_samples_with_the_due_shares_score_perfectly() -> None:
    scores = mode_scores(samples_holding(400, 300, 200, 100), MODES)
    assert scores["mode_coverage"].value == 1
    assert scores["off_mode_share"].value == 0
    assert scores["mode_share_tv"].value == pytest.approx(0)
    assert {score.unit for score in scores.values()} == {"fraction"}


def test_a_missing_mode_costs_coverage_and_its_weight_in_total_variation() -> None:
    scores = mode_scores(samples_holding(400, 300, 300, 0), MODES)
    assert scores["mode_coverage"].value == 0.75
    assert scores["mode_coverage"].counts == {"modes": 4, "covered": 3}
    assert scores["mode_share_tv"].value == pytest.approx(0.1)


@pytest.mark.parametrize(("held", "covered"), [(20, 4), (19, 3)])
def test_a_mode_is_covered_from_a_fifth_of_its_share_on(held: int, covered: int) -> None:
    scores = mode_scores(samples_holding(480 - held, 300, 220, held), MODES)
    assert scores["mode_coverage"].counts["covered"] == covered


def test_samples_outside_every_radius_are_off_mode_but_belong_to_the_nearest() -> None:
    samples = np.concatenate([samples_holding(40, 30, 20, 5), np.full((5, 2), 7.0)])
    scores = mode_scores(samples, MODES)
    assert scores["off_mode_share"].value == 0.05
    assert scores["mode_share_tv"].value == pytest.approx(0)


def test_the_edge_of_a_box_is_inside_and_its_corner_too() -> None:
    box = (np.zeros((1, 2)), np.array([[2.0, 4.0]]), np.ones(1))
    samples = np.array([[2.0, 4.0], [-2.0, 0.0], [2.1, 0.0], [0.0, -4.1]])
    assert mode_scores(samples, box)["off_mode_share"].value == 0.5


def test_nearest_is_measured_in_each_modes_own_radii() -> None:
    # 3 is 3 radii from the mode at 0, but 0.7 radii from the wide one at 10.
    modes = (np.array([[0.0], [10.0]]), np.array([[1.0], [10.0]]), np.array([0.5, 0.5]))
    scores = mode_scores(np.full((10, 1), 3.0), modes)
    assert scores["off_mode_share"].value == 0
    assert scores["mode_share_tv"].value == 0.5
    assert scores["mode_coverage"].value == 0.5


def test_weights_need_not_sum_to_one() -> None:
    samples = samples_holding(41, 29, 22, 8)
    scaled, plain = mode_scores(samples, (CENTRES, RADII, 7 * WEIGHTS)), mode_scores(samples, MODES)
    for name in plain:
        assert scaled[name].value == pytest.approx(plain[name].value)


def test_many_samples_are_compared_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(0).uniform(-2, 12, (1_000, 2))
    whole = mode_scores(samples, MODES)
    monkeypatch.setattr("dualdiff_cli.metrics.modes._CHUNK", 28)
    assert mode_scores(samples, MODES) == whole


def test_intervals_cover_the_scatter_of_fresh_samples() -> None:
    # 3 % off-mode; the total variation of perfect shares scatters around a value above zero.
    rng = np.random.default_rng(1)
    runs = []
    for _ in range(60):
        samples = CENTRES[rng.choice(4, 500, p=[0.3, 0.3, 0.2, 0.2])]
        samples = samples + np.where(rng.random((500, 1)) < 0.03, 2.0, 0.0)
        runs.append(mode_scores(samples, MODES, resamples=200))
    for name, truth in (("off_mode_share", 0.03), ("mode_share_tv", np.mean([r["mode_share_tv"].value for r in runs]))):
        intervals = [run[name].ci95 for run in runs]
        assert np.mean([low <= truth <= high for low, high in intervals]) >= 0.85


@pytest.mark.parametrize(
    "modes",
    [
        (CENTRES, RADII, WEIGHTS[:3]),
        (CENTRES[:, :1], RADII[:, :1], WEIGHTS),
        (CENTRES, 0 * RADII, WEIGHTS),
        (CENTRES, RADII, 0 * WEIGHTS),
        (np.nan * CENTRES, RADII, WEIGHTS),
        (np.empty((0, 2)), np.empty((0, 2)), np.empty(0)),
    ],
)
def test_unfit_modes_are_refused(modes: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    with pytest.raises(InputError, match="mode"):
        mode_scores(samples_holding(1, 1, 1, 1), modes)
