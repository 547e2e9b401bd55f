"""Sums of matrix products that a CPU computes in place, in float32.

The residual blocks of a network compute h ← h + (x w + b), one after the other, for many rows. torch's compiler writes
x w to memory, reads it and h, and writes the sum. The library behind the product (oneDNN on a CPU) can add x w to h
while it computes the product. That saves two passes over a matrix of 10,240 × 256 numbers for each of the paper's
experts. The compiler has no such operation, so this file defines one, `add_product`, and puts it where it is correct.

Gain: most of the 22 to 30 % by which sampling in float32 on two threads is faster than with `torch.compile`. In
bfloat16 it loses 3 %: the sum is then rounded after every product (benchmarks/EARLIER.md). The file may be deleted,
with its use in `rewriting.write_down`: results stay the same up to rounding.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

__all__ = ["AccumulatedProducts"]

aten = torch.ops.aten

LARGE = 2**20
"""Least number of elements of a matrix to which products are added in place; smaller matrices stay in the cache."""
WITH_BIAS = {aten.addmm.default: aten.mm, aten.baddbmm.default: aten.bmm}
"""The products with a bias, b + x w, and the same products without it."""

torch.library.define("dualdiff::add_product", "(Tensor(a!) total, Tensor x, Tensor w) -> ()")
torch.library.register_fake("dualdiff::add_product")(lambda total, x, w: None)


@torch.library.impl("dualdiff::add_product", "CPU")
def _add_product(total: Tensor, x: Tensor, w: Tensor) -> None:
    """Add x w to the total; all three are matrices, or all three are batches of matrices."""
    if total.dim() == 2:
        total.addmm_(x, w)
    else:
        total.baddbmm_(x, w)


class _Sum(NamedTuple):
    """A matrix (or a batch of matrices) h = P + r: P holds products, r is one row of biases; P began as x w."""

    P: Tensor
    r: Tensor
    x: Tensor
    w: Tensor


class AccumulatedProducts(torch.fx.Interpreter):
    """Runs recorded operations and computes (P + r) + (x w + b) as (P + x w) + (r + b), with P + x w in place.

    Run under torch's tracer, it gives the list of operations with the replacement made. P itself is read only where
    P + r is needed; the compiler computes P + r in the loop of the operation that follows.

    Args:
        operations: the recorded operations, with products with a bias as single operations.
        few_columns: products with at most so many columns are replaced by sums later, and are no library calls.

    """

    def __init__(self, operations: torch.fx.GraphModule, *, few_columns: int) -> None:
        super().__init__(operations)
        self._few_columns = few_columns
        self._place = {node: i for i, node in enumerate(operations.graph.nodes)}
        self._sums: dict[torch.fx.Node, _Sum] = {}

    def run_node(self, node: torch.fx.Node) -> Any:
        """Run one operation, and forget the sums that no later operation uses: they are large."""
        value = self._run(node)
        for unused in self.user_to_last_uses.get(node, []):
            self._sums.pop(unused, None)
        return value

    def _run(self, node: torch.fx.Node) -> Any:
        args = cast(Any, node.args)
        if node.target in WITH_BIAS and not node.kwargs:
            b, x, w = cast(Any, self.map_nodes_to_values(args, node))
            if not _is_float32_on_cpu(x):
                return super().run_node(node)
            self._sums[node] = _Sum(WITH_BIAS[node.target](x, w), b, x, w)
        elif node.target is aten.add.Tensor and not node.kwargs and self._can_accumulate(args[0], args[1], node):
            h, y = self._sums[args[0]], self._sums[args[1]]
            torch.ops.dualdiff.add_product(h.P, y.x, y.w)
            self._sums[node] = h._replace(r=h.r + y.r)
        else:
            return super().run_node(node)
        return self._sums[node].P + self._sums[node].r

    def _can_accumulate(self, h: Any, y: Any, node: torch.fx.Node) -> bool:
        """Tell whether `node` = h + y adds a product y to a large sum h whose former value nothing needs afterwards.

        The compiler may recompute an intermediate value where it is used; if P was updated in place meanwhile, the
        result is wrong. So everything that is computed from h must either be used before `node` only, or be a factor
        of a matrix product before `node`: the compiler stores the factors of a product and does not recompute them.
        """
        if h not in self._sums or y not in self._sums or y.target not in WITH_BIAS or h is y:
            return False
        P = self._sums[h].P
        if P.numel() < LARGE or P.shape != self._sums[y].P.shape:
            return False
        open_to_recomputation = [h]
        for value in open_to_recomputation:
            earlier = [user for user in value.users if self._place[user] < self._place[node]]
            if any(self._is_factor(value, user) for user in earlier):
                continue
            if any(self._place[user] > self._place[node] for user in value.users):
                return False
            open_to_recomputation += earlier
        return True

    def _is_factor(self, value: torch.fx.Node, user: torch.fx.Node) -> bool:
        """Tell whether a value is a factor, not the bias, of a matrix product that stays a library call."""
        if user.target not in WITH_BIAS or value not in user.args[1:]:
            return False
        columns: int = user.meta["tensor_meta"].shape[-1]
        return columns > self._few_columns


def _is_float32_on_cpu(x: Tensor) -> bool:
    return x.is_cpu and x.dtype is torch.float32
