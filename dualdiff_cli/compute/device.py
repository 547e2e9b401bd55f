"""The only file that knows which devices exist: choosing one, seeding it, waiting for it, its graphs and its memory."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch

from ..errors import DeviceError, InputError

__all__ = [
    "GraphedCall",
    "Readback",
    "capture",
    "choose_device",
    "cuda_version",
    "denormals_flushed",
    "generator",
    "gpu_facts",
    "gpu_names",
    "has_bfloat16_products",
    "keep_freed_memory",
    "memory_rise",
    "peak_memory_bytes",
    "set_tf32",
    "synchronize",
]


T = TypeVar("T")


def choose_device(request: str = "auto") -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:i`` into a device that is there.

    ``auto`` takes CUDA where it works and otherwise the CPU, with a warning if there is a GPU that cannot be used.

    Raises:
        InputError: the request is none of these words.
        DeviceError: CUDA was asked for by name and is not there.

    """
    if request == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        if torch.version.cuda and os.path.exists("/dev/nvidia0"):
            warnings.warn("A GPU is there but CUDA cannot use it; running on the CPU.", stacklevel=2)
        return torch.device("cpu")
    kind, _, index = request.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()) or (kind == "cpu" and index):
        raise InputError(f"There is no device {request!r}.", "Choose from auto, cpu, cuda and cuda:N.")
    if kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        reason = "this torch is built without CUDA" if not torch.version.cuda else "no usable NVIDIA GPU was found"
        raise DeviceError(f"Device {request!r} is not available: {reason}.", "Use --device cpu or --device auto.")
    if int(index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise DeviceError(f"Device {request!r} is not there.", f"There are {count}: cuda:0 to cuda:{count - 1}.")
    return torch.device("cuda", int(index or 0))


def generator(seed: int, device: torch.device) -> torch.Generator:
    """Make a random generator of its own on the device; the global one is never touched."""
    return torch.Generator(device).manual_seed(seed)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Readback:
    """A number on its way from the device, which nothing waits for until it is asked for.

    Args:
        value: tensor of shape ().

    """

    def __init__(self, value: torch.Tensor) -> None:
        self._host = value.to("cpu", non_blocking=True)
        # A copy from a GPU may be read only after an event recorded behind it has passed.
        self._arrived = torch.cuda.current_stream(value.device).record_event() if value.is_cuda else None

    def ready(self) -> bool:
        """Say whether ``item`` would return at once."""
        return self._arrived is None or self._arrived.query()

    def item(self) -> float:
        """Give the number, waiting for it if need be."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return float(self._host)


class GraphedCall(Generic[T]):
    """A call that the GPU repeats by itself: made as it is at first, then captured once, and from then on replayed.

    The call takes nothing: it reads and writes tensors that stay where they are, and what it gives is overwritten by
    the next one. It must not wait for the device, nor draw random numbers. Its first `WARM_UP` calls are made on a
    stream of their own, as a capture asks for: they let libraries and optimiser make what they make once, and they
    count.

    Args:
        call: what to do.
        device: a CUDA device.

    """

    WARM_UP = 3

    def __init__(self, call: Callable[[], T], device: torch.device) -> None:
        self._call = call
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._calls = 0

    def __call__(self) -> T:
        """Make the call once."""
        self._calls += 1
        if self._calls <= self.WARM_UP:
            current = torch.cuda.current_stream(self._stream.device)
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                result = self._call()
            current.wait_stream(self._stream)
            return result
        if self._graph is None:
            self._graph = self._record()
        self._graph.replay()
        return self._result

    def _record(self) -> torch.cuda.CUDAGraph:
        """Capture the call, which is not made by that.

        Raises:
            DeviceError: it waits for the device, or does something else that cannot be captured.

        """
        gc.collect()  # an old graph that were freed in the middle would end the capture
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._stream.device)
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._result = self._call()
        except Exception as error:
            torch.cuda.set_stream(before)  # a capture that failed leaves its own behind
            reason = str(error.__context__ or error).strip().partition("\n")[0].rstrip(".")
            raise DeviceError(f"This cannot be captured as a CUDA graph: {reason}.", "Use --compile off.") from error
        return graph


def capture(call: Callable[[], T], device: torch.device) -> GraphedCall[T]:
    """Make a graphed call ready to be replayed; the call is made some times for it, and so must do no harm."""
    graphed = GraphedCall(call, device)
    for _ in range(GraphedCall.WARM_UP + 1):
        graphed()
    return graphed


def set_tf32(on: bool) -> None:
    """Let a GPU round the factors of float32 products to 10 bits of mantissa, or not."""
    torch.set_float32_matmul_precision("high" if on else "highest")


def has_bfloat16_products() -> bool:
    """Say whether the processor has instructions for products of bfloat16 (AVX-512 BF16 or AMX), fast or not."""
    tell = getattr(torch.cpu, "get_capabilities", None)  # newer than the oldest torch that will do
    known: dict[str, bool] = tell() if tell else {}
    return known.get("avx512_bf16", False) or known.get("amx_bf16", False)


def keep_freed_memory() -> None:
    """Ask glibc's allocator to keep what is freed, up to 256 MiB, instead of giving it back to the kernel at once.

    Activations of a few megabytes are freed and asked for again at every layer; each time the kernel maps and clears
    their pages afresh, which was measured to be a fifth of sampling. Elsewhere than on glibc nothing is changed.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # see mallopt(3)
        set_option(M_TRIM_THRESHOLD, 2**28)
        set_option(M_MMAP_THRESHOLD, 2**25)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Let the processor take numbers too small for full precision for zero, as GPUs do, in this thread and new ones.

    The moments of weights that get no gradient any more shrink with every step, and after some hundred steps are such
    numbers, which a processor handles one by one and many times slower: a training would grow slower as it goes on.
    Threads keep what their creator had, so this must begin before the first parallel work.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def peak_memory_bytes() -> int:
    """Give the largest resident size that this process ever had, in bytes (0 where the platform does not tell)."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory_rise(call: Callable[[], object], device: torch.device) -> int | None:
    """Make a call and give by how many bytes the memory in use rose above where it stood, at its highest.

    On a GPU that is what torch's allocator handed out, on the CPU the process's resident size, whose high-water mark
    Linux lets be reset; None where neither tells. What the allocator had kept from earlier calls is given back first.
    """
    if device.type == "cuda":
        gc.collect()
        synchronize(device)
        allocated = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - allocated
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
    resettable = _reset_high_water_mark()
    before = _resident_bytes("VmRSS")
    call()
    after = _resident_bytes("VmHWM")
    return max(after - before, 0) if resettable and before is not None and after is not None else None


def _reset_high_water_mark() -> bool:
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")  # see proc(5)
    except OSError:
        return False
    return True


def _resident_bytes(field: str) -> int | None:
    """Read one of this process's sizes from the kernel."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            found = re.search(rf"^{field}:\s+(\d+) kB$", file.read(), re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(found.group(1)) if found else None


def cuda_version() -> str | None:
    """Say with which CUDA this torch is built, if any."""
    return torch.version.cuda


def gpu_names() -> list[str]:
    """Name the GPUs that torch sees."""
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def gpu_facts(device: torch.device) -> dict[str, Any]:
    """Ask NVIDIA's tool, which comes with the driver, for what torch does not tell."""
    facts = ("driver_version", "clocks.sm", "clocks.mem")
    try:
        identity = f"GPU-{torch.cuda.get_device_properties(device).uuid}"  # its numbers need not be torch's
        command = ["nvidia-smi", f"--id={identity}", f"--query-gpu={','.join(facts)}", "--format=csv,noheader"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (AttributeError, OSError, subprocess.SubprocessError):
        return {"gpu_clocks": None, "gpu_driver": None}
    driver, *clocks = (part.strip() for part in answer.strip().split(","))
    return {"gpu_driver": driver, "gpu_clocks": clocks}
