"""dualdiff: small diffusion models of low-dimensional data, from the command line or from Python.

`DualDiff` is the model as an estimator of scikit-learn's kind. The functions `train`, `resume`, `sample`, `evaluate`
and `export` do what the commands do; they work with run directories, and a path may be a str or a Path.

The public names are imported on first use, so that ``import dualdiff_cli`` and ``dualdiff --help`` stay light.

Examples:
    >>> import dualdiff_cli as dualdiff
    >>> estimator = dualdiff.DualDiff(model="mixture", settings={"data.points": 500, "model.components": 4})
    >>> estimator.fit("moons").sample(2).shape
    (2, 2)

"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "DualDiff": "estimator",
    "RunConfig": "config.schema",
    "resolve": "config.recipes",
    "Run": "store.run",
    "load_data": "data",
    "train": "jobs.train",
    "sample": "jobs.sample",
    "evaluate": "jobs.evaluate",
    "export": "jobs.export",
    "resume": "jobs.train",
}

__all__ = [
    "DualDiff",
    "Run",
    "RunConfig",
    "__version__",
    "evaluate",
    "export",
    "load_data",
    "resolve",
    "resume",
    "sample",
    "train",
]

if TYPE_CHECKING:
    from .config.recipes import resolve
    from .config.schema import RunConfig
    from .data import load_data
    from .estimator import DualDiff
    from .jobs.evaluate import evaluate
    from .jobs.export import export
    from .jobs.sample import sample
    from .jobs.train import resume, train
    from .store.run import Run


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
