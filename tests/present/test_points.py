"""The picture of data beside samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pictures import beside, corner, densities, drawn, legend, names, normal

from dualdiff_cli.present.figures.panels import MAX_POINTS
from dualdiff_cli.present.figures.points import rows_beside_samples
from dualdiff_cli.present.figures.style import save


@pytest.mark.parametrize(("d", "panels"), [(1, 1), (2, 2), (5, 15), (8, 21)])
def test_any_number_of_columns_makes_a_figure_with_its_panels(d: int, panels: int, tmp_path: Path) -> None:
    figure = beside(normal(300, d), normal(200, d, seed=1))
    assert sum(axes.axison for axes in figure.axes) == panels
    assert save(figure, tmp_path / "f")[0].stat().st_size > 0


def test_both_panels_share_limits_that_come_from_the_data() -> None:
    real = normal(2000, 2)
    left, right = beside(real, 3 * normal(2000, 2, seed=1)).axes
    assert left.get_xlim() == right.get_xlim()
    assert left.get_ylim() == right.get_ylim()
    alone, _ = beside(real, real).axes
    assert left.get_xlim() == alone.get_xlim()
    low, high = left.get_xlim()
    assert low < real[:, 0].min() < real[:, 0].max() < high


def test_both_panels_draw_equally_many_points_and_never_more_than_the_cap() -> None:
    left, right = beside(np.tile(normal(1000, 2), (30, 1)), np.tile(normal(1000, 2), (25, 1))).axes
    assert len(drawn(left)) == len(drawn(right)) == MAX_POINTS
    left, right = beside(normal(30_000, 2).clip(-1, 1), normal(700, 2).clip(-1, 1)).axes
    assert len(drawn(left)) == len(drawn(right)) == 700
    assert left.get_title(loc="left") == "data · 700 of 30,000 points"
    assert right.get_title(loc="left") == "samples · 700 points"


def test_thinned_points_are_distinct_rows_of_the_data() -> None:
    real = normal(30_000, 2)
    dots = drawn(beside(real, real).axes[0])
    assert len(np.unique(dots, axis=0)) == len(dots)
    assert set(map(tuple, dots)) <= set(map(tuple, real))


def test_share_outside_the_limits_is_stated_and_only_where_it_is_not_zero() -> None:
    real = np.random.default_rng(0).uniform(-1, 1, (1000, 2))
    generated = real.copy()
    generated[:30] += 10
    generated[30:35, 1] = np.nan
    left, right = beside(real, generated).axes
    assert corner(left) == []
    assert corner(right) == ["3.5 % outside"]
    assert len(drawn(right)) == 965


def test_a_lone_far_point_does_not_squash_the_rest() -> None:
    real = np.random.default_rng(0).uniform(-1, 1, (5000, 2))
    real[0] = 1e6
    left, _ = beside(real, real).axes
    assert left.get_xlim()[1] < 1.2
    assert corner(left) == ["0.02 % outside"]


def test_scales_are_equal_for_comparable_columns_and_free_for_others() -> None:
    real = np.random.default_rng(0).uniform(-1, 1, (500, 2))
    assert all(axes.get_aspect() == 1 for axes in beside(real, real).axes)
    far = real * [1, 1000]
    assert all(axes.get_aspect() == "auto" for axes in beside(far, far).axes)


def test_single_column_draws_densities_of_all_points() -> None:
    real = np.random.default_rng(0).uniform(0, 1, (4000, 1))
    generated = np.concatenate([real[:1000], np.full((1000, 1), 50.0)])
    (axes,) = beside(real, generated).axes
    areas = [np.sum(values * np.diff(edges)) for values, edges in densities(axes)]
    assert areas == pytest.approx([1.0, 0.5])
    assert legend(axes)[1:] == ["data · 4,000 points", "samples · 2,000 points · 50 % outside"]


@pytest.mark.parametrize("span", [5, 61, 1000])
def test_bins_of_an_integer_column_hold_equally_many_integers(span: int) -> None:
    real = np.random.default_rng(0).integers(0, span, (3000, 1))
    _, edges = densities(beside(real, real).axes[0])[0]
    inside = np.histogram(np.arange(edges[0] + 0.5, edges[-1]), edges)[0]
    assert len(set(inside)) == 1
    assert len(inside) <= 70


def test_pair_plot_says_how_many_columns_it_shows_and_draws_both_sets_in_mixed_order() -> None:
    real = normal(4000, 8)
    figure = beside(real, normal(4000, 8, seed=1))
    assert legend(figure.axes[1])[0] == "first 6 of 8 columns"
    assert [axes.get_xlabel() for axes in figure.axes[-6:]] == names(6)
    (dots,) = figure.axes[6].collections
    colours = np.asarray(dots.get_facecolor())
    from_data = np.all(colours == colours[0], axis=1)
    assert from_data.mean() == pytest.approx(0.5, abs=0.02)
    assert from_data[: len(colours) // 2].mean() == pytest.approx(0.5, abs=0.05)


def test_pair_plot_shares_limits_along_rows_and_columns() -> None:
    real = normal(1000, 4) * [1, 10, 100, 1000]
    axes = np.array(beside(real, 2 * real).axes).reshape(4, 4)
    for row in range(1, 4):
        for column in range(row):
            assert axes[row, column].get_xlim() == axes[column, column].get_xlim()
            assert axes[row, column].get_ylim() == axes[row, row].get_xlim()


@pytest.mark.parametrize("d", [1, 2, 3])
def test_constant_columns_and_single_points_can_be_drawn(d: int, tmp_path: Path) -> None:
    save(beside(np.full((20, d), 7.5), np.zeros((1, d))), tmp_path / "f")
    save(beside(np.zeros((1, d)), np.full((3, d), np.nan)), tmp_path / "f")


def test_column_names_are_taken_literally_and_shortened(tmp_path: Path) -> None:
    rows = pl.DataFrame(normal(50, 2), ["$_{", "x" * 100])
    figure = rows_beside_samples(rows, rows, title="$^$.csv")
    assert figure is not None
    left, _ = figure.axes
    assert left.get_xlabel() == "$_{"
    assert left.get_ylabel() == "x" * 23 + "…"
    save(figure, tmp_path / "f")


def test_nothing_is_drawn_where_one_side_has_nothing_to_draw() -> None:
    some, none = pl.DataFrame({"x": [1.0, 2.0]}), pl.DataFrame({"x": [None, None]}, {"x": pl.Float64})
    for real, generated in ((some, some[:0]), (some[:0], some), (some, none), (none, some)):
        assert rows_beside_samples(real, generated, title="") is None
