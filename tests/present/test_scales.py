"""Columns of every type have a place on an axis."""

from __future__ import annotations

from datetime import date, datetime

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure
from pictures import densities, drawn

from dualdiff_cli.present.figures.correlations import correlation_map, rank_correlations
from dualdiff_cli.present.figures.marginals import marginal
from dualdiff_cli.present.figures.points import rows_beside_samples
from dualdiff_cli.present.figures.scales import ColumnScale, scale_of
from dualdiff_cli.seeding import stream


def of(column: pl.Series) -> ColumnScale:
    scale = scale_of(column)
    assert scale is not None
    return scale


def mixed(n: int, seed: int) -> pl.DataFrame:
    rng = stream(seed, "mixed")
    return pl.DataFrame(
        {
            "income": np.exp(rng.normal(10, 1.2, n)),
            "visits": rng.poisson(2, n),
            "member": rng.random(n) < 0.3,
            "town": rng.choice(["Bonn", "Ulm", "Jena"], n),
            "day": [date(2020, 1, 1 + int(k)) for k in rng.integers(0, 28, n)],
            "note": [None if k < 0.2 else float(k) for k in rng.random(n)],
        }
    )


def test_each_type_has_its_kind_of_scale() -> None:
    kinds = [of(column).kind for column in mixed(500, 0)]
    assert kinds == ["number", "whole", "category", "category", "date", "number"]
    assert scale_of(pl.Series("lists", [[1], [2]])) is None
    for dtype in (pl.Float64, pl.Date, pl.Datetime, pl.String, pl.Boolean):
        assert scale_of(pl.Series("nothing", [None, None], dtype=dtype)) is None


def test_dates_are_days_and_truth_values_are_two_places() -> None:
    days = pl.Series("d", [date(1970, 1, 2), None, date(1970, 1, 11)])
    np.testing.assert_array_equal(of(days).place(days), [1, np.nan, 10])
    hours = pl.Series("h", [datetime(1970, 1, 1, 12)])
    np.testing.assert_array_equal(of(hours).place(hours), [0.5])
    flags = pl.Series("f", [True, False, None])
    np.testing.assert_array_equal(of(flags).place(flags), [1, 0, np.nan])


@pytest.mark.parametrize("year", [1, 9999])
def test_the_first_and_the_last_dates_can_be_drawn(year: int) -> None:
    days = pl.Series("d", [date(year, month, 1) for month in (1, 6, 12)])
    scale, figure = of(days), Figure()
    scale.dress(axes := figure.subplots(), "x", scale.limits(scale.place(days)))
    figure.canvas.draw()
    assert [label.get_text() for label in axes.get_xticklabels()]


def test_a_column_of_words_may_be_called_like_the_numbers_of_its_words() -> None:
    assert of(pl.Series("count", ["u", "v", "v"])).labels == ("v", "u")


def test_rare_words_and_words_that_the_data_lack_share_the_last_place() -> None:
    words = pl.Series("w", [f"w{k}" for k in range(30) for _ in range(30 - k)])
    scale = of(words)
    assert scale.labels[-1] == "21 others"
    np.testing.assert_array_equal(scale.place(pl.Series("w", ["w0", "w29", "unheard"])), [0, 9, 9])


def test_categories_are_taken_literally_and_are_no_mathematics() -> None:
    words = pl.Series("price", ["$^$", "$10k-$20k", "$_$"] * 4)
    figure = marginal(words, words, of(words))
    figure.draw_without_rendering()
    assert {label.get_text() for label in figure.axes[0].get_yticklabels()} == {"$^$", "$10k-$20k", "$_$"}


def test_only_positive_values_that_a_logarithm_straightens_have_a_logarithmic_axis() -> None:
    rng = stream(0, "skewed")
    assert of(pl.Series("x", np.exp(rng.normal(0, 1.2, 2000)))).log
    assert not of(pl.Series("x", rng.normal(100, 1, 2000))).log
    assert not of(pl.Series("x", np.exp(rng.normal(0, 1.2, 2000)) - 5)).log


@pytest.mark.parametrize(
    "values",
    [
        [1.0, np.nextafter(1.0, 0), np.nextafter(1.0, 2)],
        [10**17, 10**17 + 16, 10**17 + 96],
        [-1e308, 0.0, 1e308],
        [1e200, 1.5e200, 3e201],
        [1e-200, 1.5e-200, 3e-199],
    ],
)
def test_values_at_the_ends_of_what_numbers_can_be_are_drawn_without_a_warning(values: list[float]) -> None:
    rows = pl.DataFrame({"x": values * 40})
    figures = [rows_beside_samples(rows, rows, title="t"), marginal(rows["x"], rows["x"], of(rows["x"]))]
    for figure in figures:
        assert figure is not None
        figure.draw_without_rendering()
        (axes,) = figure.axes
        assert np.isfinite(np.ptp(axes.get_xlim()))
        assert all((np.diff(edges) > 0).all() for _, edges in densities(axes))


def test_no_bar_of_a_small_whole_number_is_cut_in_half() -> None:
    flags = pl.Series("k", [0, 1, 1, 0])
    low, high = of(flags).limits(np.array([0.0, 1.0, 1.0, 0.0]))
    assert low < -0.5 < 1.5 < high
    (axes,) = marginal(flags, flags, of(flags)).axes
    assert not axes.texts
    assert densities(axes)[0][0].tolist() == [0.5, 0.5]


def test_shares_of_a_marginal_leave_missing_cells_out() -> None:
    rows, other = mixed(400, 0), mixed(300, 1)
    for name in rows.columns:
        figure = marginal(rows[name], other[name], of(rows[name]))
        figure.draw_without_rendering()
        (axes,) = figure.axes
        assert axes.get_xlabel() == name
        if name == "note":
            assert densities(axes)[0][0].sum() == pytest.approx(1)


def test_categories_that_the_data_lack_keep_their_share_of_the_samples() -> None:
    real, generated = pl.Series("w", ["u", "v"] * 50), pl.Series("w", ["u"] * 60 + ["unheard"] * 30 + [None] * 10)
    (axes,) = marginal(real, generated, of(real)).axes
    shares = [bar.get_width() for bar in axes.patches]  # type: ignore[attr-defined]
    assert shares == pytest.approx([0.5, 0.5, 2 / 3, 0])
    assert [text.get_text() for text in axes.texts] == ["33 % other values"]


def test_a_table_of_all_types_is_drawn_beside_its_samples_and_says_what_it_leaves_out() -> None:
    figure = rows_beside_samples(mixed(400, 0), mixed(300, 1), title="t")
    assert figure is not None
    figure.draw_without_rendering()
    assert "missing" in figure.get_suptitle()
    assert sum(axes.axison for axes in figure.axes) == 21
    assert rows_beside_samples(mixed(9, 0)[["note"]].clear(), mixed(9, 0)[["note"]], title="") is None


def test_dots_of_two_columns_with_few_values_are_spread_over_squares() -> None:
    rows = pl.DataFrame({"a": [True, False] * 400, "b": ["u", "v", "v", "u"] * 200})
    figure = rows_beside_samples(rows, rows, title="t")
    assert figure is not None
    dots = drawn(figure.axes[0])
    near = dots - dots.round()
    assert 0.1 < np.abs(near).max() <= 0.25
    assert abs(np.corrcoef(near.T)[0, 1]) < 0.2


def test_rank_correlations_see_order_alone_and_skip_missing_cells() -> None:
    x = stream(0, "ranks").normal(size=300)
    rows = pl.DataFrame({"x": x, "up": np.exp(x), "down": -(x**3), "one": np.ones(300)})
    rows = rows.with_columns(pl.when(pl.col("up") > 5).then(None).otherwise(pl.col("up")).alias("up"))
    scales = [of(rows[name]) for name in rows.columns]
    found = rank_correlations(rows, scales)
    np.testing.assert_allclose(found[:3, :3], [[1, 1, -1], [1, 1, -1], [-1, -1, 1]])
    assert np.isnan(found[3]).all()
    correlation_map(found, rows.columns, title="t").draw_without_rendering()


def test_rank_correlations_are_those_of_scipy() -> None:
    from scipy.stats import spearmanr

    rng = stream(1, "ranks")
    rows = pl.DataFrame({"a": rng.integers(0, 5, 200), "b": rng.integers(0, 5, 200)})
    found = rank_correlations(rows, [of(rows["a"]), of(rows["b"])])
    assert found[0, 1] == pytest.approx(spearmanr(rows["a"], rows["b"]).statistic)
