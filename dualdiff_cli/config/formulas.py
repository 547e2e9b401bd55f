"""Formulas: a column that follows from others, such as ``total = minutes + 60*hours`` or ``bmi = mass / height^2``.

A formula has columns, numbers, ``+ - * / ^``, brackets, and the functions ``exp``, ``log``, ``log10`` and ``sqrt``; a
name that is no plain word stands in double quotes, and a double quote in it is written twice. A formula is kept as a
text that begins with ``=``, where the kind of a column stands, so that a schema file can hold it:

    [columns]
    total = "= minutes + 60*hours"
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..errors import InputError
from .expressions import (
    Linear,
    columns_of,
    computed_tree,
    is_column,
    is_polynomial,
    linear_tree,
    parse,
    powers_of,
    quoted,
    solved_tree,
)

__all__ = ["Formula", "is_formula", "linear_formula", "read_constraint", "read_formula"]

_EQUALS = re.compile(r'=(?=(?:[^"]*"[^"]*")*[^"]*$)')
"""An equals sign outside of quotes."""
REMEDY = 'Write it as "total = minutes + 60*hours", with names that hold blanks in double quotes.'


@dataclass(frozen=True)
class Formula:
    """What a column is computed by.

    Attributes:
        text: what `read_formula` reads, without the ``=`` at its beginning.
        tree: the text as a tree of operations, in which the names are those of columns.

    """

    text: str
    tree: ast.expr = field(compare=False, repr=False)

    def __str__(self) -> str:
        """Give the text that `read_formula` reads, which begins with ``=``."""
        return f"= {self.text}"

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns in the formula."""
        return tuple(dict.fromkeys(columns_of(self.tree)))

    @cached_property
    def linear(self) -> Linear | None:
        """The factors and the constant of a linear formula; None for another one."""
        return linear_tree(self.tree)

    def value(self, values: Mapping[str, Any]) -> Any:
        """Compute the formula from the values of its columns, by name: numbers, NumPy arrays or torch tensors.

        What is not finite, such as a quotient by zero, is NaN.
        """
        import numpy as np  # --help reads the names of kinds, and loads no NumPy

        with np.errstate(all="ignore"):  # what cannot be computed is no number, and so a missing cell
            value = computed_tree(self.tree, values)
            return value + 0 * value  # 0·∞ is NaN, with the same operators for numbers, arrays and tensors

    def can_be_missing(self, gaps: Collection[str]) -> bool:
        """Say whether the value can be NaN, where the columns named in `gaps` can be."""
        return not is_polynomial(self.tree) or not {*self.columns}.isdisjoint(gaps)

    def can_be_solved_for(self, name: str) -> bool:
        """Say whether the formula is linear, or has one place of the column."""
        return self.linear is not None or columns_of(self.tree).count(name) == 1

    def gives_back(self, name: str, values: Mapping[str, Any]) -> bool:
        """Say whether `solved_for` gives the values (n,) of a column back: the root of x^2 is never negative."""
        import numpy as np

        with np.errstate(all="ignore"):
            for base, exponent in powers_of(self.tree, name):
                x, p = np.asarray(computed_tree(base, values)), np.asarray(computed_tree(exponent, values))
                if not (np.isnan(x) | np.isclose((x**p) ** (1 / p), x)).all():
                    return False
        return True

    def solved_for(self, name: str, value: Any, values: Mapping[str, Any]) -> Any:
        """Compute one column, for which the formula can be solved, from its value and those of the other columns."""
        import numpy as np

        with np.errstate(all="ignore"):
            if self.linear is not None:
                factors = self.linear.factors
                rest = sum((factor * values[other] for other, factor in factors.items() if other != name), 0.0)
                return (value - self.linear.constant - rest) / factors[name]
            return solved_tree(self.tree, name, value, values)


def linear_formula(factors: Mapping[str, float], constant: float) -> Formula:
    """Give the formula constant + Σ factor · column, written so that it reads well."""
    terms = [
        (factor, quoted(name) if abs(factor) == 1 else f"{_written(abs(factor))}*{quoted(name)}")
        for name, factor in factors.items()
    ]
    if constant or not terms:
        terms.append((constant, _written(abs(constant))))
    terms.sort(key=lambda term: term[0] < 0)  # a sum that begins with a minus sign is hard to read
    text = "".join(f" {'-' if number < 0 else '+'} {term}" for number, term in terms)
    text = text.removeprefix(" + ").lstrip()
    return Formula(text, parse(text))


def is_formula(kind: str) -> bool:
    """Say whether what stands for the kind of a column is a formula."""
    return kind.lstrip().startswith("=")


def read_formula(text: str) -> Formula:
    """Read the text of a formula, with or without the ``=`` at its beginning.

    Raises:
        InputError: the text is no such formula.

    """
    import numpy as np

    body = " ".join(text.strip().removeprefix("=").split())
    if not body:
        raise InputError("A formula is empty.", REMEDY)
    try:
        formula = Formula(body, parse(body))
        one = formula.value(dict.fromkeys(formula.columns, np.float64(1.0)))
        linear = formula.linear
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise InputError(f"The formula {body!r} cannot be read.", REMEDY) from error
    numbers = (one,) if linear is None else (*linear.factors.values(), linear.constant)
    if not all(isinstance(number, float) and (math.isfinite(number) or linear is None) for number in numbers):
        raise InputError(f"The formula {body!r} cannot be computed.", REMEDY)
    return formula if linear is None else linear_formula(*linear)


def read_constraint(text: str) -> tuple[str, Formula]:
    """Read an equation of columns, and solve it for one of them.

    That is the column that stands alone on one side, the left one first. A linear equation without such a side is
    solved for the last column that is named: ``a + b + c = 100`` for the column c, which is ``= 100 - a - b``.

    Returns:
        The name of the column that follows from the others, and the formula.

    Raises:
        InputError: the text is no such equation.

    """
    parts = _EQUALS.split(text)
    if len(parts) != 2 or not all(map(str.strip, parts)):
        raise InputError(f"The constraint {text!r} is no equation of columns.", REMEDY)
    sides = read_formula(parts[0]), read_formula(parts[1])
    linear = [side.linear for side in sides]
    if linear[0] is None or linear[1] is None:
        for alone, other in (sides, sides[::-1]):
            if is_column(alone.tree) and not {*alone.columns} & {*other.columns}:
                return alone.columns[0], other
        raise InputError(f"The constraint {text!r} does not say what a column follows from.", REMEDY)
    named = list(dict.fromkeys([*linear[0].factors, *linear[1].factors]))
    is_alone = len(linear[0].factors) == 1 and not linear[0].constant
    name = "" if not named else named[0] if is_alone else named[-1]
    difference = linear[1].plus(linear[0].times(-1.0))
    own = -difference.factors.get(name, 0.0)
    others = Linear({other: factor for other, factor in difference.factors.items() if other != name}, difference[1])
    if not own or not others.factors:
        raise InputError(f"The constraint {text!r} does not say what a column follows from.", REMEDY)
    return name, linear_formula(*others.times(1 / own))


def _written(number: float) -> str:
    """Write a number with as few digits as give the number back."""
    short = f"{number:.12g}"
    return short if float(short) == number else repr(number)
