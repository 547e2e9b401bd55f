"""Formulas: a column that follows from others, such as ``total = minutes + 60*hours``.

A formula is linear: columns with or without a factor, and numbers, added and subtracted. It is kept as a text that
begins with ``=``, where the kind of a column stands, so that a schema file can hold it:

    [columns]
    total = "= minutes + 60*hours"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import InputError

__all__ = ["Formula", "is_formula", "read_constraint", "read_formula"]

_TERM = re.compile(
    r"""\s*(?P<sign>[+-])?\s*(?:(?P<factor>\d+\.?\d*(?:e[+-]?\d+)?)\s*(?P<times>\*)?\s*)?"""
    r"""(?:"(?P<quoted>[^"]+)"|(?P<plain>[^\W\d]\w*))?(?:\s*\*\s*(?P<after>\d+\.?\d*(?:e[+-]?\d+)?))?\s*""",
    re.IGNORECASE,
)
_PLAIN = re.compile(r"[^\W\d]\w*")
REMEDY = 'Write it as "total = minutes + 60*hours", with names that hold blanks in double quotes.'


class Formula(NamedTuple):
    """constant + Σ factor · column.

    Attributes:
        factors: by the name of the column; none of them is 0.
        constant: what is added.

    """

    factors: Mapping[str, float]
    constant: float

    def __str__(self) -> str:
        """Give the text that `read_formula` reads, which begins with ``=``."""
        terms = [
            (factor, _quoted(name) if abs(factor) == 1 else f"{_written(abs(factor))}*{_quoted(name)}")
            for name, factor in self.factors.items()
        ]
        if self.constant or not terms:
            terms.append((self.constant, _written(abs(self.constant))))
        terms.sort(key=lambda term: term[0] < 0)  # a sum that begins with a minus sign is hard to read
        text = "".join(f" {'-' if number < 0 else '+'} {term}" for number, term in terms)
        return "= " + text.removeprefix(" + ").lstrip()


def is_formula(kind: str) -> bool:
    """Say whether what stands for the kind of a column is a formula."""
    return kind.lstrip().startswith("=")


def read_formula(text: str) -> Formula:
    """Read the text of a formula, with or without the ``=`` at its beginning.

    Raises:
        InputError: the text is no such formula.

    """
    factors: dict[str, float] = {}
    constant, place, body = 0.0, 0, text.strip().removeprefix("=")
    while place < len(body):
        match = _TERM.match(body, place)
        if match is None or match.end() == place or (place and not match["sign"]) or _is_broken(match):
            raise InputError(f"The formula {text.strip()!r} cannot be read at {body[place:].strip()!r}.", REMEDY)
        name = match["quoted"] or match["plain"]
        factor = float(match["factor"] or 1) * float(match["after"] or 1) * (-1 if match["sign"] == "-" else 1)
        if name:
            factors[name] = factors.get(name, 0.0) + factor
        else:
            constant += factor
        place = match.end()
    if not place:
        raise InputError("A formula is empty.", REMEDY)
    return Formula({name: factor for name, factor in factors.items() if factor}, constant)


def read_constraint(text: str) -> tuple[str, Formula]:
    """Read an equation of columns, and solve it for one of them.

    That is the column on the left, if it stands there alone, and otherwise the last column that is named: of
    ``a + b + c = 100`` the column c, which is ``= 100 - a - b``.

    Returns:
        The name of the column that follows from the others, and the formula.

    Raises:
        InputError: the text is no such equation.

    """
    left, equals, right = text.partition("=")
    if not equals or not left.strip() or not right.strip() or "=" in right:
        raise InputError(f"The constraint {text!r} is no equation of columns.", REMEDY)
    sides = read_formula(left), read_formula(right)
    alone = len(sides[0].factors) == 1 and not sides[0].constant
    named = list(dict.fromkeys([*sides[0].factors, *sides[1].factors]))
    name = "" if not named else named[0] if alone else named[-1]
    factors = {other: sides[1].factors.get(other, 0.0) - sides[0].factors.get(other, 0.0) for other in named}
    own = -factors.pop(name, 0.0)
    if not own or not factors:
        raise InputError(f"The constraint {text!r} does not say what a column follows from.", REMEDY)
    constant = (sides[1].constant - sides[0].constant) / own
    return name, Formula({other: factor / own for other, factor in factors.items() if factor}, constant)


def _is_broken(match: re.Match[str]) -> bool:
    """Say whether a term has neither a number nor a name, or a number too many or one beside a name without ``*``."""
    name = match["quoted"] or match["plain"]
    if name is None:
        return match["factor"] is None or match["times"] is not None or match["after"] is not None
    return match["factor"] is not None and match["times"] is None


def _written(number: float) -> str:
    """Write a number with as few digits as give the number back."""
    short = f"{number:.12g}"
    return short if float(short) == number else repr(number)


def _quoted(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else f'"{name}"'
