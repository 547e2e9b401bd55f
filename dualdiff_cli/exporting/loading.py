"""An exported file, loaded into the runtime of its format: a function from inputs to outputs, and the file's metadata.

ONNX files run in ONNX Runtime, the other two formats in torch. The format is recognised by the bytes of a file, not by
its name.

An ONNX file is a graph of operators. A TorchScript or a pt2 file is a program: whoever loads the file runs what its
author wrote. Such a file is therefore loaded only if the caller says that the author is trusted.
"""

from __future__ import annotations

import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor
from torch.export.passes import move_to_device_pass

from ..checked import refusing
from ..compute.device import choose_device
from ..errors import DeviceError, InputError
from .metadata import METADATA_FILE, not_ours, parse_extra_file, parse_properties

__all__ = ["CPU", "Runtime", "cannot_run", "open_file"]

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

Runtime = Callable[[dict[str, Tensor], Sequence[str]], list[Tensor]]
"""(inputs by name, names of outputs) → these outputs, of one call, on the CPU."""


def open_file(path: Path, *, device: str, trust: bool) -> tuple[dict[str, Any], str, Runtime]:
    """Load a file of any format.

    Args:
        path, device, trust: see `ExportedModel.open`.

    Returns:
        The metadata, which are not checked yet; what runs the file; and the function.

    Raises:
        InputError, DeviceError: see `ExportedModel.open`.

    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.", "Name one that `dualdiff export` wrote.")
    with refusing(*_unreadable(path)):
        members = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else None
    if members is None:
        metadata, provider, run = _open_onnx(path, device)
        return metadata, provider, _guarded(path, run)
    is_pt2 = any(member.endswith("archive_format") for member in members)
    if not trust:
        raise InputError(
            f"{path} is a {'pt2' if is_pt2 else 'TorchScript'} file, which can hold any program and would run it.",
            "Add --trust if you or somebody you trust exported it; an ONNX file needs no trust.",
        )
    metadata, provider, run = (_open_pt2 if is_pt2 else _open_torchscript)(path, device)
    return metadata, provider, _guarded(path, run)


def _open_onnx(path: Path, device: str) -> tuple[dict[str, Any], str, Runtime]:
    session, place = _session(path, device)
    with refusing(*not_ours(path)):
        metadata = parse_properties(session.get_modelmeta().custom_metadata_map)

    def run(inputs: dict[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        values = session.run(list(outputs), {name: value.numpy() for name, value in inputs.items()})
        return [torch.from_numpy(value) for value in values]

    return metadata, CUDA if place.type == "cuda" else CPU, run


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
        if wanted.type == "cuda" and not reason:
            try:
                session = load((CUDA, {"device_id": wanted.index or 0, "use_tf32": 0}), CPU)
                reason = _not_on_cuda(session)
                if not reason:
                    return session, wanted
            except (RuntimeError, ValueError) as error:
                reason = _first_line(error)
        session = load(CPU)
        if wanted.type != "cuda":
            return session, wanted
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
    with refusing(*_unreadable(path)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.load` is deprecated", DeprecationWarning)
        module = torch.jit.load(str(path), map_location=place, _extra_files=extra)  # type: ignore[no-untyped-call]
    metadata = parse_extra_file(path, extra[METADATA_FILE])
    return metadata, f"torch {place}", _in_torch(module, place, metadata)


def _open_pt2(path: Path, device: str) -> tuple[dict[str, Any], str, Runtime]:
    place = choose_device(device)
    extra = {METADATA_FILE: ""}
    with refusing(*_unreadable(path)), _nothing_logged():
        program = torch.export.load(str(path), extra_files=extra)
    if place.type != "cpu":
        program = move_to_device_pass(program, place)
    metadata = parse_extra_file(path, extra[METADATA_FILE])
    return metadata, f"torch {place}", _in_torch(program.module(), place, metadata)


@contextmanager
def _nothing_logged() -> Iterator[None]:
    """Leave out what torch logs about a file that it cannot load; the failure is said in a sentence."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _unreadable(path: Path) -> tuple[str, str]:
    return f"{path} cannot be read as an exported file.", "Export it again."


def cannot_run(path: Path) -> InputError:
    """Say that a file computes something else than what its metadata say, or nothing."""
    return InputError(f"{path} cannot be run: it is damaged, or no file of `dualdiff export`.", "Export it again.")


def _guarded(path: Path, run: Runtime) -> Runtime:
    """Turn every failure of a file that runs into an error that names the file."""
    error = cannot_run(path)

    def guarded(inputs: dict[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        with refusing(error.problem, error.remedy):
            return run(inputs, outputs)

    return guarded


def _in_torch(module: Any, place: torch.device, metadata: dict[str, Any]) -> Runtime:
    @torch.no_grad()
    def run(inputs: dict[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        names: list[str] = metadata["outputs"]  # which have been checked by now
        values = module(*(value.to(place) for value in inputs.values()))
        values = values if isinstance(values, tuple) else (values,)
        return [values[names.index(name)].cpu() for name in outputs]

    return run
