"""Relations between columns that hold in every row, such as total = minutes + 60*hours or revenue = price*quantity.

A linear relation is a direction in which the columns do not vary. A product of powers is a linear relation between
logarithms, and an exponential is one between the logarithm of a column and another column.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import numpy as np
import polars as pl

from .. import seeding
from ..config.expressions import quoted
from ..config.formulas import Formula, is_formula, linear_formula, read_formula
from ..errors import InputError
from .arrays import FloatArray
from .encoding.base import ColumnEncoding
from .encoding.derived import DerivedColumn, decimals_of

__all__ = ["find_relations", "free_relations", "held_relations"]

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
DISTINCT = 10
"""A relation that is not linear is looked for among columns with at least so many values: fewer meet one by chance."""

Written = Callable[[str, Mapping[str, float], float], Formula]
"""Writes the formula of a column from the factors of the other columns, and from the constant."""


def find_relations(rows: pl.DataFrame) -> dict[str, Formula]:
    """Find columns of numbers that follow from others of the rows in every row.

    Returns:
        For each such column its formula; no column of a formula has a formula itself.

    """
    numbers = rows.select(x for x in rows if x.dtype.is_numeric() and x.drop_nulls().n_unique() > 2)
    complete = seeding.subsample(numbers.drop_nulls(), MOST_ROWS, seed=0, role="rows of relations")
    if not 1 < numbers.width <= MOST_COLUMNS or complete.height < ROWS_A_COLUMN * numbers.width:
        return {}
    x = {name: column.cast(pl.Float64).to_numpy() for name, column in zip(numbers.columns, complete, strict=True)}
    found: dict[str, Formula] = {}
    _add_relations(found, rows, x, _linear_sum)
    varied = {name: values for name, values in x.items() if complete[name].n_unique() >= DISTINCT}
    logs = {name: np.log(values) for name, values in varied.items() if values.min() > 0}
    _add_relations(found, rows, logs, _product)
    for name, other in _straight(logs, varied):
        if not {name, other} & _involved(found):
            _add_relations(found, rows, {name: logs[name], other: varied[other]}, _exponential, targets=[name])
    return found


def held_relations(rows: pl.DataFrame, asked: Mapping[str, str]) -> dict[str, str]:
    """Find the formulas that a model of the rows is to hold, beside the kinds and formulas that were asked for.

    A column of which a kind was asked for is learnt, and so is a column with gaps of its own: a computed cell is
    missing only with the cells that it is computed from.

    Args:
        rows: n rows.
        asked: for the names of some columns a kind or a formula.

    Returns:
        For the name of each column that is to be computed the formula, as a kind of column.

    """
    asked_formulas = [read_formula(kind) for kind in asked.values() if is_formula(kind)]
    learnt = {name for formula in asked_formulas for name in formula.columns} | {*asked}
    numbers = rows.drop(name for name, kind in asked.items() if is_formula(kind) or kind == "category")
    return {
        name: str(formula)
        for name, formula in find_relations(numbers).items()
        if name not in learnt and _share_gaps(rows, name, formula)
    }


def _share_gaps(rows: pl.DataFrame, name: str, formula: Formula) -> bool:
    """Say whether a column is missing just where a column of its formula is."""
    of_formula = pl.any_horizontal(pl.col(other).is_null() for other in formula.columns)
    return bool(rows.select((pl.col(name).is_null() == of_formula).all()).item())


def free_relations(rows: pl.DataFrame, encodings: Iterable[ColumnEncoding]) -> list[str]:
    """Find the equations that hold in every row and that no formula of a column keeps, as texts of constraints."""
    held = [column.name for column in encodings if isinstance(column, DerivedColumn)]
    return [f"{quoted(name)} {formula}" for name, formula in find_relations(rows.drop(held)).items()]


def _involved(found: Mapping[str, Formula]) -> set[str]:
    """Give the names of all columns that stand in a relation."""
    return {*found, *(name for formula in found.values() for name in formula.columns)}


def _add_relations(
    found: dict[str, Formula],
    rows: pl.DataFrame,
    x: Mapping[str, FloatArray],
    written: Written,
    *,
    targets: Collection[str] | None = None,
) -> None:
    """Add the linear relations between vectors (n,) that hold in every row once they are written as formulas."""
    x = {name: values for name, values in x.items() if name not in found}
    for weights in _null_directions(x, found):
        free = [name for name in (weights if targets is None else targets) if name not in _involved(found)]
        chosen = _readable(rows, x, weights, written, targets=free)
        if chosen is not None and not {*weights} & {*found}:
            found[chosen[0]] = chosen[1]


def _straight(first: Mapping[str, FloatArray], second: Mapping[str, FloatArray]) -> list[tuple[str, str]]:
    """Give the pairs of different columns of which the first vector is a line in the second one."""
    if not first:
        return []
    a, b = (np.stack([*_standardised(x).values()]) for x in (first, second))
    straight = 1 - np.abs(a @ b.T) / a.shape[1] < RANK
    names = [*first], [*second]
    return [(names[0][i], names[1][j]) for i, j in np.argwhere(straight) if names[0][i] != names[1][j]]


def _standardised(x: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    return {name: (values - values.mean()) / (values.std() or 1.0) for name, values in x.items()}


def _null_directions(x: Mapping[str, FloatArray], found: Mapping[str, Formula]) -> Iterator[dict[str, float]]:
    """Give the weights of columns whose weighted sum is the same in every row; `found` may grow meanwhile."""
    names = [*x]
    if len(names) < 2:
        return
    z, scale = np.stack([*_standardised(x).values()], axis=1), [values.std() or 1.0 for values in x.values()]
    if np.linalg.eigvalsh(z.T @ z / len(z))[0] > RANK:
        return
    straight = np.triu(1 - np.abs(z.T @ z) / len(z) < RANK, k=1)
    for first, second in np.argwhere(straight):
        sign = np.sign(z[:, first] @ z[:, second])
        yield {names[second]: -1.0, names[first]: sign * scale[second] / scale[first]}
    for target in reversed(range(len(names))):
        others = [k for k in range(len(names)) if k != target and names[k] not in found]
        if names[target] in _involved(found):
            continue
        terms = _fewest_terms(z, target, others)
        if 0 < len(terms) < MOST_TERMS:
            yield {names[target]: -1.0, **{names[k]: b * scale[target] / scale[k] for k, b in terms.items()}}


def _fewest_terms(z: FloatArray, target: int, others: list[int]) -> dict[int, float]:
    """Write a column of z (n, d) as a sum of others none of which can be left out; {} where that is not possible."""

    def fit(columns: list[int]) -> dict[int, float] | None:
        if not columns:
            return None
        solution, *_ = np.linalg.lstsq(z[:, columns], z[:, target], rcond=1e-10)
        if np.abs(z[:, columns] @ solution - z[:, target]).max() > EXACT:
            return None
        return {k: float(b) for k, b in zip(columns, solution, strict=True) if abs(b) > EXACT}

    terms = fit(others) or {}
    for k in sorted(terms, key=lambda k: abs(terms[k])):
        if k in terms:
            terms = fit([other for other in terms if other != k]) or terms
    return terms


def _readable(
    rows: pl.DataFrame,
    x: Mapping[str, FloatArray],
    weights: Mapping[str, float],
    written: Written,
    *,
    targets: Collection[str],
) -> tuple[str, Formula] | None:
    """Solve Σ weight · x = constant for each of the targets, and give the formula that reads best of those that hold.

    The column with most decimals was computed from the others, most likely: computed from it, the others would be
    rounded. A sum reads better than a difference, and short factors better than long ones.
    """
    solved = []
    for name in targets:
        factors = {other: _rounded(-weight / weights[name]) for other, weight in weights.items() if other != name}
        rest = x[name] - sum(factor * x[other] for other, factor in factors.items())
        formula = written(name, factors, float(np.median(rest)))
        order = -decimals_of(rows[name]), sum(factor < 0 for factor in factors.values()), len(str(formula))
        solved.append((order, name, formula))
    solved.sort(key=lambda found: found[0])
    return next(((name, formula) for _, name, formula in solved if _holds(rows, name, formula)), None)


def _linear_sum(name: str, factors: Mapping[str, float], constant: float) -> Formula:
    """Write constant + Σ factor · column."""
    constant = _rounded(constant)
    return linear_formula(factors, constant if abs(constant) > EXACT else 0.0)


def _product(name: str, factors: Mapping[str, float], constant: float) -> Formula:
    """Write exp(constant) · Π column^factor."""
    above: list[str] = []
    below: list[str] = []
    for other, power in sorted(factors.items(), key=lambda factor: -factor[1]):
        size = f"{abs(power):.{DIGITS}g}"
        (above if power > 0 else below).append(quoted(other) + (f"^{size}" if size != "1" else ""))
    number = f"{_rounded(np.exp(constant)):.{DIGITS}g}"
    above = [*([number] if number != "1" or not above else []), *above]
    return read_formula(" / ".join(["*".join(above), *below]))


def _exponential(name: str, factors: Mapping[str, float], constant: float) -> Formula:
    """Write exp(constant) · exp(factor · column)."""
    ((other, factor),) = factors.items()
    number, size = f"{_rounded(np.exp(constant)):.{DIGITS}g}", f"{abs(factor):.{DIGITS}g}"
    inner = ("-" if factor < 0 else "") + (f"{size}*" if size != "1" else "") + quoted(other)
    return read_formula(f"exp({inner})" if number == "1" else f"{number}*exp({inner})")


def _rounded(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


def _holds(rows: pl.DataFrame, name: str, formula: Formula) -> bool:
    """Say whether a formula holds in every row."""
    try:
        DerivedColumn.of(rows, name, str(formula))
    except InputError:
        return False
    return True
