"""Recording the operations of a function, and replacing some by equal ones that torch's compiler fuses better.

torch's compiler (Inductor) fuses neighbouring operations into one loop, except matrix products. A product is a call of
a library (oneDNN on a CPU), and everything before and behind the call goes through memory. The compiler also decides
by itself which intermediate values it stores and which it computes again in every loop that needs them. On a CPU three
changes help. Each may be deleted, an entry of `REPLACED` or `_store_small`: results stay the same up to rounding, and
only time is lost. Gains are shares of the CPU time of the dual-expert in bfloat16 on an AMD EPYC.

- A product with a bias, b + x w, becomes a product and a sum. The compiler puts the sum into the loop of the activation
  that follows, and adds in float32 although the product is in bfloat16. Gain: 13 % of sampling, 4 % of a training step.
- A product with up to three columns, such as the last layer's, becomes sums of x times one column. The compiler puts
  the sums into the loop that computes x, so that x is not written to memory. Gain: 3 % of sampling, nothing of a step.
- A value that is far smaller than the results computed from it, such as the factor of gradient clipping, is stored. By
  itself the compiler computes the value, with its roots and quotients, again for every number of the result. Gain: 4 %
  of sampling, 2 % of a step.

Before these replacements, `accumulation.AccumulatedProducts` lets products of residual blocks be added in place.
Together with `compiling.Compiled` the rewriting takes 0.86 to 0.95 of the CPU time of `torch.compile` with one thread,
and 0.70 to 0.78 in sampling in float32 with two threads (benchmarks/rewriting.py; docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .accumulation import AccumulatedProducts

__all__ = ["write_down"]

aten = torch.ops.aten

FEW_COLUMNS = 3
"""Largest number of columns of a product that is replaced by sums; from four columns on a product is as fast."""
FAR_LARGER = 1024
"""How many times as many numbers a result must have as a value for the value to be stored."""


def _widened(x: Tensor) -> Tensor:
    """Convert to float32, or leave a wider format as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _apart(product: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Any]:
    """Make the replacement of a product with a bias, b + x w."""

    def product_and_sum(b: Tensor, x: Tensor, w: Tensor, **scales: Any) -> Any:
        if scales:  # torch allows factors before b and x w; our networks have none
            return NotImplemented
        return (_widened(product(x, w)) + _widened(b)).to(x.dtype)

    return product_and_sum


def _columnwise(x: Tensor, w: Tensor) -> Any:
    """Replace a product x w (…, n, k) × (…, k, m) with m ≤ 3 columns by sums over k."""
    if not x.is_cpu or w.shape[-1] > FEW_COLUMNS or x.stride(-1) != 1:
        return NotImplemented
    columns = (_widened(column).contiguous().unsqueeze(-2) for column in w.unbind(-1))
    return torch.stack([(_widened(x) * column).sum(-1) for column in columns], dim=-1).to(x.dtype)


REPLACED: dict[torch._ops.OpOverload, Callable[..., Any]] = {
    aten.addmm.default: _apart(torch.mm),
    aten.baddbmm.default: _apart(torch.bmm),
    aten.mm.default: _columnwise,
    aten.bmm.default: _columnwise,
}
"""Operations and their replacements; a replacement that gives NotImplemented leaves the operation as it is."""


def write_down(function: Callable[..., Any], args: Sequence[Tensor]) -> torch.fx.GraphModule:
    """Record the operations of a function, on copies of the arguments.

    Args:
        function: a function of tensors; it must not read the tensors' values.
        args: at least one tensor, with the shapes and on the device of all later calls.

    Raises:
        Exception: whatever the function raises, or the tracer if the function reads a value.

    """
    from torch.fx.experimental.proxy_tensor import make_fx

    operations = make_fx(lambda *own: function(*own))(*(arg.clone() for arg in args))
    accumulated = AccumulatedProducts(operations, few_columns=FEW_COLUMNS).run
    operations = make_fx(accumulated, decomposition_table=REPLACED)(*(arg.clone() for arg in args))
    operations.graph.eliminate_dead_code()
    if args[0].is_cpu:  # on a GPU every stored value needs a kernel of its own
        _store_small(operations)
    return operations


def _store_small(operations: torch.fx.GraphModule) -> None:
    """Let the compiler store every value that is far smaller than the values computed from it.

    The compiler stores a value if an operation asks for the value's strides, even for the strides that it has anyway.
    """
    graph = operations.graph
    for node in graph.nodes:
        largest = max((_numbers(user) for user in node.users), default=0)
        if node.op != "call_function" or not 0 < FAR_LARGER * _numbers(node) <= largest:
            continue
        meta = node.meta["tensor_meta"]
        if meta.memory_format is not torch.contiguous_format:  # a stored value has no gaps between its numbers
            continue
        with graph.inserting_after(node):
            stored = graph.call_function(aten.as_strided.default, (node, list(meta.shape), list(meta.stride)))
        node.replace_all_uses_with(stored, delete_user_cb=lambda user, stored=stored: user is not stored)
    operations.recompile()


def _numbers(node: torch.fx.Node) -> int:
    """Give the size of an operation's result; 0 if the result is not one tensor."""
    shape: torch.Size | None = getattr(node.meta.get("tensor_meta"), "shape", None)
    return 0 if shape is None else shape.numel()
