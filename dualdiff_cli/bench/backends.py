"""The backends that `bench` times. A new backend is one line in `BACKENDS`, and the functions that the line names.

The functions of a backend prepare a training, or the drawing of samples, and return a function that does a number of
units of the task. All backends do the same arithmetic: matrix products are in float32 without TF32, unless the
configuration names a precision.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..compute.device import GraphedCall, capture
from ..compute.execution import PLAIN, Execution, Precision
from ..config.schema import DiffusionConfig
from ..diffusion.networks.experts import count_parameters
from ..diffusion.samplers import build_sampler, generate_by, points_per_call
from ..errors import DeviceError
from ..exporting.formats import FORMATS, convert
from ..exporting.metadata import describe_export
from ..exporting.modules import ExportedSampler
from ..exporting.program import compile_sampler
from ..exporting.runtime import ExportedModel
from ..models.fitting import build_network_denoiser
from ..training.loop import Trainer
from .clock import Competitor, Prepared, TimedCall
from .published import published_parts, published_sampling, published_training
from .subject import Subject

__all__ = ["BACKENDS", "Backend", "backends_of", "competitor", "export_for"]

ENDLESS = 10**9
"""Number of steps of a training that is stopped earlier."""
COMPILED = Execution(compiled=True, required=True)
GRAPHED = Execution(compiled=True, graphed=True, required=True)


@dataclass(frozen=True)
class Backend:
    """One way to train and to sample.

    Attributes:
        train: prepares the training of a subject, whose unit is one step; None if the backend cannot train.
        draw: prepares the drawing of n points of a subject.
        execution: decides how many points a sampler is called with at once.
        published: whether the backend runs the paper's recipe. Its unit of sampling is then a step of all points, and
            otherwise a point.
        runtime: "torch", or the execution provider of ONNX Runtime that runs the backend.
        needs_cuda: whether the backend needs a GPU.
        export: writes the file that the backend runs, if there is none yet; None if the backend runs no file.

    """

    train: Callable[[Subject], TimedCall] | None
    draw: Callable[[Subject, int], Prepared]
    execution: Execution = PLAIN
    published: bool = False
    runtime: str = "torch"
    needs_cuda: bool = False
    export: Callable[[Subject], object] | None = None

    def config(self, subject: Subject) -> DiffusionConfig:
        """Give the configuration that the backend runs."""
        return subject.published if self.published else subject.config

    def place(self, subject: Subject) -> str:
        """Name the device that the backend runs on."""
        return _place(self.runtime, subject)

    def units(self, subject: Subject, n: int) -> int:
        """Give the number of units in the drawing of n points."""
        return subject.published.schedule.length if self.published else n


def _place(runtime: str, subject: Subject) -> str:
    if runtime == "CPUExecutionProvider":
        return "cpu"
    return "cuda" if runtime == "CUDAExecutionProvider" and subject.device.type == "cpu" else str(subject.device)


def _train_published(subject: Subject) -> TimedCall:
    config = subject.published
    losses = published_training(
        subject.denoiser(config),
        subject.points,
        objective=config.objective,
        config=config.training,
        seed=config.seed,
        device=subject.device,
    )
    next(losses)  # the first step also creates the optimiser's state
    return lambda steps: _advance(losses, steps)


def _draw_published(subject: Subject, n: int) -> Prepared:
    denoiser, dim = subject.denoiser(subject.published).requires_grad_(False).eval(), subject.encoding.width
    network, table = published_parts(denoiser, subject.device)

    def walk(steps: int) -> None:
        _advance(published_sampling(network, table, n, dim=dim, seed=0, device=subject.device), steps)

    return Prepared(walk)


def _train(execution: Execution, subject: Subject) -> TimedCall:
    """Prepare our own training; a step includes everything that a training does at a step."""
    if execution.graphed:
        _require_cuda(subject)
    c = subject.config.training
    precision: Precision = "float32" if c.precision == "auto" else c.precision
    trainer = Trainer(
        subject.denoiser(),
        subject.points.to(subject.device),
        objective=subject.config.objective,
        training=c.model_copy(update={"steps": ENDLESS}),
        seed=subject.config.seed,
        execution=replace(execution, threads=torch.get_num_threads(), precision=precision, required=True),
    )

    def train(steps: int) -> None:
        last = trainer.step + steps
        _advance(trainer.run(lambda: trainer.step >= last))

    train(GraphedCall.WARM_UP + 1 if execution.graphed else 1)
    return train


def _draw(execution: Execution, subject: Subject, n: int) -> Prepared:
    """Prepare our own sampling; the points arrive in data units on the CPU."""
    process = subject.model().reverse_process(execution=replace(execution, threads=torch.get_num_threads()))
    draw = _drawing(lambda n, seed: process.draw(n, seed=seed).chunks)
    if execution.compiled:
        draw(n)  # the denoiser is compiled for exactly this number of points
    return Prepared(draw)


def _draw_by_graph(subject: Subject, n: int) -> Prepared:
    """Prepare our own sampling, not compiled, with the sampler's whole walk captured as one CUDA graph."""
    _require_cuda(subject)
    model, sampler = subject.model(), build_sampler(subject.config.sampling)
    dim, draws = subject.encoding.width, sampler.draws
    per_call = points_per_call(subject.device, n)
    noise = torch.zeros(draws, min(n, per_call), dim, device=subject.device)
    end = torch.zeros_like(noise[0], dtype=torch.float64)
    step_noise = noise[1:] if draws > 1 else None
    graph = capture(lambda: end.copy_(sampler(model.denoiser, noise[0], step_noise)), subject.device)

    def walk(start: Tensor, fresh: Tensor | None) -> Tensor:
        noise[0, : len(start)].copy_(start)
        if fresh is not None:
            noise[1:, : len(start)].copy_(fresh)
        graph()
        return end[: len(start)].cpu()

    def sample(n: int, *, seed: int) -> Iterator[Any]:
        features = generate_by(walk, n, dim=dim, draws=draws, seed=seed, per_call=per_call)
        return map(subject.encoding.decode, features)

    return Prepared(_drawing(sample))


def _require_cuda(subject: Subject) -> None:
    if subject.device.type != "cuda":
        raise DeviceError("A CUDA graph needs --device cuda.", "Leave the backend out.")


def _export(format: str, subject: Subject) -> Path:
    """Export the subject's sampler once for all backends that run the format, and give the file."""
    config = subject.config
    path = subject.folder / f"{config.dataset.replace('/', '-')}-{config.model.name}{FORMATS[format]}"
    if not path.exists():
        encoding = subject.encoding
        denoiser = build_network_denoiser(config, encoding.width, encoding.layout.discrete).requires_grad_(False).eval()
        program = compile_sampler(build_sampler(config.sampling), denoiser.schedule)
        module = ExportedSampler(program, denoiser, encoding)
        metadata = describe_export(module, program, config=config, encoding=encoding, sampling=config.sampling)
        convert(module, to=format).save(path, metadata)
    return path


def _exported(format: str, runtime: str = "torch") -> Backend:
    """Make the backend that runs an exported file.

    Args:
        format: the file's format.
        runtime: see `Backend`.

    """

    def draw(subject: Subject, n: int) -> Prepared:
        file, device = _export(format, subject), _place(runtime, subject)
        exported = ExportedModel.open(file, device=device, trust=True)
        return Prepared(_drawing(lambda n, seed: exported.draw(n, seed=seed).chunks), {"provider": exported.provider})

    needs_cuda, export = runtime == "CUDAExecutionProvider", partial(_export, format)
    return Backend(None, draw, runtime=runtime, needs_cuda=needs_cuda, export=export)


BACKENDS: dict[str, Backend] = {
    "published": Backend(_train_published, _draw_published, published=True),
    "eager": Backend(partial(_train, PLAIN), partial(_draw, PLAIN)),
    "compiled": Backend(partial(_train, COMPILED), partial(_draw, COMPILED), COMPILED),
    "cuda-graph": Backend(partial(_train, GRAPHED), _draw_by_graph, needs_cuda=True),
    "torchscript": _exported("torchscript"),
    "pt2": _exported("pt2"),
    "onnx-cpu": _exported("onnx", "CPUExecutionProvider"),
    "onnx-cuda": _exported("onnx", "CUDAExecutionProvider"),
}
"""The registry. A backend is timed, listed and shown because the backend has a line here; tables keep the order."""


def backends_of(task: str, device: torch.device, asked: Sequence[str] = ()) -> list[str]:
    """Name the backends that can do the task: among those asked for, or by default those that suit the device."""
    names = asked or [name for name, backend in BACKENDS.items() if device.type == "cuda" or not backend.needs_cuda]
    return [name for name in names if task != "train" or BACKENDS[name].train is not None]


def export_for(subject: Subject, names: Sequence[str]) -> None:
    """Write the files that backends run before anything is timed, so that no preparation includes an export.

    An export that fails is tried again when its backend is prepared, and fails there with its reason.
    """
    for backend in (BACKENDS[name] for name in names):
        if backend.export is not None:
            with suppress(Exception):
                backend.export(subject)


def competitor(subject: Subject, task: str, name: str) -> Competitor:
    """Make the competitor that does a task on a subject by the backend of that name."""
    backend = BACKENDS[name]
    config, place = backend.config(subject), backend.place(subject)
    provider = f"torch {place}" if backend.runtime == "torch" else backend.runtime
    unit, whole, quantum = "calls", 1, 1
    if task == "train":
        unit, whole = "steps", config.training.steps
    elif task == "sample":
        unit, whole = "steps of all points" if backend.published else "points", backend.units(subject, subject.samples)
        quantum = 1 if backend.published else points_per_call(torch.device(place), subject.samples, backend.execution)
    labels = {
        "dataset": config.dataset,
        "model": config.model.name,
        "recipe": config.recipe,
        "task": task,
        "backend": name,
        "device": place,
        "requested_provider": provider,
        "provider": None,
        "parameters": count_parameters(subject.denoiser(config).network),
        "unit": unit,
    }

    def prepare() -> Prepared:
        if task == "train":
            assert backend.train is not None, "backends_of leaves out backends that cannot train"
            return Prepared(backend.train(subject), {"provider": provider})
        call, facts = backend.draw(subject, subject.samples if task == "sample" else 1)
        one_point = backend.units(subject, 1)
        return Prepared(call if task == "sample" else lambda calls: call(one_point), {"provider": provider, **facts})

    # torch's allocator sees neither ONNX Runtime's memory on a GPU nor the memory inside a CUDA graph
    memory_on = None if backend.needs_cuda else torch.device(place)
    return Competitor(labels, prepare, whole=whole, quantum=quantum, memory_on=memory_on)


def _drawing(sample: Callable[..., Iterator[Any]]) -> TimedCall:
    return lambda points: _advance(sample(points, seed=0))


def _advance(iterator: Iterator[Any], steps: int | None = None) -> None:
    """Take that many items, or all of them, and keep none."""
    deque(itertools.islice(iterator, steps), maxlen=0)
