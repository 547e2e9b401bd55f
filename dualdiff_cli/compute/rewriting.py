"""Recording the operations of a function, with matrix products written so that the compiler fuses more around them.

torch's compiler (Inductor) fuses everything but matrix products into loops. A product is a call of a library (oneDNN on
a CPU), and the memory before and behind the call is written and read again. On a CPU three kinds of product are
therefore replaced by equal operations. Each replacement is one entry in `REPLACED`, and any entry may be deleted:
results stay the same up to rounding, and only time is lost. The measured gains (benchmarks/rewriting.py and
docs/performance.md, one thread of an AMD EPYC, bfloat16) are given in share of the time.

- A product with a bias, x w + b, becomes a product and a sum. The compiler puts the sum into the loop that applies the
  activation behind it, and adds in float32 although the product is in bfloat16. Gain: GAIN_BIAS.
- A product with up to three columns, such as the last layer's, becomes sums of x times a column. The compiler puts them
  into the loop that computes x, so that x is neither written to memory nor read again. Gain: GAIN_NARROW.
- Rounding a transposed matrix to bfloat16 becomes rounding the matrix as it lies in memory, and transposing the result,
  which moves no data. Without the replacement the loop reads memory in large strides. Gain: GAIN_ROUNDED.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

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


def _as_it_lies(x: Tensor, **to: Any) -> Any:
    """Replace the conversion of a transposed matrix by the conversion of the matrix itself."""
    transposed = x.dim() == 2 and x.stride(0) == 1 < x.stride(1)
    return aten._to_copy.default(x.t(), **to).t() if transposed else NotImplemented


REPLACED: dict[torch._ops.OpOverload, Callable[..., Any]] = {
    aten.addmm.default: _apart(torch.mm),
    aten.baddbmm.default: _apart(torch.bmm),
    aten.mm.default: _columnwise,
    aten.bmm.default: _columnwise,
    aten._to_copy.default: _as_it_lies,
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

    operations = make_fx(lambda *own: function(*own), decomposition_table=REPLACED)(*(arg.clone() for arg in args))
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
