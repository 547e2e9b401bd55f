"""How arithmetic is carried out: number of threads, precision, compiled or not. The mathematics is always the same.

`auto` is decided once for a run, from the configuration and the machine alone and never by timing: the same command
gives the same weights whether the machine is busy or not, because sums in another precision, on another number of
threads or in another kernel round differently. A training keeps its `Execution` with its state, so that a resumed run
continues as it began.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

import torch

from ..config.sections import TrainingConfig
from ..errors import DeviceError
from .device import tf32_products
from .processor import has_fast_bfloat16

__all__ = [
    "PLAIN",
    "AnyPrecision",
    "Execution",
    "LayerShape",
    "Precision",
    "Switch",
    "choose_products",
    "decide_folds",
    "decide_sampling",
    "decide_training",
]

Precision = Literal["float32", "tf32", "bfloat16"]

Switch = Literal["auto", "on", "off"]
AnyPrecision = Literal["auto", "float32", "bfloat16"]

REPAID = 4e11
"""Steps × batch × parameters from which ``auto`` compiles a training step: 2,000 steps of the default model.

Compiling takes seconds. The faster steps make up for them from 2,000 steps on if an earlier run has filled the
compiler's cache, and from about 5,000 steps on if the cache is empty.
"""
REPAID_BY_SAMPLING = {"cpu": 5e12, "cuda": 5e14}
"""Points × evaluations × parameters from which ``auto`` compiles sampling, by the kind of device.

On a CPU it is 250,000 samples of the default model. On an H200 compiling took 4 to 22 seconds, and saved 0.08 seconds
in a call, which has up to 65,536 points.
"""
WORTH_SHARING = 2**22
"""Multiplications in a layer's product from which all threads are used: 256 rows of width 128.

On a quiet machine two threads take 0.6 of the time of one thread there, and 0.8 at a quarter of the multiplications.
"""
WORTH_ROUNDING = 2**23
"""Multiplications in a layer's product from which ``auto`` is bfloat16.

At twice as many (256 rows of width 256) bfloat16 takes 0.6 of float32's time on two threads; at half as many bfloat16
takes 0.9 of float32's time, which is not worth the rounding.
"""


@dataclass(frozen=True)
class Execution:
    """How to carry out a training, or the drawing of samples.

    Attributes:
        threads: number of CPU threads.
        precision: number format of the factors in matrix products; everything else is float32 or float64.
        compiled: whether torch's compiler compiles the training step, or the denoiser.
        graphed: whether a GPU captures the training step as a CUDA graph and replays the graph.
        required: whether a failure of the compiler is an error; otherwise the work continues without the compiler.
        why: the reason for each choice: "compiled", and "products" for threads and precision.

    """

    threads: int = 1
    precision: Precision = "float32"
    compiled: bool = False
    graphed: bool = False
    required: bool = False
    why: dict[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The choices in one line, for people."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        compiled = "compiled" if self.compiled else "not compiled"
        because = f" ({self.why['compiled']})" if "compiled" in self.why else ""
        return f"{self.precision} on {threads}, {compiled}{because}"

    def to_dict(self) -> dict[str, Any]:
        """Give the choices as plain values."""
        return asdict(self)

    def without_compiler(self, failure: str) -> Execution:
        """Give the same execution without the compiler, with the compiler's failure as the reason."""
        return replace(self, compiled=False, why={**self.why, "compiled": f"compiling failed: {failure}"})

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Set what holds for the whole process, the number of threads and TF32 on a GPU, and restore it at the end.

        A number of threads that stayed would be the largest number that a later training in the process can choose.
        """
        threads = torch.get_num_threads()
        with tf32_products(self.precision == "tf32"):
            torch.set_num_threads(self.threads)
            try:
                yield
            finally:
                torch.set_num_threads(threads)


PLAIN = Execution()
"""One thread, float32, not compiled."""


def decide_training(config: TrainingConfig, device: torch.device, *, parameters: int, layer: LayerShape) -> Execution:
    """Decide how a training is carried out.

    Args:
        config: ``config.compile`` and ``config.precision`` say what the user asks for.
        device: the device to train on.
        parameters: number of trained parameters.
        layer: the shape of the network's typical product.

    Raises:
        DeviceError: the user asks for compiling, and the machine has no compiler.

    """
    enough = config.steps * config.batch * parameters >= REPAID
    decided = _decide(config.compile, config.precision, device, layer, enough=enough)
    if device.type == "cpu":
        return decided
    graphed = replace(decided, graphed=config.compile != "off")
    return replace(graphed, precision="tf32") if config.precision == "auto" else graphed


def decide_folds(config: TrainingConfig, device: torch.device) -> Execution:
    """Decide how a training in folds is carried out: in float32, never compiled, on a GPU as a CUDA graph.

    Args:
        config: ``config.compile`` says what the user asks for; "off" captures nothing.
        device: the device to train on.

    """
    return Execution(threads=torch.get_num_threads(), graphed=device.type == "cuda" and config.compile != "off")


def decide_sampling(
    compile: Switch, precision: AnyPrecision, device: torch.device, *, work: float, layer: LayerShape
) -> Execution:
    """Decide how samples are drawn.

    Args:
        compile, precision: what the user asks for.
        device: the device to draw on.
        work: points × evaluations × parameters.
        layer: the shape of the network's typical product.

    Raises:
        DeviceError: the user asks for compiling, and the machine has no compiler.

    """
    return _decide(compile, precision, device, layer, enough=work >= REPAID_BY_SAMPLING[device.type])


def _decide(
    compile: Switch, precision: AnyPrecision, device: torch.device, layer: LayerShape, *, enough: bool
) -> Execution:
    compiled, why_compiled = _compiles(compile, device, enough=enough)
    why = {"compiled": why_compiled}
    if device.type == "cpu":
        threads, taken, why["products"] = choose_products(layer, precision)
    else:
        threads, taken = torch.get_num_threads(), "float32" if precision == "auto" else precision
    return Execution(threads, taken, compiled, required=compile == "on", why=why)


class LayerShape(NamedTuple):
    """The shape of a network's typical product: (groups, rows, width) × (groups, width, width)."""

    groups: int
    rows: int
    width: int

    @property
    def multiplications(self) -> int:
        """Number of multiplications in the product."""
        return self.groups * self.rows * self.width**2


def choose_products(layer: LayerShape, precision: AnyPrecision) -> tuple[int, Literal["float32", "bfloat16"], str]:
    """Choose the number of CPU threads, and for ``auto`` the precision, from the layer's size and the processor.

    All threads that torch is set to (one a physical core) share a large product. If the user has set OMP_NUM_THREADS,
    that number of threads is used: it is the way to run several commands on one machine at the same time, because
    threads on cores that other programs use wait for each other and can be many times slower than one thread.

    Returns:
        The number of threads, the precision, and the reason.

    """
    threads, why_threads = torch.get_num_threads(), "large products are shared by all threads"
    if "OMP_NUM_THREADS" in os.environ:
        why_threads = "OMP_NUM_THREADS is set"
    elif threads > 1 and layer.multiplications < WORTH_SHARING:
        threads, why_threads = 1, "products as small as these gain nothing from more threads"
    elif threads == 1:
        why_threads = "torch is set to one thread"
    taken: Literal["float32", "bfloat16"] = "float32"
    if precision != "auto":
        taken, why_precision = precision, "asked for"
    elif not has_fast_bfloat16():
        why_precision = "this processor is not faster in bfloat16"
    elif layer.multiplications < WORTH_ROUNDING:
        why_precision = "products as small as these gain nothing from bfloat16"
    else:
        taken, why_precision = "bfloat16", "this processor is faster in bfloat16"
    return threads, taken, f"{why_threads}; {taken}: {why_precision}"


def _compiles(compile: Switch, device: torch.device, *, enough: bool) -> tuple[bool, str]:
    compiler = "a C++ compiler" if device.type == "cpu" else "Triton"
    missing = not _finds_cpp_compiler() if device.type == "cpu" else not _finds_triton()
    if compile == "off":
        return False, "asked for"
    if missing and compile == "on":
        raise DeviceError(f"--compile on needs {compiler}, and there is none.", "Install one, or use --compile auto.")
    if compile == "on":
        return True, "asked for"
    if missing:
        return False, f"there is no {compiler.removeprefix('a ')}"
    if not enough:
        return False, "too little work to repay compiling"
    return True, "enough work to repay compiling"


def _finds_cpp_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++", "cl"))


def _finds_triton() -> bool:
    from importlib.util import find_spec

    return find_spec("triton") is not None
