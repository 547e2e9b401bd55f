"""The ways of doing a task that `bench` times: how each is prepared, for one data set and one model.

Timing does not depend on the weights: the models are untrained, and only the steps that are timed train them. Products
are in float32, without TF32, unless the configuration names a precision: all backends do the same arithmetic. On a GPU
``compiled`` is without a graph; ``cuda-graph`` is the training compiled and captured, and of sampling the eager walk,
captured.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..compute.device import GraphedCall, capture
from ..compute.execution import PLAIN, Execution
from ..config.schema import RunConfig
from ..data import Column, Scaler
from ..diffusion.denoisers import NetworkDenoiser
from ..diffusion.networks.experts import count_parameters
from ..diffusion.samplers import build_sampler, generate_by, points_per_call
from ..errors import DeviceError
from ..exporting import FORMATS, ExportedSampler, convert
from ..exporting.program import compile_sampler
from ..exporting.runtime import FORMAT_VERSION, ExportedModel
from ..models.diffusion import TrainedModel, build_denoiser
from ..training.loop import Trainer
from .clock import Call, Competitor, Prepared
from .published import published_sampling, published_training

__all__ = ["BACKENDS", "TASKS", "Cell", "backends_of", "competitor", "export_for"]

TASKS = ("train", "sample", "latency")
"""All steps of a training; many points; one call for one point."""

TRAINING = ("published", "eager", "compiled", "cuda-graph")
EXPORTED: dict[str, str] = {
    "torchscript": "torchscript",
    "pt2": "pt2",
    "onnx-cpu": "onnx",
    "onnx-cuda": "onnx",
    "onnx-cuda-unbound": "onnx",
}
"""Backends that run a file, and its format; unbound leaves it to the call to bring inputs to the GPU."""
BACKENDS = (*TRAINING, *EXPORTED)
NEEDS_CUDA = ("cuda-graph", "onnx-cuda", "onnx-cuda-unbound")
ENDLESS = 10**9
"""Steps of a training that is stopped before."""
COMPILED = Execution(compiled=True, required=True)


def backends_of(task: str, device: torch.device, asked: Sequence[str] = ()) -> list[str]:
    """Those that were asked for and can do the task at all; by default those that mean something on the device."""
    names = asked or [name for name in BACKENDS if device.type == "cuda" or name not in NEEDS_CUDA]
    return [name for name in names if task != "train" or name in TRAINING]


@dataclass(frozen=True)
class Cell:
    """One data set and one model.

    Attributes:
        config: settled.
        published: the paper's recipe for the same, settled: what the published loops do.
        points: training points in the denoiser's units, (N, d), float32, on the CPU.
        scaler, columns: of the data.
        samples: points of the sampling task.
        device: where torch works.
        folder: where exported files go.

    """

    config: RunConfig
    published: RunConfig
    points: Tensor
    scaler: Scaler
    columns: tuple[Column, ...]
    samples: int
    device: torch.device
    folder: Path

    def denoiser(self, config: RunConfig | None = None) -> NetworkDenoiser:
        """Make an untrained one, on the device."""
        return build_denoiser(config or self.config, len(self.columns)).to(self.device)

    def model(self) -> TrainedModel:
        """Give an untrained one the face of a trained one."""
        denoiser = self.denoiser().requires_grad_(False).eval()
        return TrainedModel(self.config, denoiser, self.scaler, self.columns, self.device)

    def file(self, format: str) -> Path:
        """Export the sampler, once for all backends that run it."""
        path = self.folder / f"{self.config.dataset.replace('/', '-')}-{self.config.model.name}{FORMATS[format]}"
        if not path.exists():
            denoiser = build_denoiser(self.config, len(self.columns)).requires_grad_(False).eval()
            program = compile_sampler(build_sampler(self.config.sampling), denoiser.schedule)
            metadata = {
                "format_version": FORMAT_VERSION,
                "what": "sampler",
                "sampling": self.config.sampling.model_dump(mode="json"),
                "columns": [{"name": column.name, "kind": column.kind} for column in self.columns],
                "step_draws": program.step_draws,
            }
            convert(ExportedSampler(program, denoiser, self.scaler), to=format).save(path, metadata)
        return path


def export_for(cell: Cell, backends: Sequence[str]) -> None:
    """Write the files that backends run, ahead of their preparation, whose time should not hold the export's.

    Whoever needs a file that cannot be had fails on asking for it.
    """
    for format in {EXPORTED[backend] for backend in backends if backend in EXPORTED}:
        with suppress(Exception):
            cell.file(format)


def competitor(cell: Cell, task: str, backend: str) -> Competitor:
    """Make what is timed of a cell in one way."""
    published, sampling = backend == "published", task == "sample"
    config = cell.published if published else cell.config
    place = str(cell.device)
    if backend == "onnx-cpu":
        place = "cpu"
    elif backend.startswith("onnx-cuda") and cell.device.type == "cpu":
        place = "cuda"
    labels = {
        "dataset": config.dataset,
        "model": config.model.name,
        "recipe": config.recipe,
        "task": task,
        "backend": backend,
        "device": place,
        "requested_provider": _provider(backend, place),
        "provider": None,
        "parameters": count_parameters(cell.denoiser(config).network),
    }

    def prepare() -> Prepared:
        if backend == "cuda-graph" and cell.device.type != "cuda":
            raise DeviceError("A CUDA graph needs --device cuda.", "Leave the backend out.")
        if task == "train":
            return Prepared(_training(cell, backend), {"provider": labels["requested_provider"]})
        n = cell.samples if sampling else 1
        if published:
            return Prepared(_published_sampling(cell, n, by_step=sampling), {"provider": labels["requested_provider"]})
        if backend in EXPORTED:
            bound = not backend.endswith("unbound")
            exported = ExportedModel.open(cell.file(EXPORTED[backend]), device=place, io_binding=bound)
            return Prepared(_drawing(exported.sample), {"provider": exported.provider})
        return Prepared(_sampling(cell, backend, n), {"provider": labels["requested_provider"]})

    # torch's allocator sees neither ONNX Runtime's memory on a GPU nor the inside of a graph's pool
    memory_on = None if backend in NEEDS_CUDA else torch.device(place)
    unit, whole, quantum = "calls", 1, 1
    if task == "train":
        unit, whole = "steps", config.training.steps
    elif sampling and published:
        unit, whole = "steps of all points", config.schedule.length
    elif sampling:
        unit, whole = "points", cell.samples
        how = COMPILED if backend == "compiled" else PLAIN
        quantum = points_per_call(torch.device(place), cell.samples, how)
    return Competitor({**labels, "unit": unit}, prepare, whole=whole, quantum=quantum, memory_on=memory_on)


def _provider(backend: str, place: str) -> str:
    if not backend.startswith("onnx"):
        return f"torch {place}"
    return "CPUExecutionProvider" if place == "cpu" else "CUDAExecutionProvider"


def _training(cell: Cell, backend: str) -> Call:
    """One unit is one step, with all that a training does in it."""
    if backend == "published":
        config = cell.published
        losses = published_training(
            cell.denoiser(config),
            cell.points,
            objective=config.objective,
            config=config.training,
            seed=config.seed,
            device=cell.device,
        )
        next(losses)  # makes the optimiser's state, which is no step's own
        return lambda steps: _advance(losses, steps)
    c = cell.config.training
    execution = Execution(
        threads=torch.get_num_threads(),
        precision="float32" if c.precision == "auto" else c.precision,
        compiled=backend != "eager",
        graphed=backend == "cuda-graph",
        required=True,
    )
    trainer = Trainer(
        cell.denoiser(),
        cell.points.to(cell.device),
        objective=cell.config.objective,
        config=c.model_copy(update={"steps": ENDLESS}),
        seed=cell.config.seed,
        execution=execution,
    )

    def train(steps: int) -> None:
        last = trainer.step + steps
        for _ in trainer.run(lambda: trainer.step >= last):
            pass

    train(GraphedCall.WARM_UP + 1 if backend == "cuda-graph" else 1)
    return train


def _published_sampling(cell: Cell, n: int, *, by_step: bool) -> Call:
    """One unit is one step of n points, or all steps of them."""
    config = cell.published
    denoiser = cell.denoiser(config).requires_grad_(False).eval()

    def draw(units: int) -> None:
        steps = units if by_step else config.schedule.length
        _advance(published_sampling(denoiser, n, dim=len(cell.columns), seed=0, device=cell.device), steps)

    return draw


def _sampling(cell: Cell, backend: str, n: int) -> Call:
    """One unit is one point, in data units on the CPU."""
    model = cell.model()
    if backend == "eager":
        return _drawing(model.sample)
    if backend == "compiled":
        draw = _drawing(model.carried_out(COMPILED).sample)
        draw(n)  # compiled for just so many points
        return draw
    sampler = build_sampler(cell.config.sampling)
    dim, draws = len(cell.columns), sampler.draws
    per_call = points_per_call(cell.device, n)
    noise = torch.zeros(draws, min(n, per_call), dim, device=cell.device)
    end = torch.zeros_like(noise[0], dtype=torch.float64)
    graph = capture(lambda: end.copy_(sampler(model.denoiser, noise[0], noise[1:] if draws > 1 else None)), cell.device)

    def walk(start: Tensor, step_noise: Tensor | None) -> Tensor:
        noise[0, : len(start)].copy_(start)
        if step_noise is not None:
            noise[1:, : len(start)].copy_(step_noise)
        graph()
        return end[: len(start)].cpu()

    def sample(n: int, *, seed: int) -> Iterator[Any]:
        chunks = generate_by(walk, n, dim=dim, draws=draws, seed=seed, per_call=per_call)
        return map(cell.scaler.inverse, chunks)

    return _drawing(sample)


def _drawing(sample: Callable[..., Iterator[Any]]) -> Call:
    return lambda points: _advance(sample(points, seed=0), None)


def _advance(iterator: Iterator[Any], steps: int | None) -> None:
    """Take so many items, or all, and keep none."""
    deque(itertools.islice(iterator, steps), maxlen=0)
