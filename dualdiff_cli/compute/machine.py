"""What a figure was measured with: processor, versions, GPUs, how busy the machine was."""

from __future__ import annotations

import os
import platform
import warnings
from importlib import metadata
from typing import Any

import torch

from .device import choose_device, cuda_version, gpu_facts, gpu_names

__all__ = ["describe_choice", "describe_conditions", "describe_machine"]


def describe_machine() -> dict[str, Any]:
    """Say what a figure was measured with: versions, processor, threads, GPUs."""
    names = ["dualdiff-cli", "torch", "numpy", "scipy", "scikit-learn", "polars", "onnx", *_onnxruntime_wheels()]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": {name: _version(name) for name in names},
        "cuda": cuda_version(),
        "gpus": gpu_names(),
    }


def describe_conditions(device: torch.device) -> dict[str, Any]:
    """Say under what conditions a timing is taken: how busy the machine is, its clocks, the GPU's driver."""
    import onnxruntime

    gpu = gpu_facts(device) if device.type == "cuda" else {}
    return {
        "device": str(device),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "processor_mhz": _processor_mhz(),
        "providers": onnxruntime.get_available_providers(),
        **gpu,
    }


def _processor_mhz() -> list[float] | None:
    """Read the clock that each core runs at now, where Linux tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return [float(line.split(":", 1)[1]) for line in lines if line.startswith("cpu MHz")] or None
    except OSError:
        return None


def describe_choice() -> dict[str, Any]:
    """Say what ``auto`` takes and why, and what ONNX Runtime offers."""
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
    import onnxruntime

    return {"device": str(device), "reason": reason, "providers": onnxruntime.get_available_providers()}


def _onnxruntime_wheels() -> list[str]:
    """Both wheels install the same module, so that having both is a fault worth showing."""
    return [name for name in ("onnxruntime", "onnxruntime-gpu") if _version(name)]


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
