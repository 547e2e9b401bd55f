"""The picture of a training's loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures import corner

from dualdiff_cli.errors import InputError
from dualdiff_cli.present.figures.losses import loss_curve
from dualdiff_cli.present.figures.style import save


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
