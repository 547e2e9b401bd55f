"""What the processor can do, and how the process uses the processor's memory."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import torch

__all__ = ["has_fast_bfloat16", "keep_freed_memory", "processor_name"]


def has_fast_bfloat16() -> bool:
    """Say whether the processor multiplies bfloat16 matrices clearly faster than float32 matrices.

    AMX does (measured: four times as fast), and so does AVX-512 BF16 on AMD's processors (twice as fast). Intel's
    AVX-512 BF16 without AMX does not: a Xeon took almost twice as long in bfloat16 as in float32.
    """
    known = _processor_capabilities()
    return bool(known.get("amx_bf16")) or (bool(known.get("avx512_bf16")) and "AMD" in processor_name())


def processor_name() -> str:
    """Name the processor's model, for example "AMD EPYC"; "" where torch does not know the name."""
    return str(_processor_capabilities().get("cpu_name", ""))


def _processor_capabilities() -> dict[str, Any]:
    tell = getattr(torch.cpu, "get_capabilities", None)  # the oldest torch that we support does not have the function
    return dict(tell()) if tell else {}


def keep_freed_memory() -> None:
    """Ask glibc's allocator to keep up to 256 MiB of freed memory instead of returning the memory to the kernel.

    Every layer frees and allocates activations of a few megabytes. If the memory goes back to the kernel each time, the
    kernel maps and clears the pages again, which took a fifth of the sampling time. Without glibc nothing changes.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # see mallopt(3)
        set_option(M_TRIM_THRESHOLD, 2**28)
        set_option(M_MMAP_THRESHOLD, 2**25)
