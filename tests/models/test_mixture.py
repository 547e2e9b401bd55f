"""The mixture of Gaussians against a mixture that is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import kstest, multivariate_normal, norm

from dualdiff_cli import seeding
from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.data import FloatArray, load_data
from dualdiff_cli.errors import InputError
from dualdiff_cli.models.base import ROWS_PER_BLOCK, DrawingOptions
from dualdiff_cli.models.mixture import Mixture
from dualdiff_cli.store.run import Run
from dualdiff_cli.training import gaussians
from dualdiff_cli.training import mixture as fitting
from dualdiff_cli.training.gaussians import FittedMixture, Gaussians
from dualdiff_cli.training.mixture import COVARIANCE_FORMS, fit_mixture, fit_to_completions

CPU = torch.device("cpu")
WEIGHTS = np.array([0.5, 0.3, 0.2])
MEANS = np.array([[0.0, 0.0], [4.0, 1.0], [-3.0, 4.0]])
COVARIANCES = np.array([[[1.0, 0.6], [0.6, 1.0]], [[0.2, 0.0], [0.0, 2.0]], [[1.5, -0.5], [-0.5, 0.4]]])
SHIFT, SCALE = np.array([1000.0, 0.0]), np.array([50.0, 0.01])
"""From the units in which the mixture is written down above to those of the table."""


def truth(n: int, role: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    rng = seeding.stream(0, role)
    k = rng.choice(3, n, p=WEIGHTS)
    return MEANS[k] + np.einsum("nij,nj->ni", np.linalg.cholesky(COVARIANCES)[k], rng.normal(size=(n, 2)))


def true_log_density(x: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    parts = zip(WEIGHTS, MEANS, COVARIANCES, strict=True)
    density: np.ndarray[Any, np.dtype[np.float64]] = sum(w * multivariate_normal(m, c).pdf(x) for w, m, c in parts)
    return np.log(density)


def fitted_in(path: Path, frame: pl.DataFrame, *settings: str) -> tuple[Mixture, dict[str, Any], Run]:
    """Fit a mixture to the rows of a frame, and save it."""
    frame.write_parquet(path / "table.parquet")
    config = resolve(dataset=str(path / "table.parquet"), model="mixture", settings=settings)
    plan = Mixture.plan(config, load_data(config.dataset, seed=0), device=CPU)
    run = Run.create(config, path / "run")
    model, record = Mixture.fit(plan, run, device=CPU)
    model.save(run)
    return model, record, run


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[Mixture, dict[str, Any], Run]:
    frame = pl.DataFrame(SHIFT + SCALE * truth(3000, "training"), schema=["a", "b"])
    return fitted_in(tmp_path_factory.mktemp("known"), frame, "model.largest=6")


def test_the_criterion_finds_the_number_of_gaussians_and_their_form(
    known: tuple[Mixture, dict[str, Any], Run],
) -> None:
    _, record, _ = known
    assert (record["components"], record["covariance"]) == (3, "full")
    assert record["parameters"] == 3 * (2 + 3) + 2


@pytest.mark.parametrize("form", ["full", "diag"])
def test_the_loss_of_rows_with_gaps_is_that_of_rows_completed_by_what_the_columns_say_of_each_other(
    form: str, tmp_path: Path
) -> None:
    """A column with gaps has a feature that says so, whose mean log-density is that of any other binary feature."""
    rng = seeding.stream(0, "rows with gaps")
    x = rng.multivariate_normal(np.zeros(2), [[1.0, 0.95], [0.95, 1.0]], 2000)
    hidden = rng.random(x.shape) < 0.3
    frame = pl.DataFrame(np.where(hidden, np.nan, x), schema=["a", "b"]).fill_nan(None)
    _, record, _ = fitted_in(tmp_path, frame, "model.components=1", f"model.covariance={form}")
    entropy_of_pair = 0.5 * np.log2(1 - 0.95**2) if form == "full" else 0.0
    assert record["held_out_loss"] == pytest.approx(4 * 0.5 * np.log2(2 * np.pi * np.e) + entropy_of_pair, abs=0.25)
    assert record["held_out_loss_unit"] == "bits a row of features"


def test_the_loss_of_a_category_is_its_entropy_and_that_of_the_noise_on_its_features(tmp_path: Path) -> None:
    flags = pl.DataFrame({"flag": seeding.stream(0, "flags").random(2000) < 0.5})
    model, record, _ = fitted_in(tmp_path, flags, "model.components=2", "model.covariance=full")
    (span,) = model.encoding.layout.discrete
    entropy = 1 + np.log2(
        fitting.DEQUANTISING_NOISE * span.scale * np.sqrt(2 * np.pi * np.e)
    )  # one bit, and a Gaussian's
    assert record["held_out_loss_unit"] == "bits a row of features"
    assert record["held_out_loss"] == pytest.approx(entropy, abs=0.2)


def test_the_density_is_close_to_the_true_one_in_the_units_of_the_columns(
    known: tuple[Mixture, dict[str, Any], Run],
) -> None:
    model, record, _ = known
    x = truth(2000, "checked")
    log_p = model.log_density(pl.DataFrame(SHIFT + SCALE * x, schema=["a", "b"]))
    expected = true_log_density(x) - np.log(SCALE).sum()
    assert abs((expected - log_p).mean()) < 0.02  # in nats; 17 parameters of 2700 rows cost 0.003
    assert np.sqrt(np.mean((expected - log_p) ** 2)) < 0.2
    assert record["held_out_loss"] == pytest.approx(-expected.mean() / np.log(2), abs=0.3)


def test_rows_come_from_the_fitted_gaussians(known: tuple[Mixture, dict[str, Any], Run]) -> None:
    rows = (known[0].sample(20_000, seed=1).to_numpy() - SHIFT) / SCALE
    mean = WEIGHTS @ MEANS
    centred = MEANS - mean
    covariance = np.einsum("k,kij->ij", WEIGHTS, COVARIANCES) + np.einsum("k,ki,kj->ij", WEIGHTS, centred, centred)
    assert_allclose(rows.mean(axis=0), mean, atol=0.15)
    assert_allclose(np.cov(rows.T), covariance, atol=0.5)


def test_a_shorter_draw_is_the_beginning_of_a_longer_one(known: tuple[Mixture, dict[str, Any], Run]) -> None:
    model, _, _ = known
    longest = model.sample(2 * ROWS_PER_BLOCK + 1, seed=4)
    for n in (1, 10, ROWS_PER_BLOCK, ROWS_PER_BLOCK + 1):
        assert model.sample(n, seed=4).equals(longest[:n])


@pytest.mark.parametrize("form", COVARIANCE_FORMS)
def test_every_form_of_covariance_is_saved_whole(form: str, tmp_path: Path) -> None:
    frame = pl.DataFrame(truth(300, "training"), schema=["a", "b"])
    model, record, run = fitted_in(tmp_path, frame, f"model.covariance={form}", "model.components=2")
    assert (record["components"], record["covariance"]) == (2, form)
    loaded = Mixture.load(run, device=CPU)
    assert loaded.sample(100, seed=0).equals(model.sample(100, seed=0))
    assert_allclose(loaded.log_density(frame), model.log_density(frame), rtol=1e-10)
    generated = model.sample(20_000, seed=0).to_numpy()
    assert_allclose(generated.std(axis=0), frame.to_numpy().std(axis=0), rtol=0.1)


def test_weights_that_do_not_add_up_to_one_are_refused(tmp_path: Path) -> None:
    model, _, run = fitted_in(tmp_path, pl.DataFrame(truth(200, "fit"), schema=["x", "y"]))
    weights, means, covariances = model.gaussians
    replace(model, gaussians=Gaussians(weights * (1 + 1e-7), means, covariances)).save(run)
    with pytest.raises(InputError, match="is damaged"):
        Mixture.load(run, device=CPU)


def test_the_probabilities_of_integers_add_up_to_one(tmp_path: Path) -> None:
    counts = pl.DataFrame({"k": seeding.stream(0, "test").poisson(3.0, 500)})
    model, _, _ = fitted_in(tmp_path, counts, "model.components=1")
    assert model.sample(5, seed=0).schema == {"k": pl.Int64}
    integers = pl.DataFrame({"k": np.arange(-30, 40)})
    # The density at k + u, averaged over the noise u, is the probability of k.
    p = np.mean([np.exp(model.log_density(integers, seed=seed)) for seed in range(30)], axis=0)
    assert_allclose(p.sum(), 1, atol=0.02)


def test_as_many_gaussians_are_fitted_as_are_asked_for_but_never_more_than_rows(tmp_path: Path) -> None:
    frame = pl.DataFrame(truth(40, "training"), schema=["a", "b"])
    _, record, _ = fitted_in(tmp_path, frame, "model.components=30")
    assert record["components"] == 30
    with pytest.raises(InputError, match="37 Gaussians cannot be fitted to 36 rows") as caught:
        fitted_in(tmp_path, frame, "model.components=37")
    assert "model.components" in caught.value.remedy


def test_few_rows_and_rows_that_coincide_are_fitted_without_a_warning() -> None:
    rng = seeding.stream(0, "test")
    assert fit_mixture(rng.normal(size=(4, 3)), seed=0).components == 1
    repeated = np.repeat(rng.normal(size=(5, 2)), 20, axis=0)
    assert np.isfinite(fit_mixture(repeated, seed=0).log_density(repeated)).all()


def test_the_criterion_is_computed_on_a_part_of_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "MOST_MIXTURE_ROWS", 500)
    found = fit_mixture(truth(2000, "training"), sizes=(1, 2, 3, 4), forms=("full",), seed=0)
    assert found.components == 3


def test_forms_that_cannot_catch_up_are_not_followed_and_the_same_mixture_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fits: list[tuple[str, int]] = []
    fit = fitting._fit

    def counted(z: FloatArray, components: int, form: str, seed: int) -> FittedMixture:
        fits.append((form, components))
        return fit(z, components, form, seed)

    monkeypatch.setattr(fitting, "_fit", counted)
    z = truth(1500, "training")
    found = fit_mixture(z, seed=0)
    followed = len(fits)
    monkeypatch.setattr(fitting._Candidate, "catches_up", lambda *_: True)
    whole = fit_mixture(z, seed=0)
    assert followed < len(fits) - followed
    assert (found.form, found.components) == (whole.form, whole.components)


def test_the_density_of_many_rows_is_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    z, found = truth(100, "rows"), fit_mixture(truth(400, "training"), sizes=(3,), forms=("full",), seed=0).gaussians
    whole = found.log_density(z)
    monkeypatch.setattr(gaussians, "MOST_AT_ONCE", 50)
    np.testing.assert_allclose(found.log_density(z), whole, rtol=1e-12)


def test_a_fit_depends_on_its_seed_alone() -> None:
    z = truth(400, "training")
    first, again = (fit_mixture(z, sizes=(3,), forms=("diag",), seed=1) for _ in range(2))
    assert np.array_equal(first.gaussians.means, again.gaussians.means)


@pytest.mark.parametrize("form", ["full", "tied", "diag", "spherical", "full-scales", "tied-scales"])
def test_a_mixture_of_a_part_of_the_rows_has_the_same_components_in_the_same_order(form: str) -> None:
    rng = seeding.stream(0, "two Gaussians, one inside of the other")
    z = np.concatenate([rng.normal(size=(600, 2)), rng.normal([0.3, 0.0], 0.1, (200, 2))])
    whole = fit_mixture(z, sizes=(2,), forms=(form,), seed=0)
    part = whole.refit(z[::2])
    assert_allclose(part.gaussians.weights, whole.gaussians.weights, atol=0.05)
    assert_allclose(part.gaussians.means, whole.gaussians.means, atol=0.2)
    assert_allclose(part.gaussians.covariances, whole.gaussians.covariances, rtol=0.5, atol=0.1)


def test_a_narrow_peak_across_all_clusters_gets_a_gaussian_of_its_own() -> None:
    rng = seeding.stream(0, "peak")
    z = np.column_stack([rng.uniform(-1.7, 1.7, 4000), rng.normal(size=4000)])
    z[:140, 0] = 0.5 + 0.003 * rng.normal(size=140)
    weights, means, covariances = fit_mixture(z, seed=0).gaussians
    widths = np.sqrt(covariances[:, 0, 0])
    narrow = int(widths.argmin())
    assert widths[narrow] == pytest.approx(0.003, rel=0.4)
    assert means[narrow, 0] == pytest.approx(0.5, abs=0.002)
    assert weights[narrow] == pytest.approx(0.035, abs=0.01)
    assert weights.sum() == pytest.approx(1)


def test_rows_around_given_cells_and_filled_gaps_have_the_conditional_distribution(tmp_path: Path) -> None:
    frame = pl.DataFrame(truth(3000, "rows") * SCALE + SHIFT, schema=["a", "b"])
    model, _, _ = fitted_in(tmp_path, frame, "model.components=3", "model.covariance=full")
    assert model.takes_given
    b = 0.02
    drawn = model.sample(4000, seed=1, options=DrawingOptions(given={"b": b}))
    filled = model.fill(pl.DataFrame({"b": [b] * 4000, "a": [None] * 4000}, schema_overrides={"a": pl.Float64}), seed=1)
    assert filled.columns == ["b", "a"]
    z = float(model.encoding.columns[1].encode(pl.Series("b", [b]), None)[0, 0])
    weight, mean, variance = model.gaussians
    weight = weight * norm(mean[:, 1], np.sqrt(variance[:, 1, 1])).pdf(z)
    weight /= weight.sum()
    slope = variance[:, 0, 1] / variance[:, 1, 1]
    centre, spread = mean[:, 0] + slope * (z - mean[:, 1]), np.sqrt(variance[:, 0, 0] - slope * variance[:, 0, 1])
    shift, scale = (float(each[0]) for each in model.encoding.affine)
    for rows in (drawn, filled):
        assert set(rows["b"]) == {b}
        a = (rows["a"].to_numpy() - shift) / scale
        assert kstest(a, lambda x: (weight * norm(centre, spread).cdf(np.asarray(x)[:, None])).sum(1)).pvalue > 1e-3


def test_few_rows_keep_their_correlations_beside_many_features_that_have_none() -> None:
    """BIC alone chooses diagonal covariances here: those of all features together have too many parameters for it."""
    rng = seeding.stream(0, "few rows of many features")
    z = rng.standard_normal((200, 24))
    z[:, 1:6:2] = 0.93 * z[:, 0:6:2] + 0.368 * z[:, 1:6:2]
    weights, means, covariances = fit_mixture(z, seed=0).gaussians
    mean = weights @ means
    whole = np.einsum("k,kij->ij", weights, covariances + np.einsum("ki,kj->kij", means - mean, means - mean))
    assert whole[0, 1] / np.sqrt(whole[0, 0] * whole[1, 1]) > 0.85


def test_a_mixture_of_several_completions_is_nearer_to_the_likelihoods_maximum_than_that_of_one() -> None:
    # If only y has gaps, the maximum is known: the regression of y on x is that of the complete rows (Anderson 1957,
    # "Maximum likelihood estimates for a multivariate normal distribution when some observations are missing").
    n, away = 200, np.zeros((20, 2))
    for seed, found in enumerate(away):
        rng = seeding.stream(seed, "test")
        x = rng.normal(size=n)
        y = 0.8 * x + 0.6 * rng.normal(size=n)
        gap = rng.random(n) < 0.5
        slope, start = np.polyfit(x[~gap], y[~gap], 1)
        spread = np.std(y[~gap] - slope * x[~gap] - start)
        draws = [np.where(gap, start + slope * x + spread * rng.normal(size=n), y) for _ in range(5)]
        completions = np.stack([np.stack([x, draw], axis=1) for draw in draws])
        for k, some in enumerate((completions[:1], completions)):
            fitted = fit_to_completions(some, [], sizes=(1,), forms=("full",), seed=0)
            covariance = fitted.gaussians.covariances[0]
            found[k] = covariance[0, 1] / covariance[0, 0] - slope
    one, five = (away**2).mean(0)
    assert five < one / 2
