"""How a training's arithmetic is carried out: threads, precision, compiled or not. None of it changes the mathematics.

What is left to ``auto`` is decided once, with a reason, and kept with the state: a resumed run goes on in the way it
began, because a sum rounds differently in another precision, another order or another kernel.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic, Literal, ParamSpec, TypeVar

import torch

from .config import TrainingConfig
from .device import has_bfloat16_products, keep_freed_memory, set_tf32
from .errors import DeviceError

__all__ = ["PLAIN", "Compiled", "Execution", "choose_threads", "decide", "prepare_sampling"]

Precision = Literal["float32", "tf32", "bfloat16"]

REPAID = 1.5e12
"""Steps × batch × parameters from which compiling repays itself: about a minute of training on one core."""
NOTICEABLE = 0.8
"""Share of the time that a thread more must save to be taken: what is nearly free may be somebody else's core."""
CLEARLY_FASTER = 0.75
"""Share of float32's time that bfloat16 must not exceed to be taken: it rounds, and what it saves must be worth it."""
WORTH_ROUNDING = 2**22
"""Multiplications of a layer below which its products are not tried in bfloat16: 256 rows of width 128."""
TRIALS = 5
TRIAL_SECONDS = 3e-3

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Execution:
    """How to carry out a training.

    Attributes:
        threads: of the CPU.
        precision: of the matrix products; everything else is float32 at least.
        compiled: whether a compiler fuses batch, loss and gradient.
        graphed: whether a GPU captures the step once and replays it.
        required: whether a compiler that fails is an error.
        why: reasons, by what they are of.

    """

    threads: int = 1
    precision: Precision = "float32"
    compiled: bool = False
    graphed: bool = False
    required: bool = False
    why: dict[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """One line for people."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        compiled = "compiled" if self.compiled else "not compiled"
        because = f" ({self.why['compiled']})" if "compiled" in self.why else ""
        return f"{self.precision} on {threads}, {compiled}{because}"

    def to_dict(self) -> dict[str, Any]:
        """Give plain values."""
        return asdict(self)

    def without_compiler(self, failure: str) -> Execution:
        """Give the same with nothing compiled, and the reason."""
        return replace(self, compiled=False, why={**self.why, "compiled": f"compiling failed: {failure}"})

    def apply(self) -> None:
        """Set what is the process's own: threads, memory, and how a GPU multiplies float32."""
        torch.set_num_threads(self.threads)
        keep_freed_memory()
        set_tf32(self.precision == "tf32")


PLAIN = Execution()
"""One thread, float32, nothing compiled."""


def decide(config: TrainingConfig, device: torch.device, *, parameters: int, width: int) -> Execution:
    """Decide what a configuration leaves open.

    Args:
        config: its ``compile`` and ``precision`` are the request.
        device: to train on.
        parameters: trained numbers.
        width: of the layers, whose products the threads are tried on.

    Raises:
        DeviceError: compiling was asked for by name and there is no compiler.

    """
    threads, why_threads = choose_threads(config.batch, width)
    precision, why_precision = _precision(config, device, threads, width)
    compiled, why_compiled = _compiles(config, device, parameters)
    why = {"threads": why_threads, "precision": why_precision, "compiled": why_compiled}
    graphed = device.type == "cuda" and config.compile != "off"
    return Execution(threads, precision, compiled, graphed, required=config.compile == "on", why=why)


def choose_threads(rows: int, width: int) -> tuple[int, str]:
    """Try products (rows, width) × (width, width) on one thread, two, four … and take the fewest that are fast.

    Never more than torch is set to. Threads that somebody chose (OMP_NUM_THREADS, which joblib sets for its workers
    too, or torch.set_num_threads) are left alone. On cores that others keep busy threads wait for each other, and more
    of them are slower; trying shows that as well as it shows what is too small to share.

    Returns:
        The number of threads, and why.

    """
    most = torch.get_num_threads()
    if "OMP_NUM_THREADS" in os.environ:
        return most, "OMP_NUM_THREADS is set"
    if most == 1:
        return 1, "torch is set to one thread"
    numbers = [*(2**k for k in range(most.bit_length()) if 2**k < most), most]
    seconds = _time_products(rows, width, [(number, torch.float32) for number in numbers])
    best = 0
    for i in range(1, len(numbers)):
        if seconds[i] < NOTICEABLE * seconds[best]:
            best = i
    times = ", ".join(f"{1e3 * taken:.2f} ms on {number}" for number, taken in zip(numbers, seconds, strict=True))
    return numbers[best], f"a product of {rows} × {width} × {width} took {times}"


def prepare_sampling(rows: int, width: int) -> None:
    """Set up the process to ask networks about so many rows at once: `choose_threads`, and no TF32 from a training."""
    torch.set_num_threads(choose_threads(rows, width)[0])
    set_tf32(False)
    keep_freed_memory()


def _time_products(rows: int, width: int, ways: list[tuple[int, torch.dtype]]) -> list[float]:
    """Median seconds of a product in each way, (threads, type), tried in turn; leaves the threads as they were."""
    before = torch.get_num_threads()
    shapes = ((rows, width), (width, width))
    factors = {dtype: [torch.ones(shape, dtype=dtype) for shape in shapes] for _, dtype in ways}
    trials: list[list[float]] = [[] for _ in ways]
    for _ in range(1 + TRIALS):  # the first also starts the threads, and is not counted
        for (threads, dtype), trial in zip(ways, trials, strict=True):
            torch.set_num_threads(threads)
            x, w = factors[dtype]
            started, products, spent = time.perf_counter(), 0, 0.0
            while spent < TRIAL_SECONDS:
                torch.relu_(x @ w)
                products, spent = products + 1, time.perf_counter() - started
            trial.append(spent / products)
    torch.set_num_threads(before)
    return [statistics.median(trial[1:]) for trial in trials]


def _precision(config: TrainingConfig, device: torch.device, threads: int, width: int) -> tuple[Precision, str]:
    if config.precision != "auto":
        return config.precision, "asked for"
    if device.type == "cuda":
        return "tf32", "a GPU multiplies float32 fast in TF32"
    if not has_bfloat16_products():
        return "float32", "this processor has no instructions for bfloat16"
    if config.batch * width**2 < WORTH_ROUNDING:
        return "float32", "products as small as these gain nothing from bfloat16"
    full, half = _time_products(config.batch, width, [(threads, torch.float32), (threads, torch.bfloat16)])
    why = f"a product took {1e3 * full:.2f} ms in float32, {1e3 * half:.2f} ms in bfloat16"
    return ("bfloat16" if half < CLEARLY_FASTER * full else "float32"), why


def _compiles(config: TrainingConfig, device: torch.device, parameters: int) -> tuple[bool, str]:
    compiler = "a C++ compiler" if device.type == "cpu" else "Triton"
    missing = not _finds_cpp_compiler() if device.type == "cpu" else not _finds_triton()
    if config.compile == "off":
        return False, "asked for"
    if missing and config.compile == "on":
        raise DeviceError(f"--compile on needs {compiler}, and there is none.", "Install one, or use --compile auto.")
    if config.compile == "on":
        return True, "asked for"
    if missing:
        return False, f"there is no {compiler.removeprefix('a ')}"
    if config.steps * config.batch * parameters < REPAID:
        return False, "the run is too short to repay compiling"
    return True, "the run is long enough to repay compiling"


def _finds_cpp_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++", "cl"))


def _finds_triton() -> bool:
    from importlib.util import find_spec

    return find_spec("triton") is not None


def _both_ways() -> AbstractContextManager[object]:
    """Let the compiler make the way back at once, and not when the first gradient asks for it."""
    from torch._functorch import config

    if not hasattr(config, "force_non_lazy_backward_lowering"):  # newer than the oldest torch that will do
        return nullcontext()
    patched: AbstractContextManager[object] = config.patch(force_non_lazy_backward_lowering=True)
    return patched


class Compiled(Generic[P, R]):
    """A function that is compiled on its first call; where that fails the plain function goes on, with a warning.

    Args:
        function: plain; what is compiled is the same mathematics.
        required: raise instead of going on.

    Attributes:
        seconds: what compiling took, the first call included.
        failure: why the plain function went on, if it did.

    """

    def __init__(self, function: Callable[P, R], *, required: bool = False) -> None:
        self._plain, self._required = function, required
        self._ready: Callable[P, R] | None = None
        self.seconds = 0.0
        self.failure: str | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function.

        Raises:
            DeviceError: it is required to be compiled and the compiler failed.

        """
        return self._ready(*args, **kwargs) if self._ready else self._first(*args, **kwargs)

    def _first(self, *args: P.args, **kwargs: P.kwargs) -> R:
        started = time.perf_counter()
        try:
            with _both_ways(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the compiler's about its own parts
                compiled: Callable[P, R] = torch.compile(self._plain, dynamic=False)
                result = compiled(*args, **kwargs)
        except Exception as error:  # a compiler can fail in as many ways as there are machines
            self.failure = str(error).strip().partition("\n")[0] or type(error).__name__
            if self._required:
                raise DeviceError(
                    f"The training step could not be compiled: {self.failure}.", "Use --compile auto or off."
                ) from error
            warnings.warn(f"Compiling failed and training goes on without it: {self.failure}", stacklevel=2)
            compiled, result = self._plain, self._plain(*args, **kwargs)
        self._ready = compiled
        self.seconds = time.perf_counter() - started
        return result
