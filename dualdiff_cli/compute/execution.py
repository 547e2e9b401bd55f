"""How arithmetic is carried out: threads, precision, compiled or not. None of it changes the mathematics.

What is left to ``auto`` is decided once, with a reason. Of a training it is kept with the state: a resumed run goes on
in the way it began, because a sum rounds differently in another precision, another order or another kernel.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

import torch

from ..config.schema import TrainingConfig
from ..errors import DeviceError
from .device import has_bfloat16_products, keep_freed_memory, set_tf32
from .optimiser import Moments, Rates, fused_adamw

__all__ = [
    "PLAIN",
    "AnyPrecision",
    "Execution",
    "LayerShape",
    "Switch",
    "choose_products",
    "decide_sampling",
    "decide_training",
]

Precision = Literal["float32", "tf32", "bfloat16"]

Switch = Literal["auto", "on", "off"]
AnyPrecision = Literal["auto", "float32", "bfloat16"]

REPAID = 4e11
"""Points × parameters, trained on, from which a step is compiled: 2,000 default steps, which repay it where an earlier
run has left its cache, and 5,000 from an empty one."""
REPAID_BY_SAMPLING = 5e12
"""The same of points that a network is asked about: a quarter of a million samples by the default model."""
NOTICEABLE = 0.95
"""Share of the time that more threads must not exceed to be taken: a trial of equals differs by less."""
CLEARLY_FASTER = 0.75
"""Share of float32's time that bfloat16 must not exceed to be taken: it rounds, and what it saves must be worth it."""
WORTH_ROUNDING = 2**22
"""Multiplications of a layer below which its products are not tried in bfloat16: 256 rows of width 128."""
TRIALS = 5
TRIAL_SECONDS = 3e-3


@dataclass(frozen=True)
class Execution:
    """How to carry out a training, or the drawing of samples.

    Attributes:
        threads: of the CPU.
        precision: of the matrix products; everything else is float32 at least.
        compiled: whether a compiler fuses the whole step, or the denoiser.
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


def decide_training(config: TrainingConfig, device: torch.device, *, parameters: int, layer: LayerShape) -> Execution:
    """Decide what a configuration leaves open.

    Args:
        config: its ``compile`` and ``precision`` are the request.
        device: to train on.
        parameters: trained numbers.
        layer: of the network, whose products are tried.

    Raises:
        DeviceError: compiling was asked for by name and there is no compiler.

    """
    enough = config.steps * config.batch * parameters >= REPAID
    decided = _decide(config.compile, config.precision, device, layer, enough=enough)
    if device.type == "cpu":
        return decided
    graphed = replace(decided, graphed=config.compile != "off")
    return replace(graphed, precision="tf32") if config.precision == "auto" else graphed


def decide_sampling(
    compile: Switch, precision: AnyPrecision, device: torch.device, *, work: float, layer: LayerShape
) -> Execution:
    """Decide how points are drawn.

    Args:
        compile, precision: the request.
        device: to draw on.
        work: points × evaluations × parameters.
        layer: of the network, whose products are tried.

    Raises:
        DeviceError: compiling was asked for by name and there is no compiler.

    """
    return _decide(compile, precision, device, layer, enough=work >= REPAID_BY_SAMPLING)


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


def choose_products(layer: LayerShape, precision: AnyPrecision) -> tuple[int, Literal["float32", "bfloat16"], str]:
    """Choose threads of the CPU, and for ``auto`` the precision, by trying products of a layer in all ways in turn.

    The fewest threads that are fast, and bfloat16 where it is clearly faster. Never more threads than torch is set to,
    and a number that somebody chose (OMP_NUM_THREADS, which joblib sets for its workers too, or
    torch.set_num_threads) is left alone. On cores that others keep busy threads wait for each other, and more of them
    are slower; trying shows that as well as it shows what is too small to share.

    Returns:
        The number of threads, the precision, and why.

    """
    most = torch.get_num_threads()
    numbers = [*(2**k for k in range(most.bit_length()) if 2**k < most), most]
    fixed = "OMP_NUM_THREADS is set" if "OMP_NUM_THREADS" in os.environ else "torch is set to one thread"
    if "OMP_NUM_THREADS" in os.environ:
        numbers = [most]
    precisions, why_precision = _precisions(layer, precision)
    ways = [(number, getattr(torch, name)) for name in precisions for number in numbers]
    if len(ways) == 1:
        return most, precisions[0], f"{fixed}; {precisions[0]}: {why_precision}"
    seconds = dict(zip(ways, _time_products(layer, ways), strict=True))
    chosen = {name: _fewest_fast(numbers, [seconds[n, getattr(torch, name)] for n in numbers]) for name in precisions}
    taken = precisions[0]
    if len(precisions) == 2:
        full, half = (seconds[chosen[name], getattr(torch, name)] for name in precisions)
        taken = precisions[half < CLEARLY_FASTER * full]
    times = ", ".join(
        f"{1e3 * spent:.2f} ms in {str(dtype).removeprefix('torch.')} on {number}"
        for (number, dtype), spent in seconds.items()
    )
    why = f"a layer of {layer.groups} × {layer.rows} × {layer.width} took {times}"
    return chosen[taken], taken, f"{why}; {why_precision}" if why_precision else why


def _precisions(layer: LayerShape, asked: str) -> tuple[list[Literal["float32", "bfloat16"]], str]:
    """Give the precisions to be tried, and why not both."""
    if asked == "bfloat16":
        return ["bfloat16"], "asked for"
    if asked == "float32":
        return ["float32"], "asked for"
    if not has_bfloat16_products():
        return ["float32"], "this processor has no instructions for bfloat16"
    if layer.groups * layer.rows * layer.width**2 < WORTH_ROUNDING:
        return ["float32"], "products as small as these gain nothing from bfloat16"
    return ["float32", "bfloat16"], ""


def _fewest_fast(numbers: list[int], seconds: list[float]) -> int:
    """Give the fewest threads that no larger number clearly beats."""
    best = 0
    for i in range(1, len(numbers)):
        if seconds[i] < NOTICEABLE * seconds[best]:
            best = i
    return numbers[best]


def _time_products(layer: LayerShape, ways: list[tuple[int, torch.dtype]]) -> list[float]:
    """Median seconds of a layer there and back in each way, (threads, type), tried in turn.

    Its three products, what is done to every row, and the update of every weight: as in a step, not all of it is shared
    as well.
    """
    before = torch.get_num_threads()
    groups, rows, width = layer
    weights = torch.ones(groups, width, width)
    moments, rates, beta_2 = Moments.of(weights), Rates.on(weights.device), 0.999
    rates.fill(0.0, 1, beta_2=beta_2)  # the weights stay as they are
    factors = {dtype: (torch.ones(groups, rows, width, dtype=dtype), weights.to(dtype)) for _, dtype in ways}
    trials: list[list[float]] = [[] for _ in ways]
    for _ in range(1 + TRIALS):  # the first also starts the threads, and is not counted
        for (threads, dtype), trial in zip(ways, trials, strict=True):
            torch.set_num_threads(threads)
            x, w = factors[dtype]
            started, products, spent = time.perf_counter(), 0, 0.0
            while spent < TRIAL_SECONDS:
                y = torch.relu_(torch.bmm(x, w))
                torch.bmm(y, w.mT)
                gradient = torch.bmm(x.mT, y).float()
                fused_adamw(weights, gradient, moments, rates, beta_2=beta_2, weight_decay=0.0, clip_norm=None)
                products, spent = products + 1, time.perf_counter() - started
            trial.append(spent / products)
    torch.set_num_threads(before)
    return [statistics.median(trial[1:]) for trial in trials]


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
