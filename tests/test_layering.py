"""The design's "an import only points downwards", read off each module's imports, and its only-this-file rules."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import dualdiff_cli

PACKAGE = "dualdiff_cli"
ROOT = Path(dualdiff_cli.__file__).parent

# A folder may import what stands below it in this list, and the two files that stand beside them all.
ORDER = [
    "__main__",
    "cli",
    "estimator",
    "bench",
    "paper",
    "jobs",
    "exporting",
    "present",
    "models",
    "training",
    "diffusion",
    "metrics",
    "data",
    "store",
    "compute",
    "config",
    "checked",
    "seeding",
    "errors",
]

FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
MODULES = [path for path in FILES if path != Path("__init__.py")]  # the package itself imports its names lazily


def layer(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def parse(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imports(path: Path, tree: ast.Module) -> Iterator[tuple[str, ...]]:
    """Give the package's own names that a module imports, as parts below the package: ("data", "tables")."""
    folder = (PACKAGE, *path.parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) + 1 - node.level] if node.level else ()
            targets = [(*base, *(node.module or "").split("."), alias.name) for alias in node.names]
        else:
            continue
        for target in targets:
            parts = tuple(part for part in target if part)
            if parts[0] == PACKAGE:
                yield parts[1:]


def above(path: Path, tree: ast.Module) -> list[str]:
    """Name the folders that a module imports although they stand above its own."""
    own = ORDER.index(layer(path))
    used = {target[0] for target in imports(path, tree) if target and target[0] != "__version__"}
    return sorted(name for name in used - {layer(path)} if name not in ORDER[own + 1 :])


def test_every_module_has_its_place_in_the_order() -> None:
    assert {layer(path) for path in MODULES} == set(ORDER)
    assert len(set(ORDER)) == len(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_downwards(path: Path) -> None:
    assert above(path, parse(path)) == []


@pytest.mark.parametrize(
    "line",
    [
        "from ..jobs import train",
        "from .. import jobs",
        "import dualdiff_cli.jobs.train",
        "from dualdiff_cli.jobs import train",
        "from dualdiff_cli import jobs",
        "def f():\n    from ..jobs.train import train",
        "if TYPE_CHECKING:\n    from ..jobs import Callbacks",
    ],
)
def test_an_import_that_points_upwards_is_seen_however_it_is_written(line: str) -> None:
    assert above(Path("store", "run.py"), ast.parse(line)) == ["jobs"]


def test_an_import_that_points_upwards_is_seen_in_a_package_too() -> None:
    assert above(Path("data", "tables.py"), ast.parse("from ..metrics.score import Score")) == ["metrics"]
    assert above(Path("data", "tables.py"), ast.parse("from .scaling import Scaler\nfrom ..errors import E")) == []


def test_modules_of_one_package_do_not_import_each_other_in_a_circle() -> None:
    graph = {}
    for path in FILES:
        siblings = {p.stem for p in FILES if p.parent == path.parent} - {"__init__"}
        if path.parent.parts and path.stem != "__init__":
            inside = [target[1:] for target in imports(path, parse(path)) if target[:1] == path.parent.parts]
            graph[path] = {path.with_name(f"{t[0]}.py") for t in inside if t and t[0] in siblings}
    assert any(graph.values())
    TopologicalSorter(graph).prepare()


def files_with(found: object) -> set[str]:
    return {path.as_posix() for path in FILES for node in ast.walk(parse(path)) if found(node)}  # type: ignore[operator]


def test_only_the_device_module_knows_that_cuda_exists() -> None:
    """Its own questions; that a device's type may be "cuda" is no secret."""

    def asks_cuda(node: ast.AST) -> bool:
        return (isinstance(node, ast.Attribute) and node.attr == "cuda") or (
            isinstance(node, (ast.Import, ast.ImportFrom)) and "torch.cuda" in ast.unparse(node)
        )

    assert files_with(asks_cuda) == {"compute/device.py"}


def test_only_export_and_its_counterpart_know_the_formats_of_exported_files() -> None:
    """What ONNX Runtime could use belongs to the description of a machine."""
    formats = ("onnx", "onnxruntime", "torch.export", "torch.jit", "torch.onnx")

    def knows(node: ast.AST) -> bool:
        if isinstance(node, ast.Attribute):
            return ast.unparse(node) in formats
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        return any(name == f or name.startswith(f"{f}.") for name in (*names, *modules) for f in formats)

    folder, others = "exporting/", {"compute/machine.py"}
    assert {name for name in files_with(knows) if not name.startswith(folder)} == others


def test_only_the_console_and_the_writer_of_tables_print() -> None:
    def prints(node: ast.AST) -> bool:
        if isinstance(node, ast.Call):
            return isinstance(node.func, ast.Name) and node.func.id == "print"
        return isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.stdout", "sys.stderr")

    assert files_with(prints) == {"present/terminal.py", "data/writing.py"}


def test_importing_the_package_imports_none_of_its_modules() -> None:
    code = "import sys, dualdiff_cli; print([name for name in sys.modules if name.startswith('dualdiff_cli.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_public_name_of_the_package_is_there() -> None:
    assert all(getattr(dualdiff_cli, name) is not None for name in dualdiff_cli.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = dualdiff_cli.trian
