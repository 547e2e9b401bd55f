"""Linear relations between columns that hold in every row, such as total = minutes + 60*hours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl

from ..config.formulas import Formula
from ..errors import InputError
from .encoding.base import ColumnEncoding
from .encoding.derived import DerivedColumn

__all__ = ["find_relations", "free_relations"]

ROWS_A_COLUMN = 5
"""A relation is looked for only among so many times as many complete rows as columns: fewer meet one by chance."""
MOST_ROWS = 20_000
"""The number of rows in which relations are looked for; each that is found is then checked in all rows."""
MOST_COLUMNS = 100
"""Among more columns no relation is looked for."""
MOST_TERMS = 7
"""A relation of so many columns or more is rarely meant."""
DIGITS = 6
"""The factors of a relation have at most so many significant digits."""
RANK = 1e-10
"""Where the least eigenvalue of the correlations is larger than this, no column follows from the others."""
EXACT = 1e-6
"""The largest residual of a relation, in standard deviations of its column, before the factors are rounded."""


def find_relations(rows: pl.DataFrame) -> dict[str, Formula]:
    """Find columns of numbers that follow from others of the rows in every row.

    Returns:
        For each such column its formula; no column of a formula has a formula itself.

    """
    numbers = rows.select(x for x in rows if x.dtype.is_numeric() and x.drop_nulls().n_unique() > 2)
    complete = numbers.drop_nulls().head(MOST_ROWS)
    if not 1 < numbers.width <= MOST_COLUMNS or complete.height < ROWS_A_COLUMN * numbers.width:
        return {}
    names, z = numbers.columns, complete.cast(pl.Float64).to_numpy()
    scale = z.std(axis=0)
    z = (z - z.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    if np.linalg.eigvalsh(z.T @ z / len(z))[0] > RANK:
        return {}
    found: dict[str, Formula] = {}
    for target in reversed(range(len(names))):
        others = [k for k in range(len(names)) if k != target and names[k] not in found]
        if any(names[target] in formula.factors for formula in found.values()) or not others:
            continue
        solution, *_ = np.linalg.lstsq(z[:, others], z[:, target], rcond=1e-10)
        if np.abs(z[:, others] @ solution - z[:, target]).max() > EXACT:
            continue
        factors = {
            names[k]: b * scale[target] / scale[k] for k, b in zip(others, solution, strict=True) if abs(b) > EXACT
        }
        if not 0 < len(factors) < MOST_TERMS:
            continue
        chosen = _readable(rows, complete, {names[target]: -1.0, **factors})
        if chosen is not None and not any(name in found for name in chosen[1].factors):
            found[chosen[0]] = chosen[1]
    return found


def free_relations(rows: pl.DataFrame, encodings: Iterable[ColumnEncoding]) -> list[str]:
    """Find the equations that hold in every row and that no formula of a column keeps, as texts of constraints."""
    held = [column.name for column in encodings if isinstance(column, DerivedColumn)]
    return [f"{name} {formula}" for name, formula in find_relations(rows.drop(held)).items()]


def _readable(rows: pl.DataFrame, complete: pl.DataFrame, weights: Mapping[str, float]) -> tuple[str, Formula] | None:
    """Solve Σ weight · column = constant for each column, and give the formula that reads best of those that hold.

    A sum reads better than a difference, and short factors better than long ones.
    """
    solved = []
    for name, own in weights.items():
        factors = {other: _rounded(-weight / own) for other, weight in weights.items() if other != name}
        rest = complete[name].cast(pl.Float64).to_numpy().astype(float)
        for other, factor in factors.items():
            rest = rest - factor * complete[other].cast(pl.Float64).to_numpy()
        constant = _rounded(float(np.median(rest)))
        solved.append((name, Formula(factors, constant if abs(constant) > EXACT else 0.0)))
    solved.sort(key=lambda pair: (sum(factor < 0 for factor in pair[1].factors.values()), len(str(pair[1]))))
    return next((pair for pair in solved if _holds(rows, *pair)), None)


def _rounded(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


def _holds(rows: pl.DataFrame, name: str, formula: Formula) -> bool:
    """Say whether a formula holds in every row."""
    try:
        DerivedColumn.of(rows, name, str(formula))
    except InputError:
        return False
    return True
