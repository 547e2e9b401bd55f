"""A function of tensors, compiled as a whole: a training step with its gradients and its update, or a denoiser."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from .errors import DeviceError

__all__ = ["Compiled", "write_down"]

R = TypeVar("R")
aten = torch.ops.aten

LARGE = 2**20
"""Numbers in a factor from which copying it costs more than a further product does to start."""
NARROW = 3
"""Columns of a product up to which it is better made in the loop before it than by a product's kernel."""
FAR_LARGER = 1024
"""How many times as large a tensor must be for what enters into it to be stored first."""


def _apart(product: Callable[[Tensor, Tensor], Tensor], bias: Tensor, x: Tensor, w: Tensor) -> Tensor:
    """Make the product, and add the bias in float32: the compiler puts that into one loop with what follows."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return (product(x, w).to(wide) + bias.to(wide)).to(x.dtype)


def _grouped(x: Tensor, w: Tensor) -> Tensor:
    """Make a batched product; where all factors are the same large one, which a CPU would copy, as many plain ones."""
    if not x.is_cpu or x.stride(0) or x[0].numel() < LARGE:
        return torch.bmm(x, w)
    return torch.stack([torch.mm(x[0], w_i) for w_i in w.unbind()])


def _narrow(x: Tensor, w: Tensor) -> Any:
    """Make a product with a few columns on a CPU as sums, which the compiler puts into the loop that makes the rows."""
    if not x.is_cpu or w.shape[-1] > NARROW or x.stride(-1) != 1:
        return NotImplemented
    wide = torch.promote_types(x.dtype, torch.float32)
    columns = (column.to(wide).contiguous().unsqueeze(-2) for column in w.unbind(-1))
    return torch.stack([(x.to(wide) * column).sum(-1) for column in columns], dim=-1).to(x.dtype)


def _rounded(x: Tensor, **to: Any) -> Any:
    """Round a transposed matrix as it lies in memory; the compiler would turn it as well."""
    turned = x.dim() == 2 and x.stride(0) == 1 < x.stride(1)
    return aten._to_copy.default(x.t(), **to).t() if turned else NotImplemented


REWRITTEN: dict[torch._ops.OpOverload, Callable[..., Any]] = {
    aten.addmm.default: partial(_apart, aten.mm),
    aten.baddbmm.default: partial(_apart, _grouped),
    aten.mm.default: _narrow,
    aten.bmm.default: _narrow,
    aten._to_copy.default: _rounded,
}
"""Operations that the compiler is given as others."""


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


def _keep_small(operations: torch.fx.GraphModule) -> None:
    """Have what is small and enters into something far larger worked out once, and not once an element.

    So are the factor that clips a gradient, the denoiser's coefficients and the first layer's bias, in sampling: the
    compiler puts them into the loops that use them, where roots and quotients cost more than all the rest. It stores
    what is asked for by its strides, even if these are what they were.
    """
    graph = operations.graph
    for node in graph.nodes:
        largest = max((_size(user) for user in node.users), default=0)
        if node.op == "call_function" and 0 < FAR_LARGER * _size(node) <= largest:
            meta = node.meta["tensor_meta"]
            if meta.memory_format is not torch.contiguous_format:
                continue  # what is stored is stored without gaps
            with graph.inserting_after(node):
                kept = graph.call_function(aten.as_strided.default, (node, list(meta.shape), list(meta.stride)))
            node.replace_all_uses_with(kept, delete_user_cb=lambda user, kept=kept: user is not kept)
    operations.recompile()


def _size(node: torch.fx.Node) -> int:
    """How many numbers an operation gives; 0 if that is not one tensor."""
    shape: torch.Size | None = getattr(node.meta.get("tensor_meta"), "shape", None)
    return 0 if shape is None else shape.numel()


def write_down(function: Callable[..., Any], args: Sequence[Tensor]) -> torch.fx.GraphModule:
    """Call a function on copies of its arguments, and give the list of its operations as they are to be compiled.

    Args:
        function: as of `Compiled`.
        args: at least one; of the shapes and on the device that it will be called with.

    Raises:
        Exception: whatever the function does, or the tracer where the function looks at a value.

    """
    from torch.fx.experimental.proxy_tensor import make_fx

    operations = make_fx(lambda *own: function(*own), decomposition_table=REWRITTEN)(*(arg.clone() for arg in args))
    if args[0].is_cpu:  # a GPU has a kernel more to launch for each
        _keep_small(operations)
    return operations


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
        from torch._inductor import standalone_compile

        started = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the compiler's about its own parts
                operations = write_down(self._function, args)
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
