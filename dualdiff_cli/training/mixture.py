"""A Gaussian mixture, fitted by expectation maximisation, with the size and the covariances that BIC chooses.

The Bayesian information criterion of a model with p parameters and likelihood L on n rows is −2 log L + p log n
(Schwarz 1978, "Estimating the dimension of a model"); the least is the best.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .. import seeding
from ..config.peaks import find_peaks
from ..data import DiscreteSpan, FloatArray

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture as Fitted

__all__ = [
    "COMPONENT_NUMBERS",
    "COVARIANCE_FORMS",
    "MOST_MIXTURE_ROWS",
    "Gaussians",
    "fit_mixture",
    "full_covariances",
    "gaussians_of",
    "refit",
    "spread",
]

COMPONENT_NUMBERS = (1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 50, 80, 100)
"""The numbers of Gaussians that are tried."""
COVARIANCE_FORMS = ("full", "tied", "diag", "spherical")
"""The forms of the covariances that are tried, in scikit-learn's words."""
ROWS_PER_COMPONENT = 5
"""A mixture has at most one Gaussian for so many rows."""
MOST_MIXTURE_ROWS = 20_000
"""A mixture is fitted to at most so many rows; more would hardly change it."""
REGULARISATION = 1e-6
"""Added to the variances, in squared feature units, so that no Gaussian collapses onto one row."""
SPREAD = 0.1
"""The standard deviation of the noise on features with few values, as a share of the distance of the values."""
PATIENCE = 2
"""The search ends after so many larger sizes that are no better."""


def spread(z: FloatArray, discrete: Sequence[DiscreteSpan], *, seed: int) -> FloatArray:
    """Add noise to the features with few values, on which the likelihood of a Gaussian has no bound.

    Args:
        z: features, (n, width).
        discrete: the features with few values.
        seed: of the noise.

    """
    z = z.copy()
    for span in discrete:
        part = z[:, span.start : span.start + span.width]
        noise = seeding.stream(seed, f"spread of feature {span.start}").standard_normal(part.shape)
        part += SPREAD * span.scale * noise
    return z


def fit_mixture(
    z: FloatArray,
    *,
    sizes: tuple[int, ...] = COMPONENT_NUMBERS,
    forms: tuple[str, ...] = COVARIANCE_FORMS,
    seed: int,
) -> Fitted:
    """Fit mixtures of each form and size, and give the one with the least BIC.

    Args:
        z: features, (n, width).
        sizes: numbers of Gaussians to try, ascending; those that leave a Gaussian fewer than `ROWS_PER_COMPONENT` rows
            are left out, but the first of them is always tried, and must not be larger than n.
        forms: of the covariances, in scikit-learn's words.
        seed: of the starting points.

    """
    if len(z) > MOST_MIXTURE_ROWS:
        z = z[seeding.stream(seed, "rows of the criterion").permutation(len(z))[:MOST_MIXTURE_ROWS]]
    best: tuple[float, Fitted] | None = None
    for form in forms:
        for mixture in _growing(z, sizes, form, seed):
            bic = float(mixture.bic(z))
            if best is None or bic < best[0]:
                best = (bic, mixture)
    assert best is not None, "the first size is always tried"
    return _with_peaks(z, best[1], seed) if len(sizes) > 1 else best[1]


def _with_peaks(z: FloatArray, mixture: Fitted, seed: int) -> Fitted:
    """Add a Gaussian for each narrow peak of a feature, if BIC is then less.

    The mixtures so far began at clusters of rows, and a narrow peak that goes right across the clusters is no cluster.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    bic = float(mixture.bic(z))
    for peak in find_peaks(z):
        inside = z[peak.holds(z)]
        share = len(inside) / len(z)
        form = mixture.covariance_type if mixture.covariance_type in ("full", "diag") else "full"
        spread = np.cov(inside.T).reshape(z.shape[1], -1) + REGULARISATION * np.eye(z.shape[1])
        covariances = np.concatenate([full_covariances(mixture), spread[None]])
        precisions = np.linalg.inv(covariances)
        larger = GaussianMixture(
            len(covariances),
            covariance_type=form,
            reg_covar=REGULARISATION,
            weights_init=np.append((1 - share) * mixture.weights_, share),
            means_init=np.concatenate([mixture.means_, inside.mean(0)[None]]),
            precisions_init=precisions if form == "full" else precisions.diagonal(axis1=1, axis2=2),
            random_state=seeding.integer(seed, "peaks"),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            larger.fit(z)
        if float(larger.bic(z)) < bic:
            mixture, bic = larger, float(larger.bic(z))
    return mixture


def _growing(z: FloatArray, sizes: tuple[int, ...], form: str, seed: int) -> Iterator[Fitted]:
    """Fit larger and larger mixtures of one form until BIC has stopped falling."""
    from sklearn.exceptions import ConvergenceWarning  # slow to import, and only a fit needs scikit-learn
    from sklearn.mixture import GaussianMixture

    least, since = np.inf, 0
    for k in sizes:
        if k > max(sizes[0], len(z) // ROWS_PER_COMPONENT) or since > PATIENCE:
            return
        mixture = GaussianMixture(
            k, covariance_type=form, reg_covar=REGULARISATION, random_state=seeding.integer(seed, f"mixture of {k}")
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # BIC judges a mixture that has not converged as it is
            mixture.fit(z)
        bic = float(mixture.bic(z))
        least, since = (bic, 0) if bic < least else (least, since + 1)
        yield mixture


def refit(whole: Fitted, z: FloatArray) -> Fitted:
    """Fit a mixture of the size and the form of another one to some of its rows (n, width), from the same means on.

    The criterion could choose another size for fewer rows by chance, and from other starting points the fit could end
    in another optimum. Such a mixture would say little of the whole one.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(
        whole.n_components,
        covariance_type=whole.covariance_type,
        reg_covar=REGULARISATION,
        means_init=whole.means_,
        random_state=seeding.integer(0, "refit"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(z)


class Gaussians(NamedTuple):
    """A Gaussian mixture as arrays: weights (k,), means (k, width) and covariances (k, width, width)."""

    weights: FloatArray
    means: FloatArray
    covariances: FloatArray


def gaussians_of(gm: Fitted) -> Gaussians:
    """Give a fitted mixture as arrays."""
    return Gaussians(gm.weights_, gm.means_, full_covariances(gm))


def full_covariances(gm: Fitted) -> FloatArray:
    """Give the covariances as (k, width, width), whatever their form."""
    k, width = gm.means_.shape
    covariances: FloatArray = gm.covariances_
    if gm.covariance_type == "tied":
        return np.broadcast_to(covariances, (k, width, width))
    if gm.covariance_type in ("diag", "spherical"):
        return covariances.reshape(k, 1, -1) * np.eye(width)
    return covariances
