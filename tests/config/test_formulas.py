"""Formulas and equations of columns, as users write them."""

from __future__ import annotations

import pytest

from dualdiff_cli.config.formulas import Formula, is_formula, read_constraint, read_formula
from dualdiff_cli.config.registry import check_column_kind
from dualdiff_cli.errors import InputError


@pytest.mark.parametrize(
    ("text", "name", "factors", "constant"),
    [
        ("total = minutes + 60*hours", "total", {"minutes": 1, "hours": 60}, 0),
        ("total = minutes + hours * 60", "total", {"minutes": 1, "hours": 60}, 0),
        ("a + b + c = 100", "c", {"a": -1, "b": -1}, 100),
        ("2*x = y - 1", "x", {"y": 0.5}, -0.5),
        ('"my column" = -"größe (m)" + 1.5e3', "my column", {"größe (m)": -1}, 1500),
        ("a = b + b", "a", {"b": 2}, 0),
    ],
)
def test_an_equation_is_solved_for_one_column(text: str, name: str, factors: dict[str, float], constant: float) -> None:
    assert read_constraint(text) == (name, Formula(factors, constant))


@pytest.mark.parametrize(
    "text",
    [
        "total",
        "= a",
        "a =",
        "a = b = c",
        "a = a",
        "2 = 3",
        "a = b c",
        "a = 2b",
        "a = b + * c",
        "a = b ^ 2",
        "a = b*c",
        "",
    ],
)
def test_what_is_no_linear_equation_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match=r"total = minutes \+ 60\*hours"):
        read_constraint(text)


@pytest.mark.parametrize(
    "formula",
    [Formula({"a": 1 / 3, "b c": -1.0}, 0.0), Formula({"x": -1e-7}, 1e20), Formula({"y": 0.1}, -0.3), Formula({}, 0.0)],
)
def test_the_text_of_a_formula_gives_the_formula_back(formula: Formula) -> None:
    assert read_formula(str(formula)) == formula
    assert is_formula(str(formula))
    assert check_column_kind(str(formula)) == str(formula)
