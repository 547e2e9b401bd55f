"""An exported file, loaded back and used: all that is needed is in the file.

ONNX files run in ONNX Runtime, the other two in torch. What a file holds is read off its bytes, not off its name.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor
from torch.export.passes import move_to_device_pass

from ..compute.device import choose_device
from ..config.schema import RunConfig, SamplingConfig
from ..data import Column, Scaler
from ..diffusion.denoisers import Denoiser
from ..diffusion.samplers import BLOCK, build_sampler, generate, generate_by
from ..diffusion.schedules import Schedule, build_schedule
from ..errors import DeviceError, InputError
from . import METADATA_FILE
from .program import compile_sampler

__all__ = ["FORMAT_VERSION", "ExportedModel"]

FORMAT_VERSION = 1
"""Of the metadata that exported files carry."""

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

Call = Callable[[dict[str, Tensor]], Tensor]
"""Named inputs → the first output, on the CPU."""


@dataclass(frozen=True)
class ExportedModel:
    """A sampler or a denoiser in a file.

    Attributes:
        path: the file.
        metadata: what it says of itself.
        provider: what runs it: an ONNX Runtime execution provider, or torch and its device.
        call: the runtime.

    """

    path: Path
    metadata: dict[str, Any] = field(repr=False)
    provider: str
    call: Call = field(repr=False)

    @classmethod
    def open(cls, path: Path, *, device: str = "auto", io_binding: bool = True) -> ExportedModel:
        """Load a file.

        Args:
            path: the file.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
            io_binding: of ONNX files: tie inputs and outputs to the session, or hand them over call by call.

        Raises:
            InputError: the file is none that was exported here, or the runtime cannot run it.
            DeviceError: the device that was asked for by name is not there, or has no execution provider.

        """
        if not path.is_file():
            raise InputError(f"There is no file {path}.", "Name one that `dualdiff export` wrote.")
        members = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else None
        if members is None:
            metadata, provider, call = _open_onnx(path, device, io_binding)
        elif any(member.endswith("archive_format") for member in members):
            metadata, provider, call = _open_pt2(path, device)
        else:
            metadata, provider, call = _open_torchscript(path, device)
        if metadata.get("format_version") != FORMAT_VERSION:
            raise InputError(
                f"{path} does not say of itself what an exported file does, or in another version.",
                "Name a file that this version of `dualdiff export` wrote.",
            )
        return cls(path, metadata, provider, call)

    @property
    def what(self) -> str:
        """``sampler`` or ``denoiser``."""
        return str(self.metadata["what"])

    @property
    def config(self) -> RunConfig:
        """Of the run that the file came from."""
        return RunConfig.model_validate(self.metadata["config"])

    @property
    def columns(self) -> tuple[Column, ...]:
        """Names and kinds, d of them."""
        return tuple(Column(**column) for column in self.metadata["columns"])

    @property
    def sampling(self) -> SamplingConfig:
        """How the file's points are drawn; a denoiser's can be drawn in other ways too."""
        return SamplingConfig.model_validate(self.metadata["sampling"])

    def evaluations(self, sampling: SamplingConfig) -> int | None:
        """How often a point meets the network; None where the method finds out while it runs."""
        if self.what == "sampler":
            return int(self.metadata["network_evaluations"])
        try:
            return len(compile_sampler(build_sampler(sampling), build_schedule(self.config.schedule)).times)
        except InputError:
            return None

    def walk(self, noise: Tensor, step_noise: Tensor | None = None) -> Tensor:
        """Samples (n, d) in data units, float64, of a sampler's noise (n, d) and step noise (K, n, d)."""
        return self.call({"noise": noise} if step_noise is None else {"noise": noise, "step_noise": step_noise})

    def denoiser(self) -> Denoiser:
        """Give an exported denoiser the face of any other."""
        return _ExportedDenoiser(self.call, build_schedule(self.config.schedule))

    def sample(self, n: int, *, seed: int, sampling: SamplingConfig | None = None) -> Iterator[np.ndarray]:
        """Draw n points in data units, in chunks (c, d) float64: those that the run gives for the seed.

        Args:
            n: number of points.
            seed: of the noise.
            sampling: the method, for a denoiser; None takes the file's own.

        Raises:
            InputError: the file's sampler is another one.

        """
        sampling = sampling or self.sampling
        if self.what == "denoiser":
            scaler = Scaler.from_dict(self.metadata["scaler"])
            sampler, cpu = build_sampler(sampling), torch.device("cpu")
            chunks = generate(sampler, self.denoiser(), n, dim=len(self.columns), seed=seed, device=cpu)
            return map(scaler.inverse, chunks)
        if sampling != self.sampling:
            own = self.sampling
            raise InputError(
                f"{self.path} holds the sampler {own.sampler!r} with {own.steps} steps and no other.",
                "Export another one with --sampler and --sample-steps, or the denoiser with --what denoiser.",
            )
        per_call = BLOCK if self.provider in (CPU, "torch cpu") else 32 * BLOCK
        return generate_by(
            self.walk, n, dim=len(self.columns), draws=1 + self.metadata["step_draws"], seed=seed, per_call=per_call
        )


class _ExportedDenoiser(Denoiser):
    """A file's denoiser; float32 inside, as the network is."""

    def __init__(self, call: Call, schedule: Schedule) -> None:
        super().__init__()
        self.call = call
        self.schedule = schedule

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x | x_t] at one time for all points, shape ()."""
        return self.call({"x_t": x_t.float(), "t": t.double()}).to(x_t.dtype)


def _open_onnx(path: Path, device: str, io_binding: bool) -> tuple[dict[str, Any], str, Call]:
    session, place = _session(path, device)
    try:
        metadata = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    except ValueError:  # some other program's words
        metadata = {}
    first = session.get_outputs()[0].name

    def plainly(inputs: dict[str, Tensor]) -> Tensor:
        return torch.from_numpy(session.run([first], {name: value.numpy() for name, value in inputs.items()})[0])

    where = (place.type, place.index or 0)

    def bound(inputs: dict[str, Tensor]) -> Tensor:
        """Put inputs where they are read, once, and fetch the first output: nothing else crosses over."""
        binding = session.io_binding()
        for name, value in inputs.items():
            array = np.ascontiguousarray(value.numpy())
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array, *where))
        binding.bind_output(first, *where)
        session.run_with_iobinding(binding)
        return torch.from_numpy(binding.copy_outputs_to_cpu()[0])

    return metadata, CUDA if place.type == "cuda" else CPU, bound if io_binding else plainly


def _session(path: Path, device: str) -> tuple[Any, torch.device]:
    """Load a file into ONNX Runtime; a provider that was asked for by name is what runs, or there is no session."""
    kind, _, index = device.partition(":")
    # `auto` is what torch finds; a request by name is ONNX Runtime's to answer, whose CUDA need not be torch's.
    by_name = kind == "cuda" and (index.isdecimal() or not index)
    wanted = torch.device(device) if by_name else choose_device(device)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    onnxruntime.set_default_logger_severity(4)  # what fails is said below, in a sentence

    def load(*providers: Any) -> Any:
        # its own way of falling back prints to standard output and changes the provider in the middle of a run
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers), enable_fallback=0)

    reason = "" if CUDA in onnxruntime.get_available_providers() else "it is not installed"
    try:
        if wanted.type != "cuda":
            return load(CPU), wanted
        try:
            session = load((CUDA, {"device_id": wanted.index or 0, "use_tf32": 0}), CPU)
            reason = reason or _not_on_cuda(session)
            if not reason:
                return session, wanted
        except (RuntimeError, ValueError) as error:
            reason, session = reason or _first_line(error), load(CPU)
    except Exception as error:  # onnxruntime's own are of no common kind
        raise InputError(
            f"ONNX Runtime cannot run {path}: {_first_line(error)}.", "Export it again, or in another format."
        ) from error
    problem = f"ONNX Runtime has no CUDA provider here: {reason}."
    if device != "auto":
        raise DeviceError(problem, "Use --device cpu, or install onnxruntime-gpu with the CUDA version that it needs.")
    warnings.warn(f"{problem} Running on the CPU.", stacklevel=2)
    return session, torch.device("cpu")


def _not_on_cuda(session: Any) -> str:
    """Say why a session's products are not CUDA's, or nothing: a provider in the list need not have a single node."""
    if session.get_providers()[0] != CUDA:
        return "its libraries do not load"
    tell = getattr(session, "get_provider_graph_assignment_info", None)  # newer than the oldest that will do
    elsewhere = {n.op_type for part in (tell() if tell else ()) if part.ep_name == CPU for n in part.get_nodes()}
    products = sorted(elsewhere & {"Scan", "Loop", "MatMul", "Gemm"})
    return f"it leaves {' and '.join(products)} of this file to the CPU" if products else ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rsplit(" : ", 1)[-1].rstrip(".")


def _open_torchscript(path: Path, device: str) -> tuple[dict[str, Any], str, Call]:
    place = choose_device(device)
    extra = {METADATA_FILE: ""}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`torch\.jit\.load` is deprecated", DeprecationWarning)
            module = torch.jit.load(str(path), map_location=place, _extra_files=extra)  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise _unreadable(path) from error
    return json.loads(extra[METADATA_FILE] or "{}"), f"torch {place}", _in_torch(module, place)


def _open_pt2(path: Path, device: str) -> tuple[dict[str, Any], str, Call]:
    place = choose_device(device)
    extra = {METADATA_FILE: ""}
    try:
        program = torch.export.load(str(path), extra_files=extra)
    except Exception as error:  # whatever the damaged bytes happen to spell
        raise _unreadable(path) from error
    if place.type != "cpu":
        program = move_to_device_pass(program, place)
    return json.loads(extra[METADATA_FILE] or "{}"), f"torch {place}", _in_torch(program.module(), place)


def _unreadable(path: Path) -> InputError:
    return InputError(f"{path} cannot be read as an exported file.", "Export it again.")


def _in_torch(module: Any, place: torch.device) -> Call:
    @torch.no_grad()
    def call(inputs: dict[str, Tensor]) -> Tensor:
        outputs = module(*(value.to(place) for value in inputs.values()))
        first: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
        return first.cpu()

    return call
