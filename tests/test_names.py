"""One name for one thing, one maker of generators, and registries whose lines are real."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from test_layering import FILES, files_with, parse

# One name, one thing

COMMANDS = {
    "animate",
    "bench",
    "columns",
    "compare",
    "evaluate",
    "explore",
    "export",
    "impute",
    "plot",
    "report",
    "reproduce",
    "sample",
    "score",
    "train",
}
"""A command is called like the job that it calls; no other two things share a name."""


def defined(tree: ast.Module) -> Iterator[str]:
    """Give the public classes, functions and type aliases of a module, and its other names that ``__all__`` lists."""
    listed: set[str] = set()
    assigned: dict[str, ast.expr | None] = {}
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            assigned[node.target.id] = node.annotation if "TypeAlias" in ast.unparse(node.annotation) else None
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            assigned[node.targets[0].id] = node.value
            if node.targets[0].id == "__all__":
                listed.update(ast.literal_eval(node.value))
    for name, value in assigned.items():
        is_alias = isinstance(value, (ast.Subscript, ast.BinOp)) and re.fullmatch("[A-Z]+[a-z]\\w*", name)
        if name in listed or is_alias or (value is not None and ast.unparse(value) == "TypeAlias"):
            yield name


def shared(modules: dict[str, ast.Module]) -> dict[str, list[str]]:
    """Give the names that several modules define, with these modules; commands and their jobs are left out."""
    places: dict[str, list[str]] = {}
    for path, tree in modules.items():
        for name in set(defined(tree)):
            places.setdefault(name, []).append(path)
    several = {name: found for name, found in places.items() if len(found) > 1}
    pairs = {name for name in COMMANDS & several.keys() if sum(p.startswith("cli/") for p in several[name]) == 1}
    return {name: found for name, found in several.items() if name not in pairs or len(found) > 2}


def test_no_two_things_share_a_name() -> None:
    assert shared({path.as_posix(): parse(path) for path in FILES}) == {}


@pytest.mark.parametrize(
    "line",
    [
        "class Cell: ...",
        "def Cell(): ...",
        "Cell: TypeAlias = 'dict[str, Any]'",
        "Cell = Literal['a']",
        "Cell = int | str",
        "__all__ = ['Cell']\nCell = 3",
    ],
)
def test_a_shared_name_is_seen_whatever_it_names(line: str) -> None:
    assert shared({"a.py": ast.parse("class Cell: ..."), "b.py": ast.parse(line)}) == {"Cell": ["a.py", "b.py"]}


def test_a_command_shares_its_name_with_its_job_alone() -> None:
    train = ast.parse("def train(): ...")
    assert shared({"cli/train.py": train, "jobs/train.py": train}) == {}
    assert shared({"training/train.py": train, "jobs/train.py": train}).keys() == {"train"}
    assert shared({"cli/train.py": train, "jobs/train.py": train, "bench/train.py": train}).keys() == {"train"}
    assert shared({"cli/draw.py": ast.parse("def draw(): ..."), "a.py": ast.parse("def draw(): ...")}).keys() == {
        "draw"
    }


# Generators

MAKERS = {"default_rng", "Generator", "RandomState", "SeedSequence", "PCG64", "Philox", "manual_seed", "get_rng_state"}
"""What makes a generator, or reads or seeds a global one."""
DRAWS = {"rand", "randn", "randint", "randperm", "normal", "uniform", "permutation", "shuffle", "choice", "seed"}
"""Functions of ``numpy.random`` and of torch that use a global generator unless they are given one."""


def makes_generator(node: ast.AST) -> bool:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return bool(re.search(r"\b(import|from) (random|numpy\.random|torch\.random)\b", ast.unparse(node)))
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    name, owner = node.func.attr, ast.unparse(node.func.value)
    is_global = owner in ("np.random", "numpy.random", "random") or (
        owner == "torch" and all(keyword.arg != "generator" for keyword in node.keywords)
    )
    return name in MAKERS or (name.removesuffix("_like") in DRAWS and is_global)


def test_only_seeding_makes_generators() -> None:
    """A type annotation may name a generator; no other line may make one, and none may use a global one."""
    assert files_with(makes_generator) == {"seeding.py"}


@pytest.mark.parametrize(
    "line",
    [
        "np.random.default_rng(0)",
        "numpy.random.Generator(bits)",
        "torch.Generator('cpu')",
        "torch.Generator().manual_seed(0)",
        "torch.manual_seed(0)",
        "torch.cuda.manual_seed(0)",
        "np.random.seed(0)",
        "np.random.normal(size=3)",
        "torch.randn(3)",
        "torch.randn_like(x)",
        "import random",
        "from numpy.random import default_rng",
    ],
)
def test_a_generator_is_seen_however_it_is_made(line: str) -> None:
    assert any(makes_generator(node) for node in ast.walk(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    [
        "def f(rng: np.random.Generator) -> torch.Generator: ...",
        "rng.normal(size=3)",
        "torch.randn(3, generator=stream)",
    ],
)
def test_what_a_generator_is_given_to_makes_none(line: str) -> None:
    assert not any(makes_generator(node) for node in ast.walk(ast.parse(line)))
