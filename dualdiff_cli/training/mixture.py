"""A Gaussian mixture, fitted by expectation maximisation, with the size and the covariances that suit the rows best.

The Bayesian information criterion of a model with p parameters and likelihood L on n rows is −2 log L + p log n
(Schwarz 1978, "Estimating the dimension of a model"); the least is the best. Its half, divided by n, estimates the loss
−log p of an unseen row, but only where there are many more rows than parameters. So with few rows the mean of this
estimate and of another one decides. The other one is cross-validation: the loss of each quarter of the rows under a
mixture of the same size and form that is fitted to the other rows, from starting points of their own: a fit that began
at the whole mixture would remember the rows that judge it, and too many components would seem good.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import seeding
from ..config.peaks import find_peaks
from ..data import DiscreteSpan, FloatArray
from .gaussians import REGULARISATION, FittedMixture, Gaussians
from .tails import ScaleMixture

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

__all__ = [
    "COMPONENT_NUMBERS",
    "COVARIANCE_FORMS",
    "DEQUANTISING_NOISE",
    "MOST_MIXTURE_ROWS",
    "PlainMixture",
    "dequantised",
    "fit_mixture",
    "fit_to_completions",
    "full_covariances",
]

COMPONENT_NUMBERS = (1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 50, 80, 100)
"""The numbers of Gaussians that are tried."""
COVARIANCE_FORMS = ("full", "tied", "diag", "spherical", "full-scales", "tied-scales")
"""The forms of the covariances that are tried: four in scikit-learn's words, and two of `tails`, with heavier tails."""
ROWS_PER_COMPONENT = 5
"""A mixture has at most one Gaussian for so many rows."""
MOST_MIXTURE_ROWS = 20_000
"""A mixture is fitted to at most so many rows; more would hardly change it."""
DEQUANTISING_NOISE = 0.1
"""The standard deviation of the noise on features with few values, as a share of the distance of two values."""
MOST_VALIDATED = 500
"""With more rows than this, or a single feature, BIC alone decides, as there are many more rows than parameters."""
PARTS = 4
"""The number of parts of the cross-validation."""
PATIENCE = 2
"""The search ends after so many larger sizes that are no better."""
HOPE = 2.0
"""The search assumes that a doubling of the size gains at most so many times as much as the doubling before it."""


def dequantised(z: FloatArray, discrete: Sequence[DiscreteSpan], *, seed: int, rows: str = "training") -> FloatArray:
    """Add noise to the features with few values, because a likelihood has no bound on equal values.

    Args:
        z: features, (n, width).
        discrete: the features with few values.
        seed: of the noise.
        rows: which rows these are; other rows get other noise.

    """
    z = z.copy()
    role = "spread of feature" if rows == "training" else f"spread of {rows} rows, feature"
    for span in discrete:
        part = z[:, span.features]
        noise = seeding.stream(seed, f"{role} {span.start}").standard_normal(part.shape)
        part += DEQUANTISING_NOISE * span.scale * noise
    return z


@dataclass(frozen=True)
class PlainMixture(FittedMixture):
    """A mixture of Gaussians that scikit-learn has fitted.

    Attributes:
        fitted: scikit-learn's estimator.

    """

    fitted: GaussianMixture

    @classmethod
    def fit(cls, z: FloatArray, components: int, form: str, *, seed: int, **start: Any) -> Self:
        """Fit so many Gaussians to rows z (n, width).

        Args:
            z: the rows.
            components, form: the number of Gaussians, and the form of their covariances in scikit-learn's words.
            seed: of the starting points.
            start: initial parameters, by scikit-learn's names.

        """
        from sklearn.exceptions import ConvergenceWarning  # slow to import, and only a fit needs scikit-learn
        from sklearn.mixture import GaussianMixture

        fitted = GaussianMixture(components, covariance_type=form, reg_covar=REGULARISATION, random_state=seed, **start)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the criterion judges each mixture, converged or not
            return cls(fitted.fit(z))

    @property
    def form(self) -> str:
        """The form of the covariances, in scikit-learn's words."""
        return str(self.fitted.covariance_type)

    @property
    def components(self) -> int:
        """The number of Gaussians."""
        return int(self.fitted.n_components)

    @property
    def parameters(self) -> int:
        """The number of free parameters."""
        return int(self.fitted._n_parameters())

    @property
    def gaussians(self) -> Gaussians:
        """The mixture as arrays."""
        gm = self.fitted
        return Gaussians(gm.weights_, gm.means_, full_covariances(gm.covariances_, self.form, gm.means_.shape))

    def log_density(self, z: FloatArray) -> FloatArray:
        """Give the log of the density at rows z (n, width), (n,), as scikit-learn does, which is fast for the form."""
        log_p: FloatArray = self.fitted.score_samples(z)
        return log_p

    def refit(self, z: FloatArray) -> Self:
        """Fit a mixture of the same size and form to some of the rows; see `FittedMixture.refit`."""
        whole = self.fitted
        return self.fit(
            z,
            self.components,
            self.form,
            seed=seeding.integer(0, "refit"),
            weights_init=whole.weights_,
            means_init=whole.means_,
            precisions_init=whole.precisions_,
        )

    def with_component(self, mean: FloatArray, covariance: FloatArray, share: float, z: FloatArray) -> Self:
        """Fit a mixture with one more Gaussian; see `FittedMixture.with_component`."""
        weights, means, covariances = self.gaussians
        form = self.form if self.form in ("full", "diag") else "full"
        precisions = np.linalg.inv(np.concatenate([covariances, covariance[None]]))
        return self.fit(
            z,
            self.components + 1,
            form,
            seed=seeding.integer(0, "one more Gaussian"),
            weights_init=np.append((1 - share) * weights, share),
            means_init=np.concatenate([means, mean[None]]),
            precisions_init=precisions if form == "full" else precisions.diagonal(axis1=1, axis2=2),
        )


def fit_mixture(
    z: FloatArray,
    *,
    sizes: tuple[int, ...] = COMPONENT_NUMBERS,
    forms: tuple[str, ...] = COVARIANCE_FORMS,
    seed: int,
) -> FittedMixture:
    """Fit mixtures of each form and size, and give the one with the least estimated loss of unseen rows.

    Args:
        z: features, (n, width).
        sizes: numbers of components to try, ascending. A number that leaves a component fewer than
            `ROWS_PER_COMPONENT` rows is not tried, except the first number, which must not be larger than n.
        forms: of the covariances; see `COVARIANCE_FORMS`.
        seed: of the starting points.

    """
    z = seeding.subsample(z, MOST_MIXTURE_ROWS, seed=seed, role="rows of the criterion")
    if len(sizes) == len(forms) == 1:
        return _fit(z, sizes[0], forms[0], seed)
    largest: dict[str, int] = {}
    candidates: list[_Candidate] = []
    for form in forms:
        plain = form.removesuffix("-scales")  # with heavier tails no more components are needed than without
        most = min(largest.get(plain, sizes[-1]), max(sizes[0], len(z) // ROWS_PER_COMPONENT))
        tried = _growing(z, [k for k in sizes if k <= most], form, min(candidates, default=None), seed)
        candidates.append(min(tried))
        largest[form] = candidates[-1].mixture.components
    best = min(candidates)
    return _with_peaks(z, best, seed).mixture if len(sizes) > 1 else best.mixture


def fit_to_completions(
    z: FloatArray,
    discrete: Sequence[DiscreteSpan],
    *,
    sizes: tuple[int, ...] = COMPONENT_NUMBERS,
    forms: tuple[str, ...] = COVARIANCE_FORMS,
    seed: int,
) -> FittedMixture:
    """Fit a mixture to rows of which some features were drawn M times.

    The first completion decides the size and the form, because the criterion counts rows, and M completions of a row
    are one row. Then all completions are fitted together.

    Args:
        z: features, (M, n, width).
        discrete: the features with few values.
        sizes, forms, seed: see `fit_mixture`.

    """
    fitted = fit_mixture(dequantised(z[0], discrete, seed=seed), sizes=sizes, forms=forms, seed=seed)
    return fitted if len(z) == 1 else fitted.refit(dequantised(np.concatenate(z), discrete, seed=seed))


@dataclass(frozen=True)
class _Candidate:
    """A mixture with its estimated loss on unseen rows, in nats a row."""

    loss: float
    mixture: FittedMixture

    def __lt__(self, other: _Candidate) -> bool:
        return self.loss < other.loss

    def catches_up(self, best: _Candidate, smaller: _Candidate, most: int) -> bool:
        """Whether this form can still become better than the best mixture of the other forms.

        A form that has not reached the number of components of the best mixture yet can. A larger one has to make up
        for the difference in the doublings that are left up to the most components, each of which is assumed to gain
        `HOPE` times what the last doubling gained.
        """
        k = self.mixture.components
        if k < best.mixture.components or self < best:
            return True
        gain = (smaller.loss - self.loss) / np.log2(k / smaller.mixture.components)
        return bool(self.loss - HOPE * max(gain, 0.0) * np.log2(most / k) < best.loss)


def _growing(
    z: FloatArray, sizes: Sequence[int], form: str, best: _Candidate | None, seed: int
) -> Iterator[_Candidate]:
    """Fit larger and larger mixtures of one form until the estimated loss has stopped falling.

    With many rows, a fit takes long and the criterion is smooth. The search then ends, too, when this form cannot
    become better than the best mixture of the other forms.
    """
    least, smaller, since = np.inf, None, 0
    for k in sizes:
        if since >= PATIENCE:
            return
        fit = partial(_fit, components=k, form=form, seed=seed)
        own = _judge(fit(z), fit, z, seed)
        least, since = (own.loss, 0) if own.loss < least else (least, since + 1)
        yield own
        if best and smaller and len(z) > MOST_VALIDATED and not own.catches_up(best, smaller, sizes[-1]):
            return
        smaller = own


def _fit(z: FloatArray, components: int, form: str, seed: int) -> FittedMixture:
    if form.endswith("-scales"):
        return ScaleMixture.fit(z, components, tied=form == "tied-scales", seed=seed)
    return PlainMixture.fit(z, components, form, seed=seeding.integer(seed, f"mixture of {components}"))


def _judge(
    mixture: FittedMixture, refit: Callable[[FloatArray], FittedMixture], z: FloatArray, seed: int
) -> _Candidate:
    """Estimate the loss on unseen rows from the rows z (n, width) that the mixture was fitted to.

    Args:
        mixture: the mixture.
        refit: fits a mixture of the same size and form to some of the rows.
        z: the rows.
        seed: of the parts of the cross-validation.

    """
    by_bic = mixture.bic(z) / (2 * len(z))
    if len(z) > MOST_VALIDATED or z.shape[1] == 1 or len(z) < PARTS * mixture.components:
        return _Candidate(by_bic, mixture)
    parts = np.array_split(seeding.stream(seed, "parts of the validation").permutation(len(z)), PARTS)
    losses = [-refit(np.delete(z, part, axis=0)).log_density(z[part]) for part in parts]
    return _Candidate((by_bic + float(np.concatenate(losses).mean())) / 2, mixture)


def _with_peaks(z: FloatArray, best: _Candidate, seed: int) -> _Candidate:
    """Add a component for each narrow peak of a feature, if the estimated loss is then less.

    The fits of the other components began at clusters of rows, and a narrow peak that lies across clusters is no
    cluster. For the same reason both mixtures are judged by fits that begin at them.
    """
    peaks = find_peaks(z)
    if peaks:
        best = _judge(best.mixture, best.mixture.refit, z, seed)
    for peak in peaks:
        inside = z[peak.holds(z)]
        covariance = np.cov(inside.T).reshape(z.shape[1], -1) + REGULARISATION * np.eye(z.shape[1])
        larger = best.mixture.with_component(inside.mean(0), covariance, len(inside) / len(z), z)
        best = min(best, _judge(larger, larger.refit, z, seed))
    return best


def full_covariances(covariances: FloatArray, form: str, shape: tuple[int, int]) -> FloatArray:
    """Give covariances of any of scikit-learn's forms as (k, width, width); ``shape`` is (k, width)."""
    k, width = shape
    if form == "tied":
        return np.broadcast_to(covariances, (k, width, width))
    if form in ("diag", "spherical"):
        return covariances.reshape(k, 1, -1) * np.eye(width)
    return covariances
