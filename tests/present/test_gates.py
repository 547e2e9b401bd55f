"""The pictures of what a gate does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from pictures import corner, densities, drawn, legend, names, normal, softmax

from dualdiff_cli.errors import InputError
from dualdiff_cli.present.figures.gates import gate_histogram, gate_profile, gate_scatter
from dualdiff_cli.present.figures.panels import MAX_POINTS
from dualdiff_cli.present.figures.style import save


def test_two_experts_colour_each_sample_by_the_weight_of_the_first() -> None:
    samples, weights = normal(400, 2), softmax(normal(400, 2, seed=1))
    axes = gate_scatter(samples, weights, columns=names(2)).axes[0]
    (dots,) = axes.collections
    of_point = dict(zip(map(tuple, samples), weights[:, 0], strict=True))
    np.testing.assert_array_equal(dots.get_array(), [of_point[tuple(point)] for point in drawn(axes)])
    assert dots.get_clim() == (0, 1)


def test_more_experts_colour_each_sample_by_the_heaviest_and_state_the_shares() -> None:
    samples, weights = normal(400, 5), softmax(normal(400, 3, seed=1))
    axes = gate_scatter(samples, weights, columns=names(5)).axes[0]
    (dots,) = axes.collections
    of_point = dict(zip(map(tuple, samples[:, :2]), weights.argmax(axis=1), strict=True))
    pairs = {(of_point[tuple(p)], tuple(c)) for p, c in zip(drawn(axes), dots.get_facecolor(), strict=True)}
    assert len(pairs) == 3
    assert axes.get_title(loc="left") == "samples · 400 points · first 2 of 5 columns"
    shares = [f"expert {e + 1} · {100 * np.mean(weights.argmax(axis=1) == e):.0f} %" for e in range(3)]
    assert legend(axes)[1:] == shares


def test_beyond_seven_experts_only_the_heaviest_seven_have_their_own_colour() -> None:
    weights = softmax(normal(500, 9) - 5 * np.isin(np.arange(9), (1, 5)))
    entries = legend(gate_scatter(normal(500, 2), weights, columns=names(2)).axes[0])[1:]
    assert [entry.split(" · ")[0] for entry in entries] == [*(f"expert {e}" for e in (1, 3, 4, 5, 7, 8, 9)), "2 others"]
    titles = [axes.get_title(loc="left") for axes in gate_histogram(weights).axes]
    assert [title.split(" · ")[0] for title in titles] == [f"expert {e}" for e in (1, 3, 4, 5, 7, 8, 9)]


@pytest.mark.parametrize("E", [2, 4])
def test_a_single_column_is_drawn_against_the_weight(E: int, tmp_path: Path) -> None:
    samples, weights = normal(300, 1), softmax(normal(300, E, seed=1))
    figure = gate_scatter(samples, weights, columns=["x"])
    height = weights[:, 0] if E == 2 else weights.max(axis=1)
    expected = np.column_stack([samples[:, 0], height])
    np.testing.assert_allclose(np.sort(drawn(figure.axes[0]), axis=0), np.sort(expected, axis=0))
    save(figure, tmp_path / "f")


def test_gate_scatter_is_thinned_and_survives_samples_that_are_not_finite(tmp_path: Path) -> None:
    samples, weights = normal(MAX_POINTS + 5000, 2).clip(-1, 1), softmax(normal(MAX_POINTS + 5000, 3))
    assert len(drawn(gate_scatter(samples, weights, columns=names(2)).axes[0])) == MAX_POINTS
    samples, weights = samples[:1000], weights[:1000]
    samples[:10], weights[:10] = np.nan, np.nan
    figure = gate_scatter(samples, weights, columns=names(2))
    assert corner(figure.axes[0]) == ["1 % outside"]
    save(figure, tmp_path / "f")
    titles = [axes.get_title(loc="left") for axes in gate_histogram(weights).axes]
    assert titles == [f"expert {e + 1} · mean weight {weights[10:, e].mean():.2f}" for e in range(3)]


def test_gate_histogram_shares_sum_to_one() -> None:
    for E, rows in ((2, 1), (4, 4)):
        weights = softmax(3 * normal(1000, E))
        weights[0] = np.eye(E)[0]  # weights of exactly 0 and 1 are counted too
        figure = gate_histogram(weights)
        assert len(figure.axes) == rows
        for axes in figure.axes:
            assert densities(axes)[0][0].sum() == pytest.approx(1)


def test_gate_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="at least two experts"):
        gate_histogram(np.ones((5, 1)))
    with pytest.raises(ValueError, match="5 samples of 2 columns, but 4 rows"):
        gate_scatter(normal(5, 2), np.full((4, 2), 0.5), columns=names(2))
    with pytest.raises(InputError, match="finite gate weights are empty"):
        gate_histogram(np.full((5, 2), np.nan))


def time_weights(noise: np.ndarray, E: int) -> np.ndarray:
    """Experts that take over from each other as the noise grows."""
    return softmax(-((np.log(noise)[:, None] - np.linspace(-4, 1, E)) ** 2))


def bands(axes: Axes, level: float) -> list[float]:
    """Upper edges of the areas at a noise level, from the bottom up."""
    outlines = [area.get_paths()[0].vertices for area in axes.collections]
    return [float(outline[outline[:, 0] == level, 1].max()) for outline in outlines]


@pytest.mark.parametrize("E", [2, 4])
def test_profile_stacks_the_weights_from_the_first_expert_up_to_one(E: int, tmp_path: Path) -> None:
    noise = np.geomspace(0.02, 3, 20)
    weights = time_weights(noise, E)
    shuffled = np.random.default_rng(0).permutation(20)
    figure = gate_profile(noise[shuffled], weights[shuffled], title="$_{")
    (axes,) = figure.axes
    for level, row in zip(noise, weights, strict=True):
        assert bands(axes, level) == pytest.approx(np.cumsum(row))
    assert legend(axes)[1:] == [f"expert {e}" for e in range(E, 0, -1)]
    save(figure, tmp_path / "f")


def test_profile_has_a_logarithmic_axis_that_ends_with_the_noise_and_is_labelled_even_within_a_decade() -> None:
    noise = np.linspace(0.12, 0.9, 30)
    (axes,) = gate_profile(noise, time_weights(noise, 2), title="").axes
    assert axes.get_xscale() == "log"
    assert axes.get_xlim() == (0.12, 0.9)
    assert {0.2, 0.5} <= set(np.round(axes.get_xticks(), 6))


def test_profile_beyond_seven_experts_puts_the_lightest_into_one_band_on_top() -> None:
    noise = np.geomspace(0.1, 10, 5)
    weights = softmax(normal(5, 9) - 5 * np.isin(np.arange(9), (1, 5)))
    (axes,) = gate_profile(noise, weights, title="").axes
    assert legend(axes)[1:] == ["2 others", *(f"expert {e}" for e in (9, 8, 7, 5, 4, 3, 1))]
    *_, below, top = bands(axes, noise[2])
    assert (top, top - below) == pytest.approx((1, weights[2, [1, 5]].sum()))


def test_profile_leaves_out_levels_without_finite_weights_and_refuses_what_it_cannot_draw() -> None:
    noise, weights = np.array([0.1, 0.2, 0.4]), np.array([[0.2, 0.8], [0.5, 0.5], [np.nan, np.nan]])
    (axes,) = gate_profile(noise, weights, title="").axes
    assert axes.get_xlim() == (0.1, 0.2)
    with pytest.raises(InputError, match="two noise levels"):
        gate_profile(noise[1:], weights[1:], title="")
    with pytest.raises(ValueError, match="one positive level for each row"):
        gate_profile(noise[:2], weights, title="")
    for bad in (0.0, np.inf):
        with pytest.raises(ValueError, match="one positive level for each row"):
            gate_profile([bad, 0.2, 0.4], weights, title="")
