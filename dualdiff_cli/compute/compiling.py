"""A function of tensors, compiled as a whole: a training step with its gradients and its update, or a denoiser."""

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


def _lift_held(operations: torch.fx.GraphModule) -> list[Tensor]:
    """Turn the tensors that a list of operations holds into further arguments of it, and give them."""
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
    """A function of tensors that is compiled as a whole on its first call; where that fails the plain one goes on.

    Its operations are written down one by one as it is called on copies of its arguments, gradients that it takes of
    itself and what it writes in place included, and the list is what is compiled. What the function holds besides its
    arguments becomes an argument, too, so that the compiler's cache serves other data and other weights; by the class's
    contract a call is like the first one, and nothing asks whether it is.

    Args:
        function: of tensors whose shapes do not change; it must not look at their values.
        otherwise: what goes on where compiling fails; None is the function itself.
        required: raise instead of going on plainly with a warning.

    Attributes:
        seconds: what compiling took, the first call included.
        failure: why the plain function went on, if it did.

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
            DeviceError: it is required to be compiled and the compiler failed.

        """
        return self._first(*args) if self._ready is None else self._ready(*args)

    def _first(self, *args: Tensor) -> R:
        from torch._inductor import standalone_compile

        started = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the compiler's about its own parts
                operations = self._write_down(self._function, args)
                held = _lift_held(operations)
                ready = standalone_compile(operations, [*args, *held], dynamic_shapes="from_example_inputs")
                compiled: Callable[..., R] = lambda *own: ready(*own, *held)  # noqa: E731
                result = compiled(*args)
        except Exception as error:  # a compiler can fail in as many ways as there are machines
            self.failure = str(error).strip().partition("\n")[0] or type(error).__name__
            if self._required:
                raise DeviceError(
                    f"This could not be compiled: {self.failure}.", "Use --compile auto or off."
                ) from error
            warnings.warn(f"Compiling failed and the work goes on without it: {self.failure}", stacklevel=2)
            compiled, result = self._otherwise, self._otherwise(*args)
        self._ready = compiled
        self.seconds = time.perf_counter() - started
        return result
