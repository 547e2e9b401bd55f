from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dualdiff_cli.errors import InputError
from dualdiff_cli.figures import MAX_POINTS, data_beside_samples, gate_histogram, gate_scatter, loss_curve, save


def normal(n: int, d: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits)
    return weights / weights.sum(axis=1, keepdims=True)


def names(d: int) -> list[str]:
    return [f"c{column}" for column in range(d)]


def beside(real: np.ndarray, generated: np.ndarray) -> Figure:
    return data_beside_samples(real, generated, columns=names(real.shape[1]), title="title")


def drawn(axes: Axes) -> np.ndarray:
    """Every dot of the axes, shape (points, 2)."""
    return np.concatenate([np.empty((0, 2)), *(np.asarray(dots.get_offsets()) for dots in axes.collections)])


def corner(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def legend(axes: Axes) -> list[str]:
    box = axes.get_legend()
    assert box is not None
    return [box.get_title().get_text(), *(text.get_text() for text in box.get_texts())]


def densities(axes: Axes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Values and edges of the stairs in the axes, in drawing order."""
    return [(step.get_data().values, step.get_data().edges) for step in axes.patches]  # type: ignore[attr-defined]


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
    figure = data_beside_samples(normal(50, 2), normal(50, 2), columns=["$_{", "x" * 100], title="$^$.csv")
    left, _ = figure.axes
    assert left.get_xlabel() == "$_{"
    assert left.get_ylabel() == "x" * 23 + "…"
    save(figure, tmp_path / "f")


def test_sets_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(InputError, match="3 columns, the data 2"):
        beside(normal(5, 2), normal(5, 3))
    with pytest.raises(InputError, match="samples are empty"):
        beside(normal(5, 2), normal(0, 2))
    with pytest.raises(InputError, match="no finite value"):
        beside(np.full((5, 2), np.nan), normal(5, 2))
    with pytest.raises(ValueError, match="1 column names for 2 columns"):
        data_beside_samples(normal(5, 2), normal(5, 2), columns=["x"], title="")


def test_running_mean_is_centred_over_a_twentieth_of_the_values() -> None:
    losses = np.random.default_rng(0).uniform(1, 2, 200)
    steps = np.arange(200) * 50
    raw, mean = loss_curve(steps, losses, title="").axes[0].get_lines()
    np.testing.assert_array_equal(raw.get_xydata(), np.column_stack([steps, losses]))
    expected = [losses[max(0, i - 5) : i + 6].mean() for i in range(200)]
    np.testing.assert_allclose(mean.get_ydata(), expected)
    assert (raw.get_alpha() or 1) < (mean.get_alpha() or 1)


@pytest.mark.parametrize(("last", "scale"), [(0.05, "log"), (0.7, "linear"), (-1.0, "linear")])
def test_loss_axis_is_logarithmic_only_for_a_positive_loss_that_falls_far(last: float, scale: str) -> None:
    assert loss_curve(np.arange(100), np.linspace(1, last, 100), title="").axes[0].get_yscale() == scale


def test_losses_that_are_not_finite_are_counted_and_a_single_one_is_visible(tmp_path: Path) -> None:
    figure = loss_curve([1, 2, 3], [np.nan, 0.5, np.inf], title="")
    assert corner(figure.axes[0]) == ["2 not finite"]
    assert figure.axes[0].get_lines()[1].get_marker() == "o"
    save(figure, tmp_path / "f")
    with pytest.raises(InputError, match="no finite loss"):
        loss_curve([1], [np.nan], title="")
    with pytest.raises(ValueError, match="equally long"):
        loss_curve([1, 2], [0.5], title="")


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


def test_saving_twice_and_building_anew_give_the_same_bytes(tmp_path: Path) -> None:
    formats = ("png", "svg", "pdf")
    for d in (2, 3):
        figures = [beside(normal(500, d), normal(400, d, seed=1)) for _ in range(2)]
        figures.append(figures[0])
        saved = [save(figure, tmp_path / f"{d}-{k}", formats=formats) for k, figure in enumerate(figures)]
        for of_format in zip(*saved, strict=True):
            assert len({path.read_bytes() for path in of_format}) == 1


def test_saved_files_hold_neither_dates_nor_versions(tmp_path: Path) -> None:
    figure = loss_curve([1, 2], [1.0, 0.5], title="")
    for path in save(figure, tmp_path / "f", formats=("png", "svg", "pdf")):
        content = path.read_bytes()
        assert b"Software" not in content
        assert b"dc:date" not in content
        assert b"CreationDate" not in content
        assert b"Matplotlib v" not in content


def test_save_appends_the_format_makes_parents_and_leaves_nothing_else(tmp_path: Path) -> None:
    stem = tmp_path / "runs" / "moons-0.05"
    paths = save(gate_histogram(np.full((5, 2), 0.5)), stem, formats=("svg", "png"))
    assert [path.name for path in paths] == ["moons-0.05.svg", "moons-0.05.png"]
    assert sorted(stem.parent.iterdir()) == sorted(paths)


def test_a_failed_save_keeps_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = gate_histogram(np.full((5, 2), 0.5))
    (path,) = save(figure, tmp_path / "f")
    before = path.read_bytes()

    def half_written(file: Path, **_: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", half_written)
    with pytest.raises(OSError, match="disk full"):
        save(figure, tmp_path / "f")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_format_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'bmp'.*png, svg, pdf"):
        save(gate_histogram(np.full((5, 2), 0.5)), tmp_path / "f", formats=("png", "bmp"))
    assert list(tmp_path.iterdir()) == []


def test_svg_of_many_points_stays_small(tmp_path: Path) -> None:
    (path,) = save(beside(normal(MAX_POINTS, 2), normal(MAX_POINTS, 2)), tmp_path / "f", formats=("svg",))
    assert path.stat().st_size < 500_000


def test_global_style_is_left_alone_and_does_not_leak_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = save(gate_histogram(np.full((5, 2), 0.5)), tmp_path / "plain")[0].read_bytes()
    monkeypatch.setitem(rcParams, "axes.facecolor", "red")
    monkeypatch.setitem(rcParams, "xtick.direction", "in")
    before = dict(rcParams)
    assert save(gate_histogram(np.full((5, 2), 0.5)), tmp_path / "custom")[0].read_bytes() == plain
    assert dict(rcParams) == before


def test_pyplot_is_never_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from dualdiff_cli.figures import *; x = [[0., 0.], [1., 1.]]\n"
        "save(data_beside_samples(x, x, columns=['a', 'b'], title='t'), sys.argv[1], formats=['png', 'svg', 'pdf'])\n"
        "save(gate_scatter(x, x, columns=['a', 'b']), sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "f")], check=True)
