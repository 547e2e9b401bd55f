"""A grid of experiments, spread over processes; each is trained and scored once, however often the grid is stopped.

joblib spreads the experiments over local processes or, with ``engine="ray"``, over a Ray cluster. The processes share a
file system and nothing else: the parent process reads the progress from the files of the runs, and a stop file asks all
processes to stop. Only one grid at a time works in a folder of runs.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import joblib
from threadpoolctl import threadpool_limits

from ..compute.execution import PLAIN
from ..data import check_source
from ..errors import InputError, Interrupted
from ..store.lock import in_use, sole_use
from ..store.run import Run
from .experiment import Experiment

__all__ = ["GridEngine", "GridProgress", "run_grid"]

GridEngine = Literal["joblib", "ray"]

POLL_SECONDS = 0.5
LONGEST_WAIT = 60.0
"""The longest time that a grid waits for the workers of an earlier grid, in seconds."""


@dataclass(frozen=True)
class GridProgress:
    """How far a grid is.

    Attributes:
        runs: the number of experiments.
        done, failed: how many of them are finished, and how many have failed.
        steps, steps_done: the training steps of all experiments, and how many of these are taken.
        seconds_left: an estimate of the time that training, sampling and scoring still take, from the finished
            experiments; None before the first is finished.

    """

    runs: int
    done: int
    failed: int
    steps: int
    steps_done: int
    seconds_left: float | None = field(default=None, compare=False)


def run_grid(
    experiments: Sequence[Experiment],
    *,
    jobs: int | None = None,
    engine: GridEngine = "joblib",
    on_progress: Callable[[GridProgress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:
    """Train and score every experiment that is not finished.

    Args:
        experiments: all in one folder of runs, no two with the same directory.
        jobs: the number of processes, which have one thread each; None takes one process per core.
        engine: what spreads the experiments. Ray needs the package's extra ``ray`` and a file system that all nodes
            share.
        on_progress: told how far the grid is: before the first run, every half second, and after the last run.
        should_stop: asked every half second; once the answer is yes, every run stops after the step that it is taking.

    Returns:
        The results in the order of the experiments (see `Experiment.result`).

    Raises:
        Interrupted: the grid was stopped; everything is saved.
        InputError: an experiment names what does not exist, another grid works in the folder, or Ray is not installed.

    """
    if engine == "ray":  # The workers of a cluster have working directories of their own.
        experiments = [replace(each, runs=str(Path(each.runs).absolute())) for each in experiments]
    if not experiments or len({each.path for each in experiments}) != len(experiments):
        raise ValueError("a grid has experiments, and no two of them share a run")
    for dataset in dict.fromkeys(each.dataset for each in experiments):
        check_source(dataset)
    progress = _Progress(
        experiments, on_progress, jobs or joblib.cpu_count()
    )  # It resolves every configuration, so a bad request fails here.
    folder = Path(experiments[0].runs)
    folder.mkdir(parents=True, exist_ok=True)
    stop_file = folder / f".stop-{uuid4().hex}"
    with sole_use(folder):
        unfinished = [each for each in experiments if not each.is_done()]
        _wait_for_earlier_workers(unfinished, should_stop)
        for each in unfinished:
            each.forget_failure()
        try:
            with _watching(progress, stop_file, should_stop):
                loss = _spread(unfinished, stop_file, engine=engine, jobs=jobs)
            stopped = stop_file.exists() or should_stop()
        finally:
            stop_file.unlink(missing_ok=True)
    unfinished = [each for each in unfinished if not each.is_done()]
    if unfinished and stopped:
        raise Interrupted(
            f"Stopped with {len(experiments) - len(unfinished)} of {len(experiments)} runs done.",
            "Everything is saved: the same command goes on from here.",
        )
    for each in unfinished:
        if "error" not in each.result():
            each.fail(loss or "The run ended before it was finished, and left no reason.")
    return [each.result() for each in experiments]


def _wait_for_earlier_workers(experiments: Sequence[Experiment], should_stop: Callable[[], bool]) -> None:
    """Wait until no run is in use: the workers of a grid that was killed notice it after the step that they take."""
    deadline = time.monotonic() + LONGEST_WAIT
    while any(in_use(each.path) for each in experiments) and time.monotonic() < deadline and not should_stop():
        time.sleep(POLL_SECONDS)


@contextmanager
def _watching(progress: _Progress, stop_file: Path, should_stop: Callable[[], bool]) -> Iterator[None]:
    """Report the progress, and make the stop file once a stop is asked for, while the block runs."""
    finished = threading.Event()

    def watch() -> None:
        while not finished.wait(POLL_SECONDS):
            if should_stop():
                stop_file.touch()
            progress.report()

    progress.report()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()
        progress.report()


class _Progress:
    """Reads from the files of the experiments how far they are.

    Args:
        experiments: those of the grid.
        tell: told the progress by `report`.
        workers: the number of processes.

    """

    def __init__(self, experiments: Sequence[Experiment], tell: Callable[[GridProgress], None], workers: int) -> None:
        self._tell, self._workers = tell, workers
        self._steps = {each: each.config.training.steps for each in experiments}
        self._done: dict[Experiment, dict[str, Any]] = {}

    def report(self) -> None:
        """Read the files and tell the progress."""
        failed = steps_done = 0
        unfinished: list[tuple[int, int, bool]] = []
        for experiment, steps in self._steps.items():
            result = self._done.get(experiment) or experiment.result()
            if result.get("evaluations") and (experiment in self._done or experiment.is_done()):
                self._done[experiment] = result
            failed += "error" in result
            taken = steps if "train" in result else _last_logged_step(experiment)
            steps_done += taken
            if experiment not in self._done and "error" not in result:
                scorings = len(experiment.samplings) - len(result["evaluations"])
                unfinished.append((steps - taken, scorings, "train" not in result))
        self._tell(
            GridProgress(
                runs=len(self._steps),
                done=len(self._done),
                failed=failed,
                steps=sum(self._steps.values()),
                steps_done=steps_done,
                seconds_left=self._seconds_left(unfinished),
            )
        )

    def _seconds_left(self, unfinished: Sequence[tuple[int, int, bool]]) -> float | None:
        """Estimate from the finished experiments how long the unfinished ones take.

        Args:
            unfinished: for each the number of steps and of scorings to go, and whether the training is to be ended.

        """
        finished = [result for result in self._done.values() if "seconds_around" in result["train"]]
        if not finished:
            return None
        trained = [result["train"] for result in finished]
        a_step = sum(record["train_seconds"] for record in trained) / sum(record["steps"] for record in trained)
        around = sum(record["seconds_around"] for record in trained) / len(trained)
        scored = [record["evaluate_seconds"] for result in finished for record in result["evaluations"]]
        a_scoring = sum(scored) / len(scored)
        seconds = sum(steps * a_step + scorings * a_scoring + opened * around for steps, scorings, opened in unfinished)
        return float(seconds) / max(min(self._workers, len(unfinished)), 1)


def _last_logged_step(experiment: Experiment) -> int:
    records = Run(experiment.path).load_metrics()
    return int(records[-1]["step"]) if records else 0


def _spread(experiments: Sequence[Experiment], stop_file: Path, *, engine: GridEngine, jobs: int | None) -> str:
    """Measure the experiments in processes.

    Returns:
        Why processes were lost, or an empty string. A process that is killed takes the pool with it, but no file.

    """
    try:
        with _workers(engine, jobs):
            joblib.Parallel(batch_size=1)(joblib.delayed(_work)(each, stop_file, os.getpid()) for each in experiments)
    except InputError:
        raise
    except Exception as error:
        return f"The process of this run, or another process of the pool, was lost: {type(error).__name__}: {error}"
    return ""


@contextmanager
def _workers(engine: GridEngine, jobs: int | None) -> Iterator[None]:
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


def _work(experiment: Experiment, stop_file: Path, driver: int) -> None:
    """Measure one experiment with one thread, in the process where joblib calls this function."""
    with PLAIN.applied(), _stop_signals(stop_file, driver) as should_stop, threadpool_limits(1):
        experiment.measure(should_stop)


@contextmanager
def _stop_signals(stop_file: Path, driver: int) -> Iterator[Callable[[], bool]]:
    """Give the question whether to stop: yes if the stop file exists, or if the process that would make it is gone.

    A signal to one worker asks the whole grid to stop, because Ctrl-C reaches all processes of a terminal: the worker
    makes the stop file. The driver, which is the process that started the grid, keeps its own signal handlers, and does
    not stop when its own parent ends, which may be a shell.
    """
    is_worker = os.getpid() != driver
    parent, asked_at, answer = os.getppid(), -POLL_SECONDS, False

    def should_stop() -> bool:
        nonlocal asked_at, answer
        if time.monotonic() - asked_at >= POLL_SECONDS:
            asked_at, answer = time.monotonic(), stop_file.exists() or (is_worker and os.getppid() != parent)
        return answer

    heard = is_worker and threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)) if heard else ()
    before = {number: signal.signal(number, lambda *_: stop_file.touch()) for number in numbers}
    try:
        yield should_stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
