"""Whether trainings search Gaussian mixtures of all sizes and forms, which takes most of a tiny training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest

from dualdiff_cli.training.gaussians import FittedMixture
from dualdiff_cli.training.mixture import COMPONENT_NUMBERS, COVARIANCE_FORMS, fit_mixture, fit_to_completions

__all__ = ["full_search", "small_search"]

Search = Callable[..., FittedMixture]
PLACES: dict[str, Search] = {
    "gaps.fit_mixture": fit_mixture,
    "marginals.fit_mixture": fit_mixture,
    "weighing.fit_to_completions": fit_to_completions,
}
"""The searches of `training`; the model `mixture`, which its own tests train, always searches in full."""
LARGEST = 4
FORMS = ("full", "diag")


@contextmanager
def full_search() -> Iterator[None]:
    """Let trainings try all sizes and forms of a mixture, as they do outside the tests, while the block runs."""
    with _searching_by(lambda search: search):
        yield


@contextmanager
def small_search() -> Iterator[None]:
    """Let trainings try at most four Gaussians, with covariances of two forms, while the block runs."""
    with _searching_by(_restricted):
        yield


def _restricted(search: Search) -> Search:
    @wraps(search)
    def restricted(
        *rows: Any,
        sizes: tuple[int, ...] = COMPONENT_NUMBERS,
        forms: tuple[str, ...] = COVARIANCE_FORMS,
        seed: int,
    ) -> FittedMixture:
        few = tuple(k for k in sizes if k <= LARGEST)
        return search(*rows, sizes=few, forms=tuple(form for form in forms if form in FORMS), seed=seed)

    return restricted


@contextmanager
def _searching_by(change: Callable[[Search], Search]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for place, search in PLACES.items():
            patch.setattr(f"dualdiff_cli.training.{place}", change(search))
        yield
