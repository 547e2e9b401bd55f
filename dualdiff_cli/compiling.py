"""A function of tensors, compiled as a whole: a training step with its gradients and its update, or a denoiser."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from .errors import DeviceError

__all__ = ["Compiled"]

R = TypeVar("R")
Options = dict[str, str | int | bool | Callable[..., Any]]
aten = torch.ops.aten


def _apart(product: Callable[[Tensor, Tensor], Tensor], bias: Tensor, x: Tensor, w: Tensor) -> Tensor:
    """Make the product, and add the bias in float32: the compiler puts that into one loop with what follows."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return (product(x, w).to(wide) + bias.to(wide)).to(x.dtype)


APART = {aten.addmm.default: partial(_apart, aten.mm), aten.baddbmm.default: partial(_apart, aten.bmm)}
"""Products with a bias, taken apart."""


class Compiled(Generic[R]):
    """A function of tensors that is compiled as a whole on its first call; where that fails the plain one goes on.

    Its operations are written down one by one as it is called on copies of its arguments, gradients that it takes of
    itself and what it writes in place included, and the list is what is compiled. What the function holds besides its
    arguments is looked up where it is, so that the compiler's cache serves other data and other weights, too.

    Args:
        function: of tensors whose shapes do not change; it must not look at their values.
        otherwise: what goes on where compiling fails; None is the function itself.
        required: raise instead of going on plainly with a warning.

    Attributes:
        seconds: what compiling took, the first call included.
        failure: why the plain function went on, if it did.

    """

    def __init__(
        self, function: Callable[..., R], *, otherwise: Callable[..., R] | None = None, required: bool = False
    ) -> None:
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
        from torch.fx.experimental.proxy_tensor import make_fx

        started = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the compiler's about its own parts
                operations = make_fx(lambda *own: self._function(*own), decomposition_table=APART)(
                    *(argument.clone() for argument in args)
                )
                # Whether a call is like the first one is not asked each time: by the class's contract it is.
                options: Options = {"guard_filter_fn": lambda guards: [False] * len(guards)}
                compiled: Callable[..., R] = torch.compile(operations, dynamic=False, fullgraph=True, options=options)
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
