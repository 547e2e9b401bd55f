"""The kernel density against its closed form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.special import logsumexp

from dualdiff_cli import seeding
from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.data import Data, FeatureLayout, load_data
from dualdiff_cli.models import kernel_density as module
from dualdiff_cli.models.base import ROWS_PER_BLOCK
from dualdiff_cli.models.kernel_density import BANDWIDTHS, KernelDensity
from dualdiff_cli.store.run import Run

CPU = torch.device("cpu")
SCALE = np.array([50.0, 0.01])


def gaussian(n: int, role: str = "training") -> pl.DataFrame:
    values = [1000, 0] + SCALE * seeding.stream(0, role).normal(size=(n, 2))
    return pl.DataFrame(values, schema=["a", "b"])


def fitted_in(path: Path, frame: pl.DataFrame, *settings: str) -> tuple[KernelDensity, dict[str, Any], Run, Data]:
    """Fit a kernel density to the rows of a frame, and save it."""
    frame.write_parquet(path / "table.parquet")
    config = resolve(dataset=str(path / "table.parquet"), model="kernel-density", settings=settings)
    data = load_data(config.dataset, seed=0)
    run = Run.create(config, path / "run")
    model, record = KernelDensity.fit(KernelDensity.plan(config, data, device=CPU), run, device=CPU)
    model.save(run)
    return model, record, run, data


def closed_form(train: pl.DataFrame, rows: pl.DataFrame, bandwidth: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Log (1/n) Σ_i Π_j N(x_j; x_ij, (h s_j)²) with the standard deviations s of the training rows."""
    x, centres = rows.to_numpy()[:, None], train.to_numpy()[None]
    h = bandwidth * centres.std(axis=1, keepdims=True)
    terms = (-((x - centres) ** 2) / (2 * h**2) - np.log(h) - np.log(2 * np.pi) / 2).sum(-1)
    log_p: np.ndarray[Any, np.dtype[np.float64]] = logsumexp(terms, axis=1) - np.log(train.height)
    return log_p


@pytest.mark.parametrize("bandwidth", [0.05, 0.3, 2.0])
def test_the_density_is_the_closed_form_in_the_units_of_the_columns(bandwidth: float, tmp_path: Path) -> None:
    model, record, _, data = fitted_in(tmp_path, gaussian(200), f"model.bandwidth={bandwidth}")
    assert record["bandwidth"] == bandwidth
    expected = closed_form(data.train, data.held_out, bandwidth)
    assert_allclose(model.log_density(data.held_out), expected, rtol=1e-6)
    assert record["held_out_loss"] == pytest.approx(-expected.mean() / np.log(2))


def test_that_training_rows_are_kept_is_said_and_true(tmp_path: Path) -> None:
    _, record, run, data = fitted_in(tmp_path, gaussian(100), "model.bandwidth=0.3")
    assert record["keeps_training_rows"] is True
    loaded = KernelDensity.load(run, device=CPU)
    assert_allclose(loaded.encoding.decode(loaded.rows).to_numpy(), data.train.to_numpy(), rtol=1e-12)


def test_a_loaded_density_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    model, _, run, data = fitted_in(tmp_path, gaussian(100), "model.bandwidth=0.3")
    loaded = KernelDensity.load(run, device=CPU)
    assert loaded.sample(100, seed=0).equals(model.sample(100, seed=0))
    assert np.array_equal(loaded.log_density(data.held_out), model.log_density(data.held_out))


def test_a_row_is_a_training_row_with_the_kernel_s_noise(tmp_path: Path) -> None:
    model, _, _, data = fitted_in(tmp_path, gaussian(30), "model.bandwidth=0.001")
    drawn = model.sample(3000, seed=0).to_numpy() / SCALE
    distances = np.abs(drawn[:, None] - data.train.to_numpy()[None] / SCALE).max(-1)
    assert distances.min(axis=1).max() < 0.01
    assert set(distances.argmin(axis=1)) == set(range(data.train.height))


def test_a_shorter_draw_is_the_beginning_of_a_longer_one(tmp_path: Path) -> None:
    model, *_ = fitted_in(tmp_path, gaussian(50), "model.bandwidth=0.3")
    longest = model.sample(2 * ROWS_PER_BLOCK + 1, seed=4)
    for n in (1, 10, ROWS_PER_BLOCK, ROWS_PER_BLOCK + 1):
        assert model.sample(n, seed=4).equals(longest[:n])


def test_cross_validation_chooses_a_bandwidth_that_nearly_no_other_beats(tmp_path: Path) -> None:
    model, record, _, data = fitted_in(tmp_path, gaussian(500))
    fresh = gaussian(2000, "fresh")
    likelihoods = [closed_form(data.train, fresh, h).mean() for h in BANDWIDTHS]
    assert model.log_density(fresh).mean() > max(likelihoods) - 0.03
    assert 0.1 < record["bandwidth"] < 0.7  # Scott's rule: 450^(−1/6) = 0.36


def test_the_bandwidth_of_a_part_is_scaled_to_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    z = seeding.stream(0, "test").normal(size=(900, 2))
    whole = module._cross_validated(z[:100], FeatureLayout.plain(2), folds=5, seed=0)
    monkeypatch.setattr(module, "MOST_ROWS", 100)
    part = module._cross_validated(z, FeatureLayout.plain(2), folds=5, seed=0)
    candidate = part / (80 / 900) ** (1 / 6)
    assert np.isclose(BANDWIDTHS, candidate).any()
    assert part < whole


def with_kinds(frame: pl.DataFrame) -> pl.DataFrame:
    """Add a category that has nothing to do with the other columns."""
    return frame.with_columns(kind=seeding.stream(0, "kinds").choice(["a", "b", "c"], frame.height))


def test_the_kernel_of_a_category_is_so_narrow_that_a_row_keeps_it(tmp_path: Path) -> None:
    few = pl.DataFrame({"a": [0.0, 10.0] * 20, "kind": ["low", "high"] * 20})
    model, *_ = fitted_in(tmp_path, few, "model.bandwidth=0.1")
    rows = model.sample(2000, seed=0)
    assert set(rows["kind"]) == {"low", "high"}
    assert (rows["a"].lt(5) == rows["kind"].eq("low")).all()


def test_a_category_does_not_narrow_the_kernel_of_the_numbers(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    (tmp_path / "beside").mkdir()
    _, alone, *_ = fitted_in(tmp_path / "alone", gaussian(300))
    _, beside, *_ = fitted_in(tmp_path / "beside", with_kinds(gaussian(300)))
    # A third of the rows stands behind each category: by Scott's rule h grows by 3^(1/6) = 1.2, and it must not shrink.
    assert 0.95 < beside["bandwidth"] / alone["bandwidth"] < 1.6


def test_the_density_of_features_integrates_to_one_beside_a_category(tmp_path: Path) -> None:
    model, *_ = fitted_in(tmp_path, with_kinds(gaussian(50)).select("a", "kind"), "model.bandwidth=0.5")
    # By importance sampling: the mean of p(z) / q(z) over draws z of a wider kernel density q.
    wide = replace(model, bandwidth=0.8)
    rng = seeding.stream(0, "wide")
    z = wide.rows[rng.integers(len(wide.rows), size=4000)] + wide.widths * rng.standard_normal(
        (4000, wide.rows.shape[1])
    )
    ratio = np.exp(model.log_density_of_features(z) - wide.log_density_of_features(z))
    assert ratio.mean() == pytest.approx(1.0, abs=4 * ratio.std() / np.sqrt(len(z)))


def test_integers_are_drawn_as_integers(tmp_path: Path) -> None:
    counts = pl.DataFrame({"k": seeding.stream(0, "test").poisson(3.0, 200)})
    model, *_ = fitted_in(tmp_path, counts)
    rows = model.sample(500, seed=0)
    assert rows.schema == {"k": pl.Int64}
    assert set(rows["k"]) <= set(range(-2, 15))
