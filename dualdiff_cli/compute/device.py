"""The only file that knows which devices exist: choosing one, waiting for it, its CUDA graphs and its memory."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import psutil
import torch

from ..errors import DeviceError, InputError

__all__ = [
    "GraphedCall",
    "Readback",
    "capture",
    "choose_device",
    "cuda_version",
    "denormals_flushed",
    "give_back_memory",
    "gpu_facts",
    "gpu_names",
    "memory_rise",
    "peak_memory_bytes",
    "synchronize",
    "tf32_products",
]

T = TypeVar("T")


def choose_device(request: str = "auto") -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:i`` into an available device.

    ``auto`` is CUDA where CUDA works, and otherwise the CPU; a warning says so if the machine has a GPU that CUDA
    cannot use.

    Raises:
        InputError: the request is none of these words.
        DeviceError: the request names CUDA, and the CUDA device is not available.

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


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished every operation queued so far."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Readback:
    """A number that is being copied from the device to the CPU; nothing waits for the copy until ``item`` is called.

    Args:
        value: tensor of shape (), on any device.

    """

    def __init__(self, value: torch.Tensor) -> None:
        self._host = value.to("cpu", non_blocking=True)
        # The copy from a GPU may be read only after an event that is recorded behind the copy has completed.
        self._arrived = torch.cuda.current_stream(value.device).record_event() if value.is_cuda else None

    def ready(self) -> bool:
        """Say whether ``item`` would return at once."""
        return self._arrived is None or self._arrived.query()

    def item(self) -> float:
        """Give the number; wait for the copy if it has not arrived yet."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return float(self._host)


class GraphedCall(Generic[T]):
    """A function that is captured as a CUDA graph, which the GPU then replays without Python.

    The function takes no arguments: it reads and writes tensors whose memory never moves, and each call overwrites the
    result of the call before. The function must neither wait for the device nor draw random numbers. The first
    `WARM_UP` calls run the function itself on a separate stream, as CUDA asks before a capture: libraries and optimiser
    allocate then what they allocate once. These calls do the function's work like all later ones.

    Args:
        call: the function.
        device: a CUDA device.
        inputs: tensors that the function reads; each call first copies the values that it is given into these tensors.

    """

    WARM_UP = 3

    def __init__(self, call: Callable[[], T], device: torch.device, *, inputs: Sequence[torch.Tensor] = ()) -> None:
        self._call, self._inputs = call, inputs
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._calls = 0

    def __call__(self, *values: torch.Tensor) -> T:
        """Run the function once, with values for its inputs: directly, or by replaying the graph."""
        for place, value in zip(self._inputs, values, strict=True):
            place.copy_(value)
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
        """Capture the function as a graph; capturing does not run the function.

        Raises:
            DeviceError: the function waits for the device, or does something else that cannot be captured.

        """
        gc.collect()  # freeing an older graph during the capture would make the capture fail
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._stream.device)
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._result = self._call()
        except Exception as error:
            torch.cuda.set_stream(before)  # a failed capture leaves its own stream current
            reason = str(error.__context__ or error).strip().partition("\n")[0].rstrip(".")
            raise DeviceError(f"This cannot be captured as a CUDA graph: {reason}.", "Use --compile off.") from error
        return graph


def capture(call: Callable[[], T], device: torch.device) -> GraphedCall[T]:
    """Warm up and capture a function, so that the next call replays it.

    The function runs `GraphedCall.WARM_UP` + 1 times here, so running it must have no lasting effect.
    """
    graphed = GraphedCall(call, device)
    for _ in range(GraphedCall.WARM_UP + 1):
        graphed()
    return graphed


@contextmanager
def tf32_products(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32, in which a GPU rounds the factors of float32 products to 10 bits, while the block runs."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # torch does not tell what its newer interface has set
        before = "highest"
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Let the processor round denormal numbers to zero, in this thread and in the threads that it starts.

    If a weight gets no gradient any more, its AdamW moments shrink at every step and are denormal after some hundred
    steps. A processor computes with denormal numbers many times slower, so training would slow down as it goes on.
    A thread inherits the setting of the thread that started it, so this context must begin before the first parallel
    operation.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def peak_memory_bytes() -> int:
    """Give the largest resident size that this process ever had, in bytes."""
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # psutil tells the peak on Windows only
        return int(memory.peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory_rise(call: Callable[[], object], device: torch.device) -> int | None:
    """Make a call and give by how many bytes the memory in use rose during the call, at its highest.

    On a GPU this is the memory that torch's allocator handed out. On the CPU it is the resident size of the process:
    psutil cannot give the peak of a single call, so Linux's own high-water mark is reset before the call and read after
    the call. On other systems the result is None. Memory that the allocator has kept from earlier calls is returned
    first.
    """
    if device.type == "cuda":
        gc.collect()
        synchronize(device)
        allocated = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - allocated
    if sys.platform != "linux":
        call()
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    resettable = _reset_high_water_mark()
    before = psutil.Process().memory_info().rss
    call()
    return max(_high_water_mark() - before, 0) if resettable else None


def _reset_high_water_mark() -> bool:
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")  # see proc(5)
    except OSError:  # some containers forbid writing here
        return False
    return True


def _high_water_mark() -> int:
    """Read the largest resident size since the last reset, in bytes."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM:"))


def give_back_memory() -> None:
    """Give memory that torch keeps for later, and that nothing uses, back to the GPUs."""
    torch.cuda.empty_cache()  # does nothing where no GPU was used


def cuda_version() -> str | None:
    """Give the version of CUDA that this torch was built with; None if torch was built without CUDA."""
    return torch.version.cuda


def gpu_names() -> list[str]:
    """Name the GPUs that torch can use."""
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def gpu_facts(device: torch.device) -> dict[str, Any]:
    """Give the version of the GPU's driver, and the GPU's clocks by NVIDIA's own bindings (``nvidia-ml-py``).

    Returns:
        ``gpu_driver``, and ``gpu_clocks``: the clocks of the multiprocessors and of the memory, such as "1980 MHz".
        Both are None where the bindings are not installed or do not know the GPU.

    """
    unknown = {"gpu_clocks": None, "gpu_driver": None}
    try:
        import pynvml
    except ImportError:
        return unknown
    try:
        pynvml.nvmlInit()
        # torch may count the GPUs in another order than the driver does, so the GPU is looked up by its UUID
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        clocks = [pynvml.nvmlDeviceGetClockInfo(handle, c) for c in (pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM)]
        facts = {"gpu_driver": str(pynvml.nvmlSystemGetDriverVersion()), "gpu_clocks": [f"{mhz} MHz" for mhz in clocks]}
        pynvml.nvmlShutdown()
    except (AttributeError, pynvml.NVMLError):
        return unknown
    return facts
