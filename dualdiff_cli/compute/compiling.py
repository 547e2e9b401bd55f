"""Compiling a whole function of tensors: a training step with gradient and AdamW update, or a denoiser.

torch's compiler (Inductor) turns a list of tensor operations into C++ loops, or into GPU kernels, and fuses operations
that follow each other, so that intermediate values stay in the processor's registers. It calls a library (oneDNN,
cuBLAS) for matrix products. `Compiled` records the list of operations itself and hands the list to Inductor, instead of
handing the function to `torch.compile`, for three reasons: the list includes the gradient and the update in place, no
conditions are checked at each call, and compiling from an empty cache takes less time (benchmarks/rewriting.py).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from ..errors import DeviceError
from .rewriting import write_down

__all__ = ["Compiled"]

R = TypeVar("R")

OPTIONS = {"config_patches": {"triton.autotune_at_compile_time": False}}
"""For the compiler: it times a GPU's kernels in their first call.

By itself it times them while it compiles, on random numbers. Where these stand for row numbers they are out of bounds,
and the GPU ends the process.
"""


def _lift_held(operations: torch.fx.GraphModule) -> list[Tensor]:
    """Turn the tensors that a list of operations holds into additional arguments of the list, and give the tensors."""
    graph = operations.graph
    lifted: dict[Any, torch.fx.Node] = {}
    *_, last = graph.find_nodes(op="placeholder")
    for held in graph.find_nodes(op="get_attr"):
        if held.target not in lifted:
            with graph.inserting_after(last):
                last = lifted[held.target] = graph.placeholder(held.target)
        held.replace_all_uses_with(lifted[held.target])
        graph.erase_node(held)
    tensors = [getattr(operations, name) for name in lifted]
    for name in lifted:
        delattr(operations, name)
    operations.recompile()
    return tensors


class Compiled(Generic[R]):
    """A function of tensors that is compiled at its first call.

    The first call records the operations of the function on copies of the arguments, including gradients and updates in
    place, and compiles the recorded list. Tensors that the function holds, such as data or weights, become arguments of
    the list, so that the compiler's cache can be used again with other data and weights. Later calls do not check
    whether their arguments are like those of the first call: the caller guarantees it.

    Args:
        function: a function of tensors whose shapes never change; the function must not read the tensors' values.
        otherwise: the function that is called if compiling fails; None is the function itself.
        required: whether a failure of the compiler is an error, instead of a warning.
        write_down: records the operations of a call; see `rewriting.write_down`.

    Attributes:
        seconds: seconds of compiling, including the first call.
        failure: the reason why compiling failed; None if it did not fail.

    """

    def __init__(
        self,
        function: Callable[..., R],
        *,
        otherwise: Callable[..., R] | None = None,
        required: bool = False,
        write_down: Callable[..., torch.fx.GraphModule] = write_down,
    ) -> None:
        self._write_down = write_down
        self._function, self._otherwise, self._required = function, otherwise or function, required
        self._ready: Callable[..., R] | None = None
        self.seconds = 0.0
        self.failure: str | None = None

    def __call__(self, *args: Tensor) -> R:
        """Call the function.

        Raises:
            DeviceError: compiling is required and failed.

        """
        return self._first(*args) if self._ready is None else self._ready(*args)

    def _first(self, *args: Tensor) -> R:
        from torch._inductor import standalone_compile

        started = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the compiler warns of its own parts
                operations = self._write_down(self._function, args)
                held = _lift_held(operations)
                ready = standalone_compile(
                    operations, [*args, *held], dynamic_shapes="from_example_inputs", options=OPTIONS
                )
                compiled: Callable[..., R] = lambda *own: ready(*own, *held)  # noqa: E731
                result = compiled(*args)
        except Exception as error:  # the compiler and the C++ compiler behind it may raise anything
            self.failure = str(error).strip().partition("\n")[0] or type(error).__name__
            if self._required:
                raise DeviceError(f"Compiling failed: {self.failure}.", "Use --compile auto or off.") from error
            warnings.warn(f"Compiling failed; the work continues without the compiler: {self.failure}", stacklevel=2)
            compiled, result = self._otherwise, self._otherwise(*args)
        self._ready = compiled
        self.seconds = time.perf_counter() - started
        return result
