"""A grid of runs, each trained and scored once, whatever stops in between.

joblib spreads the cells over processes, or with ``engine="ray"`` over a Ray cluster. Processes share a file system and
nothing else: the parent reads how far the runs are from their logs, and a file asks all of them to stop. One grid at a
time may work in a folder of runs.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import joblib
import torch
from threadpoolctl import threadpool_limits

from ..data import check_source
from ..errors import InputError, Interrupted
from .cells import Cell

__all__ = ["Engine", "GridProgress", "run_grid"]

Engine = Literal["joblib", "ray"]

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class GridProgress:
    """How far a grid is: its runs, those that are done or have failed, and the training steps of all of them."""

    runs: int
    done: int
    failed: int
    steps: int
    steps_done: int


def run_grid(
    cells: Sequence[Cell],
    *,
    jobs: int | None = None,
    engine: Engine = "joblib",
    on_progress: Callable[[GridProgress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:
    """Do what is not done yet of a grid.

    Args:
        cells: no two with the same directory, all in one folder.
        jobs: processes, of one thread each; None takes as many as there are cores.
        engine: what spreads the cells; ``ray`` needs the extra of that name, and a file system that all nodes share.
        on_progress: told before the first run, while they go on, and after the last one.
        should_stop: asked while they go on; once it says yes, every run stops between two steps.

    Returns:
        The results in the order of the cells (see `Cell.result`).

    Raises:
        Interrupted: stopped; everything is saved.
        InputError: a cell asks for what there is not, or Ray is not installed.

    """
    if engine == "ray":  # whose workers have working directories of their own
        cells = [replace(cell, runs=str(Path(cell.runs).absolute())) for cell in cells]
    if not cells or len({cell.path for cell in cells}) != len(cells):
        raise ValueError("a grid has cells, and no two of them share a run")
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        check_source(dataset)
    progress = _Progress(cells, on_progress)  # which resolves every cell: a bad request fails here
    todo = [cell for cell in cells if not cell.is_done()]
    for cell in todo:
        cell.forget_failure()
    stop_file = Path(cells[0].runs, f".stop-{uuid4().hex}")
    stop_file.parent.mkdir(parents=True, exist_ok=True)
    finished = threading.Event()

    def watch() -> None:
        while not finished.wait(POLL_SECONDS):
            if should_stop():
                stop_file.touch()
            progress.report()

    progress.report()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    lost = ""
    try:
        with _engine(engine, jobs):
            joblib.Parallel(batch_size=1)(joblib.delayed(_work)(cell, stop_file, os.getpid()) for cell in todo)
    except InputError:
        raise
    except Exception as error:  # a worker that is killed takes the pool with it, but not what is in the files
        lost = f"Its process was lost, or another's of the same pool: {type(error).__name__}: {error}"
    finally:
        finished.set()
        watcher.join()
        stopped = stop_file.exists()
        stop_file.unlink(missing_ok=True)
    progress.report()
    left = [cell for cell in todo if not cell.is_done()]
    if left and (stopped or should_stop()):
        raise Interrupted(
            f"Stopped with {len(cells) - len(left)} of {len(cells)} runs done.",
            "Everything is saved: the same command goes on from here.",
        )
    for cell in left:
        if lost and "error" not in cell.result():
            cell.fail(lost)
    return [cell.result() for cell in cells]


def _work(cell: Cell, stop_file: Path, driver: int) -> None:
    """Do one cell, in whatever process this is."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _stop_signals(stop_file, driver) as should_stop, threadpool_limits(1):
            cell.measure(should_stop)
    finally:
        torch.set_num_threads(before)


class _Progress:
    """Reads off the files how far the cells are."""

    def __init__(self, cells: Sequence[Cell], tell: Callable[[GridProgress], None]) -> None:
        self._tell = tell
        self._steps = {cell: cell.config.training.steps for cell in cells}
        self._done: set[Cell] = set()

    def report(self) -> None:
        """Look, and tell."""
        standing = [self._standing(cell) for cell in self._steps]
        self._tell(
            GridProgress(
                runs=len(self._steps),
                done=len(self._done),
                failed=sum(failed for _, failed in standing),
                steps=sum(self._steps.values()),
                steps_done=sum(steps for steps, _ in standing),
            )
        )

    def _standing(self, cell: Cell) -> tuple[int, bool]:
        """Steps that the cell has taken, and whether it failed."""
        try:
            result = {} if cell in self._done else json.loads(cell.result_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            result = {}
        if result.get("evaluations") and cell.is_done():
            self._done.add(cell)
        trained = cell in self._done or "train" in result
        return self._steps[cell] if trained else _last_step(cell.path / "metrics.jsonl"), "error" in result


def _last_step(log: Path) -> int:
    """Read the last logged step off the end of a log that somebody else is writing."""
    try:
        with open(log, "rb") as file:
            file.seek(max(os.path.getsize(log) - 1000, 0))
            steps = re.findall(rb'"step": (\d+)', file.read())
    except OSError:
        return 0
    return int(steps[-1]) if steps else 0


@contextmanager
def _engine(engine: Engine, jobs: int | None) -> Iterator[None]:
    """Make joblib spread over local processes, or over Ray."""
    workers = jobs or joblib.cpu_count()
    if engine == "joblib":
        with joblib.parallel_config("loky", n_jobs=workers, inner_max_num_threads=1):
            yield
        return
    try:
        register_ray = import_module("ray.util.joblib").register_ray
    except ImportError as error:
        raise InputError("Ray is not installed.", "Install dualdiff-cli[ray], or use --engine joblib.") from error
    register_ray()
    with joblib.parallel_config("ray", n_jobs=workers):
        yield


@contextmanager
def _stop_signals(stop_file: Path, driver: int) -> Iterator[Callable[[], bool]]:
    """Give what says whether to stop: the file is there, or the process that would make it is gone.

    A signal to one worker, such as Ctrl-C, which reaches all processes of a terminal, makes the file: it is a signal to
    the grid. In the driver's own process its handlers stay.
    """
    parent, asked_at, answer = os.getppid(), -POLL_SECONDS, False

    def should_stop() -> bool:
        nonlocal asked_at, answer
        if time.monotonic() - asked_at >= POLL_SECONDS:
            asked_at, answer = time.monotonic(), stop_file.exists() or os.getppid() != parent
        return answer

    ours = os.getpid() != driver and threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if ours else ()
    before = {number: signal.signal(number, lambda *_: stop_file.touch()) for number in numbers}
    try:
        yield should_stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
