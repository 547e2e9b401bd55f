"""Draw points from a trained run into a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..compute.device import choose_device, peak_memory_bytes
from ..compute.execution import AnyPrecision, Switch
from ..config.recipes import with_sampling
from ..data import write_chunks
from ..diffusion.samplers import build_sampler, points_per_call
from ..exporting.runtime import ExportedModel
from ..models.diffusion import TrainedModel
from ..store.run import Run

__all__ = ["sample", "sample_exported"]


def sample(
    run: Run,
    *,
    n: int,
    output: str | None = None,
    sampler: str | None = None,
    sample_steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: AnyPrecision = "float32",
    compile: Switch = "auto",
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Draw n points and stream them to a file, in memory that n does not change.

    Args:
        run: a finished one.
        n: number of points.
        output: a file whose suffix says the format, ``-`` for CSV on standard output, None for the run's folder.
        sampler, sample_steps: the method and its number of steps; None takes the run's own.
        seed: of the noise; the points depend on nothing else of the request.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
        precision: of the network's matrix products; ``auto`` takes bfloat16 where it is clearly faster.
        compile: ``on``, ``off``, or ``auto`` where there are enough points to repay it.
        on_progress: told how many points are drawn.

    Returns:
        The record of the ``sample`` command's contract.

    Raises:
        InputError: the run is not finished, or the output cannot be written.
        DeviceError: the device is not there.

    """
    model = TrainedModel.load(run, choose_device(device))
    sampling = with_sampling(model.config.sampling, sampler=sampler, steps=sample_steps)
    method = build_sampler(sampling)
    execution = model.choose_execution(n, sampling.steps, compile=compile, precision=precision)
    execution.apply()
    name = f"{sampling.sampler}-{sampling.steps}-n{n}-seed{seed}.csv"
    target = output or str(run.output_path("samples", name))

    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1

    started = time.perf_counter()
    chunks = model.carried_out(execution).sample(n, seed=seed, sampler=method, on_call=count)
    write_chunks(target, model.columns, _reported(chunks, on_progress))
    return {
        "run": str(run),
        "n": n,
        "columns": [column.name for column in model.columns],
        "sampler": sampling.sampler,
        "sample_steps": sampling.steps,
        "precision": execution.precision,
        "compiled": execution.compiled,
        "network_evaluations": round(calls / -(-n // points_per_call(model.device, n, execution))),
        "seed": seed,
        "seconds": time.perf_counter() - started,
        "peak_memory_bytes": peak_memory_bytes(),
        "output": target,
    }


def sample_exported(
    exported: ExportedModel,
    *,
    n: int,
    output: str | None = None,
    sampler: str | None = None,
    sample_steps: int | None = None,
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """As `sample`, from an exported file alone: the run's points for the seed, within the file's tolerance.

    Args:
        exported: the file.
        n, seed, on_progress: as in `sample`.
        output: as in `sample`; None names a file in the working directory.
        sampler, sample_steps: another method, for a denoiser.

    Raises:
        InputError: the file's sampler is another one, or the output cannot be written.

    """
    sampling = with_sampling(exported.sampling, sampler=sampler, steps=sample_steps)
    target = output or f"{exported.path.stem}-n{n}-seed{seed}.csv"
    started = time.perf_counter()
    chunks = exported.sample(n, seed=seed, sampling=sampling)
    write_chunks(target, exported.columns, _reported(chunks, on_progress))
    return {
        "run": None,
        "from": str(exported.path),
        "provider": exported.provider,
        "n": n,
        "columns": [column.name for column in exported.columns],
        "sampler": sampling.sampler,
        "sample_steps": sampling.steps,
        "network_evaluations": exported.evaluations(sampling),
        "seed": seed,
        "seconds": time.perf_counter() - started,
        "peak_memory_bytes": peak_memory_bytes(),
        "output": target,
    }


def _reported(chunks: Iterator[np.ndarray], on_progress: Callable[[int], None]) -> Iterator[np.ndarray]:
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        on_progress(done)
