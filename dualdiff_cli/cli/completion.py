"""What a shell completes: names of models, recipes, samplers and data sets, runs, and files.

None of these functions imports torch, because a shell waits for the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ..config.layers import MODELS, RECIPES
from ..config.registry import PEERS, SAMPLERS

__all__ = [
    "complete_datasets",
    "complete_models",
    "complete_models_and_peers",
    "complete_recipes",
    "complete_runs",
    "complete_samplers",
    "complete_tables",
]


def _of(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Make a function that gives the names which begin with what is typed."""
    known = list(names)

    def complete(incomplete: str) -> list[str]:
        return [name for name in known if name.startswith(incomplete.lower())]

    return complete


complete_models = _of(MODELS)
complete_models_and_peers = _of([*MODELS, *PEERS])
complete_recipes = _of(RECIPES)
complete_samplers = _of(SAMPLERS)
complete_tables = _of(["table1", "table2", "figures", "all"])


def complete_runs(incomplete: str) -> list[str]:
    """Give the directories of runs that begin with what is typed, the newest first."""
    from ..store.run import RUNS, Run

    folder, slash, _ = incomplete.rpartition("/")
    within = Path(folder or "/") if slash else RUNS
    return [str(run) for run in Run.newest_first(RUNS, within) if str(run).startswith(incomplete)]


def complete_datasets(incomplete: str) -> list[str]:
    """Give the densities, the data files and the folders whose names begin with what is typed."""
    from ..data import DENSITIES, READABLE

    folder, _, typed = incomplete.rpartition("/")
    entries = sorted(Path(folder or ("/" if incomplete.startswith("/") else ".")).glob(f"{typed}*"))
    names = [f"{entry}/" if entry.is_dir() else str(entry) for entry in entries]
    files = [name for name in names if name.endswith(("/", *READABLE)) and not Path(name).name.startswith(".")]
    return [*(name for name in DENSITIES if name.startswith(incomplete.lower())), *files]
