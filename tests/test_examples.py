"""The examples in the docstrings of the public names: every public docstring has one, and every one is run."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dualdiff_cli


def documented() -> Iterator[tuple[str, Any]]:
    """Give the package, its public functions and classes, and the public methods of the estimator."""
    yield "dualdiff_cli", dualdiff_cli
    for name in dualdiff_cli.__all__:
        if name != "__version__":
            yield name, getattr(dualdiff_cli, name)
    for name, method in vars(dualdiff_cli.DualDiff).items():
        if not name.startswith("_") and (callable(method) or isinstance(method, classmethod)):
            yield f"DualDiff.{name}", getattr(dualdiff_cli.DualDiff, name)


DOCUMENTED = dict(documented())


@pytest.mark.slow
@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_public_docstring_has_examples_that_give_what_they_say(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = inspect.getdoc(DOCUMENTED[name])
    assert text is not None
    examples = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    assert examples.examples, f"{name} has no example"
    results = doctest.DocTestRunner(verbose=False).run(examples)
    assert results.failed == 0


def test_dir_help_and_star_show_the_public_names_and_no_others() -> None:
    assert dir(dualdiff_cli) == sorted(dualdiff_cli.__all__)
    shown = inspect.getdoc(dualdiff_cli)
    assert shown is not None
    assert all(f"`{name}`" in shown for name in ("DualDiff", "train", "sample", "evaluate", "export"))
    names: dict[str, Any] = {}
    exec("from dualdiff_cli import *", names)
    assert set(names) - {"__builtins__"} == set(dualdiff_cli.__all__)
