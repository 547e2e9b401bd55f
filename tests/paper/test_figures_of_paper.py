"""The paper's figures: they show the given values, and panels that are compared share their limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text
from pictures import drawn, normal, softmax

from dualdiff_cli.paper.figures import (
    draw_divergences,
    draw_gate_histograms,
    draw_gates,
    draw_losses,
    draw_samples,
)

NAMES = ["baseline", "dual-expert", "enhanced-gating", "increased-capacity", "diversity-loss", "baseline-matched"]


def row(dataset: str, label: str, *, paper: float | None = 0.5) -> dict[str, Any]:
    kl = {"mean": 0.4, "ci95": [0.3, 0.5], "values": {"0": 0.35, "1": 0.45}, "floor": 0.02, "paper": paper}
    return {"dataset": dataset, "label": label, "kl_published": kl}


def test_divergences_have_a_panel_a_data_set_with_seeds_mean_interval_paper_and_floor() -> None:
    rows = [
        row("dino", "baseline"),
        row("circle", "baseline"),
        row("dino", "baseline"),
        row("dino", "matched", paper=None),
    ]
    figure = draw_divergences(rows, title="t")
    dino, circle = figure.axes
    assert [axes.get_title("left") for axes in figure.axes] == ["dino", "circle"]
    assert [text.get_text() for text in dino.get_yticklabels()] == ["baseline", "matched"]
    xs = [np.atleast_1d(line.get_xdata()).tolist() for line in circle.get_lines()]
    assert xs == [[0.02, 0.02], [0.3, 0.5], [0.35, 0.45], [0.4], [0.5]]
    assert len(dino.get_lines()) == 1 + 4 + 3


def test_a_panel_of_a_file_shows_the_divergence_that_a_file_has() -> None:
    of_file = row("data/people.csv", "baseline", paper=None)
    of_file = {**of_file, "kl_real_generated": of_file["kl_published"], "kl_published": {}}
    dino, people = draw_divergences([row("dino", "baseline"), of_file], title="t").axes
    assert people.get_title("left") == "people.csv"
    assert [np.atleast_1d(line.get_xdata()).tolist() for line in people.get_lines()][-1] == [0.4]
    assert "as published" in dino.get_xlabel()
    assert "held-out" in people.get_xlabel()


def test_row_without_a_finished_run_keeps_its_line_and_the_papers_figure() -> None:
    empty = row("dino", "baseline")
    empty["kl_published"] |= {"mean": None, "ci95": None, "values": {}, "floor": None}
    (axes,) = draw_divergences([empty], title="t").axes
    assert [np.atleast_1d(line.get_xdata()).tolist() for line in axes.get_lines()] == [[], [0.5]]


def test_samples_share_limits_and_numbers_with_the_data() -> None:
    sets = {name: 3 * normal(400 + i, 2, seed=i) for i, name in enumerate(NAMES)}
    figure = draw_samples(normal(500, 2), sets, columns=["x", "y"], title="t")
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title("left") for axes in panels] == ["data", *NAMES]
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in panels}) == 1
    assert len(drawn(panels[0])) == 400
    assert all("outside" in axes.texts[0].get_text() for axes in panels[1:])


def test_losses_have_a_panel_a_configuration_with_the_mean_and_the_range_of_the_seeds() -> None:
    steps = np.arange(100, 1100, 100)
    seeds = [(steps, np.full(10, 0.6)), (steps, np.full(10, 0.8))]
    figure = draw_losses({"a": seeds, "b": seeds, "c": [(steps, np.zeros(10))]}, penalised={"c"}, title="t")
    assert "training loss" in figure.get_supylabel()
    a, b, c = (axes for axes in figure.axes if axes.get_visible())
    for axes in (a, b):
        assert np.allclose(axes.get_lines()[-1].get_ydata(), 0.7)
        assert {round(float(y), 6) for y in axes.collections[0].get_paths()[0].vertices[:, 1]} == {0.6, 0.8}
    assert [len(axes.get_lines()) for axes in (a, b, c)] == [1, 2, 1]  # The first is repeated where it can be compared.
    assert a.get_ylim() == b.get_ylim() != c.get_ylim()
    assert "reward" in c.get_title("left")


def test_losses_of_seeds_of_different_length_end_at_the_shorter() -> None:
    steps = np.arange(100, 1100, 100)
    (axes,) = draw_losses({"a": [(steps, np.ones(10)), (steps[:6], np.ones(6))]}, title="t").axes
    assert axes.get_lines()[0].get_xdata()[-1] == 600


@pytest.mark.parametrize("count", [1, 5, 6])
def test_gates_are_drawn_for_every_configuration_on_the_same_axes(count: int) -> None:
    gated = {
        name: (normal(300, 2, seed=i), softmax(normal(300, 2, seed=9 + i))) for i, name in enumerate(NAMES[:count])
    }
    panels = [
        axes for axes in draw_gates(normal(300, 2), gated, columns=["x", "y"], title="t").axes if axes.get_visible()
    ]
    assert len(panels) == count + 1  # and the colour bar
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in panels[:-1]}) == 1
    histograms = draw_gate_histograms({name: weights for name, (_, weights) in gated.items()}, title="t")
    shown = [axes for axes in histograms.axes if axes.get_visible()]
    assert len(shown) == count
    assert len({axes.get_ylim() for axes in shown}) == 1
    for axes, (_, weights) in zip(shown, gated.values(), strict=True):
        assert axes.patches[0].get_data().values.sum() == pytest.approx(1)  # type: ignore[attr-defined]
        assert f"mean {weights[:, 0].mean():.2f}" in axes.get_title("left")


def test_a_stray_sample_does_not_widen_the_axes_of_the_gates_and_is_counted() -> None:
    real, weights = normal(300, 2), softmax(normal(300, 2))
    stray = real.copy()
    stray[0] = 1.5 * real.max(axis=0)
    inside, outside = (
        draw_gates(real, {"a": (points, weights)}, columns=["x", "y"], title="t").axes[0] for points in (real, stray)
    )
    assert inside.get_xlim() == outside.get_xlim()
    assert [text.get_text() for text in outside.texts] == ["0.33 % outside"]


def test_the_name_of_a_file_is_no_formula() -> None:
    of_file = row("data/a$x$b$.csv", "baseline", paper=None)
    of_file = {**of_file, "kl_real_generated": of_file["kl_published"], "kl_published": {}}
    figure = draw_divergences([of_file], title="t")
    figure.draw_without_rendering()
    assert not any(text.get_parse_math() for text in figure.findobj(Text) if "$" in text.get_text())
