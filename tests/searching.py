"""Whether trainings search Gaussian mixtures of all sizes and forms, which takes most of a tiny training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from dualdiff_cli.data import FloatArray
from dualdiff_cli.training.gaussians import FittedMixture
from dualdiff_cli.training.mixture import COMPONENT_NUMBERS, COVARIANCE_FORMS, fit_mixture

__all__ = ["full_search", "small_search"]

PLACES = ("gaps", "marginals", "weighing")
"""The modules of `training` that search; the model `mixture`, which its own tests train, always searches in full."""
LARGEST = 4
FORMS = ("full", "diag")


@contextmanager
def full_search() -> Iterator[None]:
    """Let trainings try all sizes and forms of a mixture, as they do outside the tests, while the block runs."""
    with _searching_by(fit_mixture):
        yield


@contextmanager
def small_search() -> Iterator[None]:
    """Let trainings try at most four Gaussians, with covariances of two forms, while the block runs."""
    with _searching_by(_fit_small_mixture):
        yield


def _fit_small_mixture(
    z: FloatArray,
    *,
    sizes: tuple[int, ...] = COMPONENT_NUMBERS,
    forms: tuple[str, ...] = COVARIANCE_FORMS,
    seed: int,
) -> FittedMixture:
    few = tuple(k for k in sizes if k <= LARGEST)
    return fit_mixture(z, sizes=few, forms=tuple(form for form in forms if form in FORMS), seed=seed)


@contextmanager
def _searching_by(search: Callable[..., FittedMixture]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for place in PLACES:
            patch.setattr(f"dualdiff_cli.training.{place}.fit_mixture", search)
        yield
