"""An exported file, loaded back and used: everything that is needed is in the file.

ONNX files run in ONNX Runtime, the other two formats in torch. The format is recognised by the bytes of a file, not by
its name.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import torch
from torch import Tensor
from torch.export.passes import move_to_device_pass

from ..compute.device import choose_device
from ..config.recipes import with_sampling
from ..config.schema import DiffusionConfig, parse_config
from ..config.sections import SamplingConfig
from ..data import TableEncoding
from ..diffusion.denoisers import Denoiser
from ..diffusion.samplers import BLOCK, Reach, Redrawing, build_sampler, generate, generate_by
from ..diffusion.schedules import Schedule, build_schedule
from ..errors import DeviceError, InputError
from ..models import Drawing, DrawingOptions, Model
from . import METADATA_FILE
from .program import compile_sampler

__all__ = ["FORMAT_VERSION", "ExportedModel"]

FORMAT_VERSION = 2
"""Of the metadata that exported files carry."""

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

Runtime = Callable[[dict[str, Tensor], Sequence[str]], list[Tensor]]
"""(inputs by name, names of outputs) → these outputs, of one call, on the CPU."""


@dataclass(frozen=True)
class ExportedModel(Model):
    """A sampler or a denoiser in a file: a model that needs nothing but the file.

    Attributes:
        path: the file.
        metadata: what the file says about itself.
        provider: what runs the file: an ONNX Runtime execution provider, or torch and its device.
        run: the runtime.
        config: of the run that the file came from.
        encoding: between columns and features.

    """

    path: Path
    metadata: dict[str, Any] = field(repr=False)
    provider: str
    run: Runtime = field(repr=False)
    config: DiffusionConfig = field(repr=False)
    encoding: TableEncoding = field(repr=False)

    @classmethod
    def open(cls, path: str | Path, *, device: str = "auto", io_binding: bool = True) -> ExportedModel:
        """Load a file.

        Args:
            path: the file.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
            io_binding: for ONNX files, whether inputs and outputs are bound to the session's device, or passed with
                every call.

        Raises:
            InputError: the file was not exported by this program, or the runtime cannot run it.
            DeviceError: the device that was asked for by name is not there, or has no execution provider.

        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"There is no file {path}.", "Name one that `dualdiff export` wrote.")
        members = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else None
        if members is None:
            metadata, provider, run = _open_onnx(path, device, io_binding)
        elif any(member.endswith("archive_format") for member in members):
            metadata, provider, run = _open_pt2(path, device)
        else:
            metadata, provider, run = _open_torchscript(path, device)
        try:
            if metadata["format_version"] != FORMAT_VERSION:
                raise ValueError("another version")
            config = parse_config(metadata["config"])
            encoding = TableEncoding.model_validate(metadata["encoding"])
            assert isinstance(config, DiffusionConfig)
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} does not say what it holds, or was exported by another version of dualdiff.",
                "Name a file that this version of `dualdiff export` wrote.",
            ) from error
        return cls(path, metadata, provider, run, config, encoding)

    @property
    def what(self) -> str:
        """``sampler`` or ``denoiser``."""
        return str(self.metadata["what"])

    @property
    def sampling(self) -> SamplingConfig:
        """How rows are drawn with the file; a denoiser can be sampled in other ways too."""
        return SamplingConfig.model_validate(self.metadata["sampling"])

    def evaluations(self, sampling: SamplingConfig) -> int | None:
        """Give the number of evaluations that a row takes; None where the sampler chooses it while it runs."""
        if self.what == "sampler":
            return int(self.metadata["network_evaluations"])
        try:
            return len(compile_sampler(build_sampler(sampling), build_schedule(self.config.schedule)).times)
        except InputError:
            return None

    def walk(self, noise: Tensor, step_noise: Tensor | None = None, *, output: str = "samples") -> Tensor:
        """Turn a sampler's noise (n, width) and step noise (K, n, width) into one output; see `outputs`."""
        return self.run(_inputs(noise, step_noise), [output])[0]

    def outputs(self, noise: Tensor, step_noise: Tensor | None = None) -> dict[str, Tensor]:
        """Give all outputs of a sampler, by name.

        Returns:
            ``samples`` (n, columns) float64, the columns of a file (n,) each in its own type, and ``features``
            (n, width) float64, from which the file decoded all of these.

        """
        names = list(self.metadata["outputs"])
        return dict(zip(names, self.run(_inputs(noise, step_noise), names), strict=True))

    def denoiser(self) -> Denoiser:
        """Give an exported denoiser the face of any other."""
        return _FileDenoiser(self.run, build_schedule(self.config.schedule))

    def draw(self, n: int, *, seed: int, options: DrawingOptions = DrawingOptions()) -> Drawing:
        """Draw n rows: those that the run gives for the seed, within the file's tolerance; see `Model.draw`."""
        options.refuse(f"the exported file {self.path}", sampler=False)
        own = self.sampling
        sampling = with_sampling(own, sampler=options.sampler, steps=options.steps)
        facts = {
            "from": str(self.path),
            "sampler": sampling.sampler,
            "sample_steps": sampling.steps,
            "provider": self.provider,
            "network_evaluations": self.evaluations(sampling),
        }
        width = self.encoding.width
        if self.what == "denoiser":
            sampler, cpu = build_sampler(sampling), torch.device("cpu")
            redrawing = Redrawing(self.reach)
            features = generate(sampler, self.denoiser(), n, dim=width, seed=seed, device=cpu, redrawing=redrawing)
            return Drawing(_counted(map(self.encoding.decode, features), redrawing, facts), facts)
        if sampling != own:
            raise InputError(
                f"{self.path} holds the sampler {own.sampler!r} with {own.steps} steps and no other.",
                "Use `dualdiff export --sampler NAME --sample-steps N` for another file, or "
                "`dualdiff export --what denoiser` for a file that any sampler can use.",
            )
        per_call = BLOCK if self.provider in (CPU, "torch cpu") else 32 * BLOCK
        draws = 1 + self.metadata["step_draws"]
        redrawing = Redrawing(self.reach)
        walk = partial(self.walk, output="features")
        request: dict[str, Any] = {
            "dim": width,
            "draws": draws,
            "seed": seed,
            "per_call": per_call,
            "redrawing": redrawing,
        }
        features = generate_by(walk, n, **request)
        return Drawing(_counted(map(self.encoding.decode, features), redrawing, facts), facts)

    @property
    def reach(self) -> Reach | None:
        """How far a row may lie from the training rows."""
        return Reach.read(self.metadata["reach"])


def _counted(chunks: Iterator[pl.DataFrame], redrawing: Redrawing, facts: dict[str, Any]) -> Iterator[pl.DataFrame]:
    """Pass the rows on, and note at the end how many were drawn again."""
    yield from chunks
    facts["redrawn"] = redrawing.count


def _inputs(noise: Tensor, step_noise: Tensor | None) -> dict[str, Tensor]:
    return {"noise": noise} if step_noise is None else {"noise": noise, "step_noise": step_noise}


class _FileDenoiser(Denoiser):
    """The denoiser in a file, which computes in float32."""

    def __init__(self, run: Runtime, schedule: Schedule) -> None:
        super().__init__()
        self.run = run
        self.schedule = schedule

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x | x_t] at one time for all points, shape ()."""
        (denoised,) = self.run({"x_t": x_t.float(), "t": t.double()}, ["denoised"])
        return denoised.to(x_t.dtype)


def _open_onnx(path: Path, device: str, io_binding: bool) -> tuple[dict[str, Any], str, Runtime]:
    session, place = _session(path, device)
    try:
        metadata = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    except ValueError:  # some other program's words
        metadata = {}

    def plainly(inputs: dict[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        values = session.run(list(outputs), {name: value.numpy() for name, value in inputs.items()})
        return [torch.from_numpy(value) for value in values]

    where = (place.type, place.index or 0)

    def bound(inputs: dict[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Copy the inputs to the device and fetch the outputs; nothing else is copied."""
        binding = session.io_binding()
        for name, value in inputs.items():
            array = np.ascontiguousarray(value.numpy())
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array, *where))
        for name in outputs:
            binding.bind_output(name, *where)
        session.run_with_iobinding(binding)
        return [torch.from_numpy(value) for value in binding.copy_outputs_to_cpu()]

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


def _open_torchscript(path: Path, device: str) -> tuple[dict[str, Any], str, Runtime]:
    place = choose_device(device)
    extra = {METADATA_FILE: ""}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`torch\.jit\.load` is deprecated", DeprecationWarning)
            module = torch.jit.load(str(path), map_location=place, _extra_files=extra)  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise _unreadable(path) from error
    metadata = json.loads(extra[METADATA_FILE] or "{}")
    return metadata, f"torch {place}", _in_torch(module, place, metadata)


def _open_pt2(path: Path, device: str) -> tuple[dict[str, Any], str, Runtime]:
    place = choose_device(device)
    extra = {METADATA_FILE: ""}
    try:
        program = torch.export.load(str(path), extra_files=extra)
    except Exception as error:  # whatever the damaged bytes happen to spell
        raise _unreadable(path) from error
    if place.type != "cpu":
        program = move_to_device_pass(program, place)
    metadata = json.loads(extra[METADATA_FILE] or "{}")
    return metadata, f"torch {place}", _in_torch(program.module(), place, metadata)


def _unreadable(path: Path) -> InputError:
    return InputError(f"{path} cannot be read as an exported file.", "Export it again.")


def _in_torch(module: Any, place: torch.device, metadata: dict[str, Any]) -> Runtime:
    names = list(metadata.get("outputs", ()))

    @torch.no_grad()
    def run(inputs: dict[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        values = module(*(value.to(place) for value in inputs.values()))
        values = values if isinstance(values, tuple) else (values,)
        return [values[names.index(name)].cpu() for name in outputs]

    return run
