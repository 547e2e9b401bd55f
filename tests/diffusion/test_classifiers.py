"""Classifier guidance, against the conditional denoisers of a mixture whose classifier is known."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose
from tiny import tiny
from torch import Tensor

from dualdiff_cli import seeding
from dualdiff_cli.diffusion.classifiers import ClassifierGuided, by_differences, classifier_inputs, noisy_inputs
from dualdiff_cli.diffusion.mixtures import FullMixtureDenoiser
from dualdiff_cli.diffusion.samplers.multistep import DPMSolverPP2M
from dualdiff_cli.diffusion.schedules.continuous import LogSNRUniform
from dualdiff_cli.jobs.train import train

SCHEDULE = LogSNRUniform(sigma_min=0.01, sigma_max=10.0)
TIMES = [0.02, 0.3, 0.6, 1.0]
WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
MEANS = torch.tensor([[-1.5, 0.0], [1.0, 0.8], [0.5, -1.2]], dtype=torch.float64)
COVARIANCES = torch.stack(
    [torch.diag(torch.tensor(v, dtype=torch.float64)) for v in ([0.2, 0.6], [0.5, 0.1], [0.3, 0.3])]
)
LABEL = 1
PLAIN = FullMixtureDenoiser(WEIGHTS, MEANS, COVARIANCES, SCHEDULE)
OF_LABEL = FullMixtureDenoiser(torch.ones(1).double(), MEANS[[LABEL]], COVARIANCES[[LABEL]], SCHEDULE)


def points(n: int) -> Tensor:
    return 2 * torch.randn(n, 2, generator=seeding.torch_stream(0, "points"), dtype=torch.float64)


def log_probabilities(x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The log of p(y | x_t) of the three components, (n, 3), by Bayes' theorem."""
    parts = []
    for w, mean, covariance in zip(WEIGHTS, MEANS, COVARIANCES, strict=True):
        total = alpha**2 * covariance + sigma**2 * torch.eye(2, dtype=torch.float64)
        normal = torch.distributions.MultivariateNormal(alpha * mean, total)
        parts.append(w.log() + normal.log_prob(x_t))
    return torch.log_softmax(torch.stack(parts, dim=1), dim=1)


def exact(x_t: Tensor, t: Tensor) -> Tensor:
    return log_probabilities(x_t, *SCHEDULE(t))[:, LABEL]


def predict_proba(inputs: np.ndarray) -> np.ndarray:
    """The exact classifier with scikit-learn's face, which sees points of unit scale and half the log SNR."""
    alpha, sigma = (level[0] for level in SCHEDULE(SCHEDULE.time(2 * torch.from_numpy(inputs[:1, -1]))))
    x_t = torch.from_numpy(inputs[:, :-1]) * torch.sqrt(alpha**2 + sigma**2)
    return log_probabilities(x_t, alpha, sigma).exp().numpy()


@pytest.mark.parametrize("t", TIMES)
def test_the_exact_classifier_makes_the_conditional_denoiser_of_the_unconditional_one(t: float) -> None:
    x_t, time = points(50), torch.tensor(t, dtype=torch.float64)
    guided = ClassifierGuided(PLAIN, exact)(x_t, time)
    assert_allclose(guided, OF_LABEL(x_t, time), atol=1e-9)


@pytest.mark.parametrize("t", TIMES)
def test_differences_are_close_to_the_gradient(t: float) -> None:
    x_t, time = points(100), torch.tensor(t, dtype=torch.float64)
    x_t = x_t[exact(x_t, time) > -20]  # smaller probabilities are cut off
    guided = ClassifierGuided(PLAIN, by_differences(predict_proba, LABEL, SCHEDULE))(x_t, time)
    assert_allclose(guided, ClassifierGuided(PLAIN, exact)(x_t, time), atol=0.02)


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
def test_the_weight_scales_what_the_classifier_adds(weight: float) -> None:
    x_t, time = points(20), torch.tensor(0.5, dtype=torch.float64)
    plain, once = PLAIN(x_t, time), ClassifierGuided(PLAIN, exact)(x_t, time)
    assert_allclose(ClassifierGuided(PLAIN, exact, weight)(x_t, time), plain + weight * (once - plain), atol=1e-12)


def test_a_sampler_with_the_exact_classifier_draws_the_component() -> None:
    noise = torch.randn(4000, 2, generator=seeding.torch_stream(1, "noise"))
    drawn = DPMSolverPP2M(steps=40, grid="log-snr")(ClassifierGuided(PLAIN, exact), noise)
    assert_allclose(drawn.mean(0), MEANS[LABEL], atol=0.05)
    assert_allclose(np.cov(drawn.T), COVARIANCES[LABEL], atol=0.05)


def test_a_classifier_of_scikit_learn_that_has_learnt_noisy_points_guides_to_its_label() -> None:
    from sklearn.neural_network import MLPClassifier

    rng = seeding.stream(0, "labelled points")
    y = rng.choice(3, 1000, p=WEIGHTS.numpy())
    roots = torch.linalg.cholesky(COVARIANCES).numpy()
    x = MEANS.numpy()[y] + np.einsum("nij,nj->ni", roots[y], rng.standard_normal((1000, 2)))
    inputs = noisy_inputs(torch.from_numpy(x), SCHEDULE, seed=0).numpy()
    classifier = MLPClassifier((32, 32), alpha=0.01, early_stopping=True, random_state=0).fit(inputs, np.tile(y, 10))
    guided = ClassifierGuided(PLAIN, by_differences(classifier.predict_proba, LABEL, SCHEDULE))
    noise = torch.randn(500, 2, generator=seeding.torch_stream(1, "noise"))
    drawn = DPMSolverPP2M(steps=15, grid="log-snr")(guided, noise)
    assert_allclose(drawn.mean(0), MEANS[LABEL], atol=0.3)  # a learnt classifier exaggerates
    clean = torch.tensor(0.0, dtype=torch.float64)
    assert exact(drawn, clean).exp().mean() > 0.9


def test_inputs_have_a_spread_of_about_one_and_say_the_level() -> None:
    x = torch.randn(500, 2, generator=seeding.torch_stream(2, "x"), dtype=torch.float64)
    inputs = noisy_inputs(x, SCHEDULE, copies=4, seed=0)
    assert inputs.shape == (2000, 3)
    assert_allclose(inputs[:, :2].std(0), 1, atol=0.05)
    time = torch.tensor(0.3, dtype=torch.float64)
    assert_allclose(2 * classifier_inputs(x, time, SCHEDULE)[:, 2], float(SCHEDULE.log_snr(time)))


@pytest.mark.slow
def test_the_example_writes_rows_of_the_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = seeding.stream(0, "two clusters").normal(size=(300, 2)) + np.arange(300)[:, None] % 2 * 6
    rows = pl.DataFrame(x, schema=["a", "b"]).with_columns(
        label=pl.when(pl.col("a") > 3).then(pl.lit("far")).otherwise(pl.lit("near"))
    )
    rows.write_csv(table := tmp_path / "table.csv")
    config = tiny("precise", dataset=str(table), settings=["data.columns=['a','b']", "training.steps=150"])
    run = train(config, path=tmp_path / "run", device="cpu")["run"]
    words = ["classifier_guidance.py", str(run), str(table), "label", "far", str(tmp_path / "out.csv"), "2"]
    monkeypatch.setattr("sys.argv", words)
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "classifier_guidance.py"))
    drawn = pl.read_csv(tmp_path / "out.csv")
    assert (drawn["a"] > 3).mean() > 0.8
