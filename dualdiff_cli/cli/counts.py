"""Numbers of rows, points and steps as people write them: 5000, 100k, 1e5, 2M."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

import typer

__all__ = ["at_least"]

_COUNT = re.compile(
    r"(?P<digits>-?\d+(_\d+)*|\d{1,3}(,\d{3})+)(?P<rest>(\.\d+)?(e\+?\d{1,2})?)(?P<unit>[km]?)", re.IGNORECASE
)
_UNITS = {"": 1, "k": 1_000, "m": 1_000_000}
_LARGEST_COUNT = 2**63 - 1


def at_least(least: int, *, at_most: int = _LARGEST_COUNT) -> Callable[[str | int], int]:
    """Make the parser of an option that takes a number of rows, points or steps.

    Beside plain digits it takes 100k, 2M, 1e5, 1_000 and 1,000. Another text, a number that is not whole or a number
    below ``least`` or above ``at_most`` raises `typer.BadParameter`.
    """
    most = "2^63 - 1" if at_most == _LARGEST_COUNT else str(at_most)

    def parse(text: str | int) -> int:
        found = _COUNT.fullmatch(str(text).strip())
        digits = "nan" if found is None else found["digits"].replace("_", "").replace(",", "") + found["rest"]
        number = Decimal(digits) * _UNITS[found["unit"].lower() if found else ""]
        if number.is_nan() or number != number.to_integral_value():
            raise typer.BadParameter(f"{text!r} is not a whole number. Write, for example, 5000, 100k, 1e5 or 2M.")
        if not least <= number <= at_most:
            problem = f"{text!r} is less than {least}" if number < least else f"{text!r} is too large"
            raise typer.BadParameter(f"{problem}. Give a number from {least} to {most}.")
        return int(number)

    return parse
