"""Scale mixtures against Student's t, whose tails they approximate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal, multivariate_t

from dualdiff_cli import seeding
from dualdiff_cli.training.mixture import COVARIANCE_FORMS, fit_mixture
from dualdiff_cli.training.tails import SCALES, ScaleMixture

SHAPE = np.array([[1.0, 0.7], [0.7, 2.0]])
STUDENT = multivariate_t([1.0, -1.0], SHAPE, df=3)


def rows(n: int, role: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Draw rows of Student's t with three degrees of freedom."""
    rng = seeding.stream(0, role)
    return STUDENT.rvs(n, random_state=rng)


@pytest.fixture(scope="module")
def fitted() -> ScaleMixture:
    return ScaleMixture.fit(rows(4000, "learnt"), 1, tied=False, seed=0)


def test_one_component_comes_close_to_the_density_of_student_s_t(fitted: ScaleMixture) -> None:
    z = rows(4000, "unseen")
    assert abs((STUDENT.logpdf(z) - fitted.log_density(z)).mean()) < 0.02  # in nats
    assert_allclose(fitted.means[0], [1, -1], atol=0.1)
    assert fitted.shapes[0, 0, 1] / fitted.shapes[0, 0, 0] == pytest.approx(0.7, abs=0.1)


def test_the_density_is_that_of_its_gaussians(fitted: ScaleMixture) -> None:
    z, (weights, means, covariances) = rows(20, "unseen"), fitted.gaussians
    assert len(weights) == SCALES
    density = sum(w * multivariate_normal(m, c).pdf(z) for w, m, c in zip(weights, means, covariances, strict=True))
    assert_allclose(fitted.log_density(z), np.log(density))
    assert np.prod(fitted.widths) == pytest.approx(1)


@pytest.mark.parametrize(("tied", "parameters"), [(False, 8 + 6 + 9 + 2), (True, 8 + 6 + 3 + 2)])
def test_the_parameters_are_counted(tied: bool, parameters: int) -> None:
    assert ScaleMixture.fit(rows(200, "learnt"), 3, tied=tied, seed=0).parameters == parameters


def test_one_shape_for_all_is_the_mean_of_the_shapes_that_the_components_would_have() -> None:
    z = rows(300, "learnt")
    tied = ScaleMixture.fit(z, 3, tied=True, seed=0)
    apart = replace(tied, tied=False)
    for of_tied, of_apart in zip(tied._e_step(z), apart._e_step(z), strict=True):
        assert_allclose(of_tied, of_apart, rtol=1e-9, atol=1e-12)
    r = tied._e_step(z)[0]
    placed = tied._m_step_means(z, r)
    own = replace(placed, tied=False)._m_step_shapes(z, r).shapes
    assert_allclose(placed._m_step_shapes(z, r).shapes[0], np.average(own, axis=0, weights=r.sum((1, 2))), rtol=1e-9)


@pytest.mark.parametrize("tied", [False, True])
def test_no_step_of_a_fit_lowers_the_likelihood(monkeypatch: pytest.MonkeyPatch, tied: bool) -> None:
    z, likelihoods = rows(300, "learnt"), []
    for iterations in range(1, 12):
        monkeypatch.setattr("dualdiff_cli.training.tails.ITERATIONS", iterations)
        likelihoods.append(ScaleMixture.fit(z, 3, tied=tied, seed=0).log_density(z).mean())
    assert (np.diff(likelihoods) > -1e-5).all()  # what is added to the shapes costs a little
    assert likelihoods[-1] > likelihoods[0]


def test_the_criterion_takes_heavy_tails_where_the_rows_have_them_and_nowhere_else() -> None:
    z = rows(400, "learnt")
    heavy = fit_mixture(z, seed=0)
    assert (heavy.form, heavy.components) in {("full-scales", 1), ("tied-scales", 1)}
    unseen = rows(4000, "unseen")
    plain = fit_mixture(z, forms=COVARIANCE_FORMS[:4], seed=0)
    assert heavy.log_density(unseen).mean() > plain.log_density(unseen).mean() + 0.03
    assert fit_mixture(seeding.stream(0, "normal").normal(size=(400, 2)), seed=0).form in COVARIANCE_FORMS[:4]


def test_a_component_that_is_added_keeps_its_place() -> None:
    z = rows(1000, "learnt")
    z[:60] = [5.0, 5.0] + 0.01 * seeding.stream(0, "peak").normal(size=(60, 2))
    start = ScaleMixture.fit(z[60:], 1, tied=True, seed=0)
    larger = start.with_component(z[:60].mean(0), np.cov(z[:60].T), 0.06, z)
    assert (larger.components, larger.form) == (2, "full-scales")
    assert_allclose(larger.means[1], [5, 5], atol=0.01)
    assert larger.weights[1].sum() == pytest.approx(0.06, abs=0.01)
