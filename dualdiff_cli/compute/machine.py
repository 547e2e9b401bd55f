"""The machine that a figure was measured on: processor, versions, GPUs, and how busy the machine was."""

from __future__ import annotations

import platform
import warnings
from importlib import metadata
from typing import Any

import psutil
import torch

from .device import choose_device, cuda_version, gpu_facts, gpu_names
from .processor import processor_name

__all__ = ["describe_choice", "describe_conditions", "describe_machine"]


def describe_machine() -> dict[str, Any]:
    """Describe the machine in plain values: versions, processor, threads, GPUs."""
    names = ["dualdiff-cli", "torch", "numpy", "scipy", "scikit-learn", "polars", "onnx", *_onnxruntime_wheels()]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name() or platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": {name: _version(name) for name in names},
        "cuda": cuda_version(),
        "gpus": gpu_names(),
    }


def describe_conditions(device: torch.device) -> dict[str, Any]:
    """Describe the conditions of a timing in plain values: load, clocks, execution providers, the GPU's driver."""
    return {
        "device": str(device),
        "load_average": list(psutil.getloadavg()),
        "processor_mhz": _processor_mhz(),
        "providers": _execution_providers(),
        **(gpu_facts(device) if device.type == "cuda" else {}),
    }


def _processor_mhz() -> list[float] | None:
    """Give the present clock of every core in MHz; None on a system that does not tell."""
    tell = getattr(psutil, "cpu_freq", None)  # psutil has the function only on the systems that tell
    return [core.current for core in tell(percpu=True)] or None if tell else None


def _execution_providers() -> list[str]:
    """List what this ONNX Runtime can run on; the import takes a while, so only who asks for the list pays for it."""
    import onnxruntime

    providers: list[str] = onnxruntime.get_available_providers()
    return providers


def describe_choice() -> dict[str, Any]:
    """Say which device ``auto`` takes and why, and which execution providers ONNX Runtime has."""
    device = choose_device("auto")
    if device.type == "cuda":
        reason = "CUDA works"
    elif not cuda_version():
        reason = "this torch is built without CUDA"
    else:
        reason = "torch finds no usable NVIDIA GPU"
    wheels = _onnxruntime_wheels()
    if len(wheels) > 1:
        warnings.warn(
            f"{' and '.join(wheels)} are both installed and overwrite each other: uninstall both, then install one.",
            stacklevel=2,
        )
    return {"device": str(device), "reason": reason, "providers": _execution_providers()}


def _onnxruntime_wheels() -> list[str]:
    """List the installed wheels of ONNX Runtime: both install the same module, so only one of them may be installed."""
    return [name for name in ("onnxruntime", "onnxruntime-gpu") if _version(name)]


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
