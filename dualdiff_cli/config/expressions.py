"""Arithmetic of columns as a tree of operations, which is read, computed, solved for a column, and seen to be linear.

The tree is that of Python's own parser, with the names of columns as constants.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

__all__ = [
    "Linear",
    "columns_of",
    "computed_tree",
    "is_column",
    "is_polynomial",
    "linear_tree",
    "parse",
    "powers_of",
    "quoted",
    "solved_tree",
]

_WORD = re.compile(
    r'"(?P<quoted>(?:[^"]|"")+)"|(?P<number>(?:\d[\d_]*\.?\d*|\.\d+)(?:e[+-]?\d+)?)|(?P<plain>[^\W\d]\w*)(?P<call>\s*\()?',
    re.IGNORECASE,
)
_PLAIN = re.compile(r"[^\W\d]\w*")

OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
INVERSES: dict[str, Callable[[Any], Any]] = {
    "exp": lambda y: _call("log", y),
    "log": lambda y: _call("exp", y),
    "log10": lambda y: 10.0**y,
    "sqrt": lambda y: y * y,
}
"""The functions that a formula may call, each with its inverse."""


class Linear(NamedTuple):
    """constant + Σ factor · column.

    Attributes:
        factors: by the name of the column; none of them is 0.
        constant: what is added.

    """

    factors: Mapping[str, float]
    constant: float

    def plus(self, other: Linear) -> Linear:
        """Add the factors of each column, and the constants."""
        both = {
            name: self.factors.get(name, 0.0) + other.factors.get(name, 0.0)
            for name in dict.fromkeys([*self.factors, *other.factors])
        }
        return Linear({name: factor for name, factor in both.items() if factor}, self.constant + other.constant)

    def times(self, number: float) -> Linear:
        """Multiply the factors and the constant by a number."""
        scaled = {name: factor * number for name, factor in self.factors.items()}
        return Linear({name: factor for name, factor in scaled.items() if factor}, self.constant * number)


def quoted(name: str) -> str:
    """Write the name of a column as a formula names it; a quote in a name that stands in quotes is doubled."""
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def is_column(tree: ast.expr) -> bool:
    """Say whether a tree is a column alone."""
    return isinstance(tree, ast.Constant) and isinstance(tree.value, str)


def parse(body: str) -> ast.expr:
    """Parse columns, numbers, operators and functions.

    Each name is replaced by a plain word first, because a column may be called ``in`` or ``é``.

    Raises:
        ValueError: the text is something else.

    """
    names: list[str] = []

    def word(match: re.Match[str]) -> str:
        if match["number"] or match["call"]:
            return match[0]
        names.append(match["plain"] or match["quoted"].replace('""', '"'))
        return f" x{len(names) - 1} "

    source = _WORD.sub(word, body).replace("^", "**").strip()
    try:
        tree = ast.parse(source, mode="eval").body
        for node in ast.walk(tree):
            _check(node)
        named: ast.expr = _Naming(names).visit(tree)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(str(error)) from error
    return named


class _Naming(ast.NodeTransformer):
    """Puts the names of columns, as constants, in the place of the words x0, x1, …"""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Constant:
        return ast.Constant(self.names[int(node.id[1:])])

    def visit_Call(self, node: ast.Call) -> ast.Call:
        node.args = [self.visit(argument) for argument in node.args]
        return node


def _check(node: ast.AST) -> None:
    """Raise ValueError for an operation that formulas do not have."""
    match node:
        case ast.BinOp() if type(node.op) in OPERATORS:
            return
        case ast.Call(func=ast.Name(id=name), args=[_], keywords=[]) if name in INVERSES:
            return
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            return
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()) | ast.Name() | ast.operator() | ast.unaryop() | ast.Load():
            return
    raise ValueError(f"a formula has no {type(node).__name__}")


def columns_of(tree: ast.expr) -> list[str]:
    """Give the names of the columns in a tree, as often as they stand there."""
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def powers_of(tree: ast.expr, name: str) -> list[tuple[ast.expr, ast.expr]]:
    """Give the bases in which a column stands, each with its exponent."""
    powers = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)]
    return [(node.left, node.right) for node in powers if name in columns_of(node.left)]


def is_polynomial(tree: ast.expr) -> bool:
    """Say whether a tree has sums, products and whole powers of columns only, which are finite for finite columns."""
    match tree:
        case ast.Constant():
            return True
        case ast.UnaryOp(operand=operand):
            return is_polynomial(operand)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult(), right=right):
            return is_polynomial(left) and is_polynomial(right)
        case ast.BinOp(left=left, op=ast.Div(), right=ast.Constant(value=int() | float() as number)):
            return number != 0 and is_polynomial(left)
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int())):
            return is_polynomial(left)
    return False


def linear_tree(node: ast.expr) -> Linear | None:
    """Give the factors and the constant of a linear tree; None for another one."""
    match node:
        case ast.Constant(value=str() as name):
            return Linear({name: 1.0}, 0.0)
        case ast.Constant(value=int() | float() as number):
            return Linear({}, float(number))
        case ast.UnaryOp(op=op, operand=operand):
            inner = linear_tree(operand)
            return inner.times(-1.0) if inner is not None and isinstance(op, ast.USub) else inner
        case ast.BinOp(left=left, op=op, right=right):
            first, second = linear_tree(left), linear_tree(right)
            if first is None or second is None:
                return None
            return _combined(first, op, second)
    return None


def _combined(first: Linear, op: ast.operator, second: Linear) -> Linear | None:
    """Give the sum, the difference, the product or the quotient of two linear formulas, if it is linear."""
    match op:
        case ast.Add():
            return first.plus(second)
        case ast.Sub():
            return first.plus(second.times(-1.0))
        case ast.Mult() if not first.factors or not second.factors:
            return second.times(first.constant) if not first.factors else first.times(second.constant)
        case ast.Div() if not second.factors and second.constant:
            return first.times(1 / second.constant)
    return None


def computed_tree(node: ast.expr, values: Mapping[str, Any]) -> Any:
    """Compute a tree from the values of its columns: numbers, NumPy arrays or torch tensors."""
    match node:
        case ast.Constant(value=str() as name):
            return values[name]
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.UnaryOp(op=op, operand=operand):
            value = computed_tree(operand, values)
            return -value if isinstance(op, ast.USub) else value
        case ast.BinOp(left=left, op=op, right=right):
            return OPERATORS[type(op)](*_alike(computed_tree(left, values), computed_tree(right, values)))
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            return _call(name, computed_tree(argument, values))
    raise AssertionError(node)


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    """Make a number beside a torch tensor a tensor, too: exported files round plain numbers to float32."""
    if isinstance(left, float) and hasattr(right, "new_tensor"):
        return right.new_tensor(left), right
    if isinstance(right, float) and hasattr(left, "new_tensor"):
        return left, left.new_tensor(right)
    return left, right


def _call(name: str, x: Any) -> Any:
    """Call a function of NumPy, or the method of a torch tensor."""
    import numpy as np

    if name == "log10" and hasattr(x, "log"):  # in exported files torch's own has a float32 in it
        return OPERATORS[ast.Mult](*_alike(x.log(), 1 / math.log(10)))
    return getattr(x, name)() if hasattr(x, name) else getattr(np, name)(x)


def solved_tree(node: ast.expr, name: str, target: Any, values: Mapping[str, Any]) -> Any:
    """Undo the operations from the root of a tree down to the one place of a column.

    Returns:
        The value of the column for which the tree has the value `target`.

    """
    match node:
        case ast.Constant():
            return target
        case ast.UnaryOp(op=op, operand=operand):
            return solved_tree(operand, name, -target if isinstance(op, ast.USub) else target, values)
        case ast.Call(func=ast.Name(id=function), args=[argument]):
            return solved_tree(argument, name, INVERSES[function](target), values)
        case ast.BinOp(left=left, op=op, right=right):
            on_left = name in columns_of(left)
            inner, other = (left, computed_tree(right, values)) if on_left else (right, computed_tree(left, values))
            return solved_tree(inner, name, _undone(op, target, other, on_left=on_left), values)
    raise AssertionError(node)


def _undone(op: ast.operator, target: Any, other: Any, *, on_left: bool) -> Any:
    """Solve ``x op other = target``, or ``other op x = target``, for x."""
    match op:
        case ast.Add():
            return target - other
        case ast.Sub():
            return target + other if on_left else other - target
        case ast.Mult():
            return target / other
        case ast.Div():
            return target * other if on_left else other / target
    return target ** (1 / other) if on_left else _call("log", target) / _call("log", other)
