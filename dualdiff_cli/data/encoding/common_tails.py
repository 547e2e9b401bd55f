"""Heavy-tailed columns that are far out together: the translation whose features suit Student's t distribution.

`SkewedColumn` translates each column until its own values are as good as normal. If columns are far out in the same
rows, as the returns of shares are, then features of normal margins are no longer a simple distribution: no normal
distribution has a dependence in the tails. Student's t distribution with few degrees of freedom has one, and margins
with tails. So the columns get a wider λ, which leaves them a part of their tails, if their features are then more
likely under a multivariate t distribution,

    log p(z) = log Γ((ν + d) / 2) − log Γ(ν / 2) − ½ log|νπΣ| − ½ (ν + d) log(1 + δ / ν),   δ = (z − μ)ᵀ Σ⁻¹ (z − μ),

whose μ and Σ maximise the likelihood of the rows (Kent, Tyler & Vardi 1994, "A curious likelihood identity for the
multivariate t-distribution"; Demarta & McNeil 2005, "The t copula and related copulas").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeGuard

import numpy as np
import polars as pl
from scipy.special import gammaln

from ... import seeding
from ..arrays import FloatArray
from .base import ColumnEncoding
from .skewed import JUDGED_VALUES, SkewedColumn

__all__ = ["with_common_tails"]

FACTORS = (1.0, 2.0, 4.0, 8.0)
"""The factors of λ that are tried; with the last one, features follow the values far into the tails."""
FREEDOMS = (2.0, 3.0, 5.0, 10.0, 100.0)
"""ν, the degrees of freedom that are tried; with the last one, the distribution is as good as normal."""
STANDARD_ERRORS = 1.0
"""A wider λ must raise the log-likelihood by more than so many standard errors: no form is simpler than the other."""
ITERATIONS = 30
"""Of the fit of μ and Σ."""
LEAST_VARIANCE = 1e-9
"""Added to the variances of features, so that Σ has an inverse where columns follow from each other."""


def with_common_tails(columns: Sequence[ColumnEncoding], rows: pl.DataFrame) -> list[ColumnEncoding]:
    """Give all heavy-tailed columns a wider λ, by one factor, where this makes n rows more likely together.

    A column with gaps, with masses, with bounds or of positive values stays as it is.
    """
    heavy = {column.name: column for column in columns if _is_heavy(column)}
    if len(heavy) < 2:
        return list(columns)
    judged = seeding.shuffled(rows, JUDGED_VALUES, seeding.stream(0, "rows of the common tails"))

    def widened(factor: float, rows: pl.DataFrame) -> list[SkewedColumn]:
        return [column.widened(factor, rows[name]) for name, column in heavy.items()]

    likelihoods = {factor: _log_likelihood(widened(factor, judged), judged) for factor in FACTORS}
    best = max(FACTORS, key=lambda factor: likelihoods[factor].mean())
    gain = likelihoods[best] - likelihoods[1.0]
    if gain.mean() <= STANDARD_ERRORS * gain.std() / math.sqrt(len(gain)):
        return list(columns)
    found = {column.name: column for column in widened(best, rows)}
    return [found.get(column.name, column) for column in columns]


def _is_heavy(column: ColumnEncoding) -> TypeGuard[SkewedColumn]:
    return isinstance(column, SkewedColumn) and column.form == "unbounded"


def _log_likelihood(columns: Sequence[SkewedColumn], rows: pl.DataFrame) -> FloatArray:
    """Give the log-likelihood of each row in the columns' units, (n,), with the degrees of freedom that suit best."""
    z = np.concatenate([column.encode(rows[column.name], None) for column in columns], axis=1)
    slopes = sum(column.log_slope(z[:, [k]]) for k, column in enumerate(columns))
    log_p = max((_student_t(z, nu) for nu in FREEDOMS), key=np.mean)
    return log_p - slopes


def _student_t(z: FloatArray, nu: float) -> FloatArray:
    """Fit μ and Σ of the t distribution with ν degrees of freedom, and give log p(z) of rows z (n, d), (n,)."""
    n, d = z.shape
    w = np.ones(n)
    for _ in range(ITERATIONS):
        mu = w @ z / w.sum()
        sigma = ((z - mu).T * w) @ (z - mu) / n
        root = np.linalg.cholesky(sigma + LEAST_VARIANCE * np.eye(d))
        delta = (np.linalg.solve(root, (z - mu).T) ** 2).sum(0)
        w = (nu + d) / (nu + delta)
    constant = gammaln((nu + d) / 2) - gammaln(nu / 2) - d / 2 * np.log(nu * np.pi) - np.log(root.diagonal()).sum()
    log_p: FloatArray = constant - (nu + d) / 2 * np.log1p(delta / nu)
    return log_p
