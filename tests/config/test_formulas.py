"""Formulas and equations of columns, as users write them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dualdiff_cli.config.formulas import Formula, is_formula, linear_formula, read_constraint, read_formula
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
        ('"a = b" = 2*"5"" pipe"', "a = b", {'5" pipe': 2}, 0),
    ],
)
def test_an_equation_is_solved_for_one_column(text: str, name: str, factors: dict[str, float], constant: float) -> None:
    found, formula = read_constraint(text)
    assert found == name
    assert formula == linear_formula(factors, constant)
    assert formula.linear == (factors, constant)


@pytest.mark.parametrize(
    ("text", "name", "columns", "value"),
    [
        ("bmi = mass / height^2", "bmi", {"mass": 80.0, "height": 2.0}, 20.0),
        ("price * quantity = revenue", "revenue", {"price": 2.5, "quantity": 4.0}, 10.0),
        ("wage = 2*exp(-logwage) + 1", "wage", {"logwage": 0.5}, 1 + 2 * math.exp(-0.5)),
        ('y = log10("x 1") - sqrt(in)/(2 + é)', "y", {"x 1": 1000.0, "in": 16.0, "é": 2.0}, 2.0),
        ("exp = exp(log) ** 2 ^ 3 + 0*if", "exp", {"log": 0.1, "if": 7.0}, math.exp(0.8)),
        ("c = (a + b) * (a - b)", "c", {"a": 3.0, "b": 2.0}, 5.0),
    ],
)
def test_a_formula_that_is_not_linear_is_computed_as_it_reads(
    text: str, name: str, columns: dict[str, float], value: float
) -> None:
    found, formula = read_constraint(text)
    assert found == name
    assert set(formula.columns) == set(columns)
    assert formula.linear is None
    assert formula.value(columns) == pytest.approx(value)
    tensors = formula.value({name: torch.tensor([x], dtype=torch.float64) for name, x in columns.items()})
    assert tensors.tolist() == pytest.approx([value])
    assert read_formula(str(formula)) == formula


@pytest.mark.parametrize(
    "text",
    [
        "a + 2*b - 3",
        "2 - a/4 + a - b",
        "-(a - b)",
        "a*b",
        "a/b",
        "b/a",
        "a^2.5 * b",
        "2^a - b",
        "exp(-a) + log(b)",
        "log10(b)/sqrt(a)",
    ],
)
def test_a_formula_is_solved_for_each_of_its_columns(text: str) -> None:
    formula, columns = read_formula(text), {"a": 1.7, "b": 2.3}
    value = formula.value(columns)
    for name, x in columns.items():
        others = {other: number for other, number in columns.items() if other != name}
        assert formula.solved_for(name, value, others) == pytest.approx(x)


def test_a_formula_with_two_places_of_a_column_is_not_solved_for_it() -> None:
    formula = read_formula("a*b + a^2")
    assert not formula.can_be_solved_for("a")
    assert formula.can_be_solved_for("b")
    assert formula.solved_for("b", 6.0, {"a": 2.0}) == pytest.approx(1.0)


def test_what_cannot_be_computed_is_no_number() -> None:
    values = read_formula("log(a) + 1/a").value({"a": np.array([1.0, -1.0])})
    assert values.tolist() == pytest.approx([1.0, math.nan], nan_ok=True)


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
        "a*b = c*d",
        "a = a*b",
        "a = foo(b)",
        "a = exp(b, c)",
        "a = b if c else d",
        "a = b[0]",
        "a = 'b'",
        "a = b, c",
        "a = 0x5",
        "a = b < c",
        "a = b + 10^1000",
        "a = b + 1/0",
        "a = b + (-1)^0.5",
        "a = 1e300*1e300*b",
        "a = b" + " + b" * 3000,
        "a = " + "(" * 500 + "b" + ")" * 500,
        "",
    ],
)
def test_what_is_no_equation_of_columns_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match=r"total = minutes \+ 60\*hours"):
        read_constraint(text)


@pytest.mark.parametrize(
    "formula",
    [
        linear_formula({"a": 1 / 3, "b c": -1.0}, 0.0),
        linear_formula({'"': 2.0, 'a ""': 1.0}, 0.0),
        linear_formula({"x": -1e-7}, 1e20),
        linear_formula({"y": 0.1}, -0.3),
        linear_formula({}, 0.0),
        read_formula("  3 * a^2/b  "),
    ],
)
def test_the_text_of_a_formula_gives_the_formula_back(formula: Formula) -> None:
    assert read_formula(str(formula)) == formula
    assert is_formula(str(formula))
    assert check_column_kind(str(formula)) == str(formula)
