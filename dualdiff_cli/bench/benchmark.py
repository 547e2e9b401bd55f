"""Time training and sampling, every backend beside the published loops, and compare two such records."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..compute.device import choose_device, denormals_flushed, set_tf32
from ..compute.execution import choose_products
from ..compute.machine import describe_conditions, describe_machine
from ..config.recipes import Layer, resolve
from ..config.schema import RunConfig
from ..errors import InputError, Interrupted, unknown_name
from ..jobs.inputs import fit_scaler, load_run_data, settle, training_points
from ..models.diffusion import training_layer
from ..paper.results import published
from ..store.atomic import write_json
from .backends import BACKENDS, TASKS, Cell, backends_of, competitor, export_for
from .clock import Measurement, measure, ratio_of_medians

__all__ = ["BenchRequest", "bench", "compare", "read_benchmark"]

KEY = ("dataset", "model", "recipe", "task", "backend")
"""What two records' rows are matched by."""
CALLS_PER_BLOCK = 10
"""Single calls that are timed for every block of the other tasks: they are short."""


@dataclass(frozen=True)
class BenchRequest:
    """What is timed.

    Attributes:
        datasets, models: by name; a data set may be a file.
        recipe: of our backends; the published loops are the paper's always.
        tasks: of ``train``, ``sample`` and ``latency``.
        backends: by name; none takes those that apply to the device.
        samples: points of the sampling task.
        repeats: blocks of each row.
        seconds_per_block: how long a block should take.
        options, settings: further layers of the configuration, as `resolve` takes them.

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

    def config(self, dataset: str, model: str, recipe: str | None = None) -> RunConfig:
        """Resolve one combination, under another recipe than the request's if one is named."""
        recipe = recipe or self.recipe
        return resolve(dataset=dataset, model=model, recipe=recipe, options=self.options, settings=self.settings)

    def blocks(self, task: str) -> int:
        """Timed calls of a row."""
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

    The backends and models of one task and data set take turns. What is measured is written to the output after each
    such group, and when an interrupt comes.

    Args:
        request: what.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
        threads: of torch and ONNX Runtime on the CPU; None takes those that a training would choose.
        output: a JSON file.
        on_start: told how many preparations and blocks there are.
        on_step: told what is done before each.

    Returns:
        The record of the ``bench`` command's contract. A row's times are seconds of its whole task, but ``raw_s`` are
        those of its blocks, as measured.

    Raises:
        DeviceError: the device is not there; nothing has been computed then.
        InputError: an unknown name, or nothing that could be timed.
        Interrupted: by the keyboard.

    """
    place = choose_device(device)
    set_tf32(False)
    plan = _plan(request, place)
    done: list[Measurement] = []
    first = request.config(request.datasets[0], request.models[0])
    with denormals_flushed(), _threads(threads, first) as why, tempfile.TemporaryDirectory() as folder:
        environment = {**describe_machine(), "why_threads": why, **describe_conditions(place)}

        def record() -> dict[str, Any]:
            rows = [measurement.record() for measurement in done if measurement.raw_s or measurement.failure]
            return {"environment": environment, "samples": request.samples, "rows": _related(rows, request.samples)}

        on_start(len(request.datasets) * len(request.models) * _events(request, plan))
        try:
            for dataset in request.datasets:
                cells = _cells(request, dataset, place, Path(folder))
                _load_libraries(cells[0])
                for cell in cells:
                    on_step(f"{dataset}: exporting {cell.config.model.name}")
                    export_for(cell, [name for names in plan.values() for name in names])
                for task, names in plan.items():
                    group = [Measurement(competitor(cell, task, name)) for cell in cells for name in names]
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
    """Give the backends of every task, having looked up every name before anything is computed."""
    for kind, asked, known in (("task", request.tasks, TASKS), ("backend", request.backends, BACKENDS)):
        for name in asked:
            if name not in known:
                raise unknown_name(kind, name, known)
    for dataset in request.datasets:
        for model in request.models:
            request.config(dataset, model)
    plan = {task: backends_of(task, device, request.backends) for task in request.tasks}
    if not any(plan.values()):
        raise InputError(
            f"None of the backends {', '.join(request.backends)} does any of the tasks {', '.join(request.tasks)}.",
            "Leave --backend or --task out.",
        )
    return {task: names for task, names in plan.items() if names}


def _events(request: BenchRequest, plan: Mapping[str, Sequence[str]]) -> int:
    """Count what is reported of a data set and a model: the export, preparations and blocks."""
    return 1 + sum(len(names) * (1 + request.blocks(task)) for task, names in plan.items())


@contextmanager
def _threads(number: int | None, config: RunConfig) -> Iterator[str]:
    """Set the threads that were asked for, or those that a training would choose; give the reason."""
    before = torch.get_num_threads()
    why = "asked for"
    if number is None:
        number, _, why = choose_products(training_layer(config), "float32")
    torch.set_num_threads(number)
    try:
        yield why
    finally:
        torch.set_num_threads(before)


def _cells(request: BenchRequest, dataset: str, device: torch.device, folder: Path) -> list[Cell]:
    """Make the cells of a data set, which is read once."""
    data = load_run_data(request.config(dataset, request.models[0]))
    cells = []
    for model in request.models:
        config = settle(request.config(dataset, model), data)
        points = training_points(config, data)
        scaler = fit_scaler(config, data, points)
        cells.append(
            Cell(
                config=config,
                published=settle(request.config(dataset, model, "paper"), data),
                points=torch.from_numpy(scaler.transform(points)).float(),
                scaler=scaler,
                columns=data.columns,
                samples=request.samples,
                device=device,
                folder=folder,
            )
        )
    return cells


def _load_libraries(cell: Cell) -> None:
    """Take a step each way, so that no row's memory holds what the first one to come would load."""
    for name in ("published", "eager"):
        competitor(cell, "train", name).prepare().call(1)


def _words(doing: str, of: Measurement) -> str:
    labels = of.competitor.labels
    return f"{labels['dataset']}: {doing} {labels['task']}, {labels['model']}, {labels['backend']}"


def _interrupted(record: Mapping[str, Any], output: Path | None) -> Interrupted:
    problem = f"Interrupted; {len(record['rows'])} rows have times or a reason."
    if output is None:
        return Interrupted(problem, "With --output they would have been kept.")
    write_json(output, record)
    return Interrupted(problem, f"They are in {output}.")


def _seconds(row: Mapping[str, Any]) -> list[float]:
    """Give the seconds of the whole task by each block."""
    return [raw * row["whole"] / row["block"] for raw in row["raw_s"]]


def _related(rows: Sequence[dict[str, Any]], samples: int) -> list[dict[str, Any]]:
    """Put beside each row what it is to be compared with: the baseline, the published loop, and the paper."""
    by_key = {tuple(row[part] for part in KEY): row for row in rows if row["raw_s"]}
    paper = published("table2") | published("table1")
    related = []
    for row in rows:
        dataset, model, _, task, backend = key = tuple(row[part] for part in KEY)
        column = {"train": "train_time_s", "sample": "inference_time_s"}.get(task, "")
        units = {"train": row["whole"], "sample": samples, "latency": 1}[task]
        plainly = (dataset, model, "paper", task, "published")
        seconds = paper.get((dataset, model), {}).get(column)
        reference = paper.get((dataset, "baseline"), {}).get(column) if model != "baseline" else None
        related.append(
            row
            | {
                "per_second": units / row["median_s"] if row["median_s"] else None,
                "ratio_to_baseline": _ratio(by_key, key, (dataset, "baseline", *key[2:])),
                "ratio_to_published": _ratio(by_key, key, plainly) if backend != "published" else None,
                "paper_s": seconds,
                "paper_ratio_to_baseline": seconds / reference
                if seconds and reference and model != "baseline"
                else None,
            }
        )
    return related


def _ratio(by_key: Mapping[tuple[Any, ...], Mapping[str, Any]], key: Any, other: Any) -> dict[str, float] | None:
    """Give a row's time over another's, which took turns with it."""
    if key == other or key not in by_key or other not in by_key:
        return None
    a, b = _seconds(by_key[key]), _seconds(by_key[other])
    rounds = min(len(a), len(b))  # an interrupted round is not one of both
    return ratio_of_medians(a[:rounds], b[:rounds], paired=True)._asdict()


def compare(before: Path, after: Path) -> dict[str, Any]:
    """Set two records of `bench` side by side.

    Args:
        before, after: JSON files.

    Returns:
        ``rows``, matched by data set, model, recipe, task and backend, each with both medians and the ratio of after to
        before with its 95 % interval; and ``unmatched``, the rows that only one of them has, or has no times for.

    Raises:
        InputError: a file is no such record.

    """
    old, new = _by_key(read_benchmark(before)), _by_key(read_benchmark(after))
    both = [key for key in new if key in old]
    rows = []
    for key in both:
        a, b = old[key], new[key]
        rows.append(
            dict(zip(KEY, key, strict=True))
            | {"device_before": a["device"], "device_after": b["device"]}
            | {"before_s": a["median_s"], "after_s": b["median_s"]}
            | {"unstable": a["unstable"] or b["unstable"]}
            | {"ratio": ratio_of_medians(_seconds(b), _seconds(a))._asdict()}
        )
    unmatched = {"before": [list(key) for key in old if key not in new]}
    unmatched |= {"after": [list(key) for key in new if key not in old]}
    return {"before": str(before), "after": str(after), "rows": rows, "unmatched": unmatched}


def read_benchmark(path: Path) -> dict[str, Any]:
    """Read a record that `bench` kept.

    Raises:
        InputError: the file is not one.

    """
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _by_key(record), record["environment"]["versions"]
        return record
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a record of `dualdiff bench`.", "Name a file that its --output wrote."
        ) from error


def _by_key(record: Mapping[str, Any]) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {tuple(row[part] for part in KEY): row for row in record["rows"] if row["raw_s"]}
