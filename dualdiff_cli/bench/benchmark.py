"""The benchmark: time training and sampling by every backend, and by the published loops, in one record."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..compute.device import choose_device, denormals_flushed
from ..compute.execution import Execution, choose_products
from ..compute.machine import describe_conditions, describe_machine
from ..config.layers import Layer
from ..config.recipes import resolve_diffusion
from ..config.schema import DiffusionConfig
from ..errors import InputError, Interrupted, unknown_name
from ..models.fitting import training_layer
from ..store.atomic import require_writable, write_json
from .backends import BACKENDS, backends_of, competitor, export_for
from .clock import Measurement, measure
from .record_file import TASKS
from .records import related
from .subject import Subject, subjects_of

__all__ = ["BenchRequest", "bench"]

CALLS_PER_BLOCK = 10
"""Timed calls of the task "latency" for each timed block of the other tasks: the calls are short."""


@dataclass(frozen=True)
class BenchRequest:
    """What is timed.

    Attributes:
        datasets, models: names; a data set may also be a file.
        recipe: the recipe of our own backends; the published loops always run the paper's recipe.
        tasks: some of ``train``, ``sample`` and ``latency``.
        backends: names of backends; if empty, all backends that suit the device.
        samples: number of points in the sampling task.
        repeats: number of timed blocks of each row.
        seconds_per_block: how long a block should take, in seconds.
        options, settings: further layers of the configuration; see `resolve`.

    """

    datasets: tuple[str, ...] = ("circle", "dino", "line", "moons")
    models: tuple[str, ...] = ("baseline", "dual-expert")
    recipe: str = "paper"
    tasks: tuple[str, ...] = TASKS
    backends: tuple[str, ...] = ()
    samples: int = 10_000
    repeats: int = 5
    seconds_per_block: float = 0.5
    options: Layer | None = None
    settings: tuple[str, ...] = ()

    def config(self, dataset: str, model: str, recipe: str | None = None) -> DiffusionConfig:
        """Resolve the configuration of one data set and model, under the request's recipe or under the given recipe."""
        recipe = recipe or self.recipe
        return resolve_diffusion(
            dataset=dataset, model=model, recipe=recipe, options=self.options, settings=self.settings
        )

    def blocks(self, task: str) -> int:
        """Give the number of timed blocks of a row."""
        return self.repeats * (CALLS_PER_BLOCK if task == "latency" else 1)


def bench(
    request: BenchRequest = BenchRequest(),
    *,
    device: str = "auto",
    threads: int | None = None,
    output: Path | None = None,
    on_start: Callable[[int], None] = lambda total: None,
    on_step: Callable[[str], None] = lambda doing: None,
) -> dict[str, Any]:
    """Time every backend of every task, data set and model.

    The backends and models of one task and data set form a group and take turns. The record is written to the output
    after each group, and when the user interrupts the benchmark.

    Args:
        request: what is timed.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
        threads: number of CPU threads of torch and ONNX Runtime; None takes the number that a training would take.
        output: the JSON file that the record is written to.
        on_start: called once with the number of exports, preparations and blocks.
        on_step: called before each of them with a description.

    Returns:
        The environment and one row for each data set, model, task and backend. The times of a row are seconds of the
        whole task, except ``raw_s``, which holds the measured seconds of each block.

    Raises:
        DeviceError: the device is not available; nothing has been computed.
        InputError: a name is unknown, or no backend does any of the tasks; nothing has been computed.
        Interrupted: the user interrupts the benchmark.

    """
    place = choose_device(device)
    plan = _plan(request, place)
    if output is not None:
        require_writable(output)
    done: list[Measurement] = []
    first = request.config(request.datasets[0], request.models[0])
    with denormals_flushed(), _threads(threads, first) as why, tempfile.TemporaryDirectory() as folder:
        environment = {**describe_machine(), "why_threads": why, **describe_conditions(place)}

        def record() -> dict[str, Any]:
            rows = [measurement.record() for measurement in done if measurement.raw_s or measurement.failure]
            return {
                "environment": environment,
                "samples": request.samples,
                "settings": list(request.settings),
                "rows": related(rows, request.samples),
            }

        on_start(len(request.datasets) * len(request.models) * _events(request, plan))
        try:
            for dataset in request.datasets:
                pairs = [(request.config(dataset, m), request.config(dataset, m, "paper")) for m in request.models]
                subjects = subjects_of(pairs, samples=request.samples, device=place, folder=Path(folder))
                _load_libraries(subjects[0], is_published=any("published" in names for names in plan.values()))
                for subject in subjects:
                    on_step(f"{dataset}: exporting {subject.config.model.name}")
                    export_for(subject, [name for names in plan.values() for name in names])
                for task, names in plan.items():
                    group = [Measurement(competitor(subject, task, name)) for subject in subjects for name in names]
                    done += group
                    measure(
                        group,
                        repeats=request.blocks(task),
                        device=place,
                        seconds_per_block=request.seconds_per_block,
                        on_step=lambda doing, of: on_step(_words(doing, of)),
                    )
                    if output is not None:
                        write_json(output, record())
        except KeyboardInterrupt:
            raise _interrupted(record(), output) from None
        return record()


def _plan(request: BenchRequest, device: torch.device) -> dict[str, list[str]]:
    """Give the names of the backends of every task; check all names of the request."""
    for kind, asked, known in (("task", request.tasks, TASKS), ("backend", request.backends, BACKENDS)):
        for name in asked:
            if name not in known:
                raise unknown_name(kind, name, known)
    for dataset in request.datasets:
        for model in request.models:
            if request.config(dataset, model).folds.number:
                raise InputError(
                    "A training in folds, as of the recipe few-rows, cannot be timed: each backend has one network.",
                    "Choose --recipe paper or --recipe precise, and no --set folds.number.",
                )
    plan = {task: backends_of(task, device, request.backends) for task in request.tasks}
    if not any(plan.values()):
        raise InputError(
            f"None of the backends {', '.join(request.backends)} does any of the tasks {', '.join(request.tasks)}.",
            "Leave --backend or --task out.",
        )
    return {task: names for task, names in plan.items() if names}


def _events(request: BenchRequest, plan: Mapping[str, Sequence[str]]) -> int:
    """Count the steps that are reported for one data set and one model: the export, the preparations and the blocks."""
    return 1 + sum(len(names) * (1 + request.blocks(task)) for task, names in plan.items())


@contextmanager
def _threads(number: int | None, config: DiffusionConfig) -> Iterator[str]:
    """Set the number of threads for the benchmark, and give the reason for the number."""
    why = "asked for"
    if number is None:
        number, _, why = choose_products(training_layer(config), "float32")
    with Execution(number).applied():
        yield why


def _load_libraries(subject: Subject, *, is_published: bool) -> None:
    """Make a training step: what torch loads at its first step is then part of no row's memory.

    Our plain training loads it for every backend; the published loops load more, and are asked only where they are
    timed. A backend that fails here fails again when it is prepared, and its row then has the reason.
    """
    for name in ("published", "eager") if is_published else ("eager",):
        with suppress(Exception):
            competitor(subject, "train", name).prepare().call(1)


def _words(doing: str, of: Measurement) -> str:
    labels = of.competitor.labels
    return f"{labels['dataset']}: {doing} {labels['task']}, {labels['model']}, {labels['backend']}"


def _interrupted(record: Mapping[str, Any], output: Path | None) -> Interrupted:
    problem = f"Interrupted; {len(record['rows'])} rows have times or a reason."
    if output is None:
        return Interrupted(problem, "With --output they would have been kept.")
    write_json(output, record)
    return Interrupted(problem, f"They are in {output}.")
