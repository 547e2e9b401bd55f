"""A function's list of operations, written down as a compiler for CPUs makes the most of it.

Each rewriting says the same in other words: as a loop is filled, as memory is read, or as a kernel is called. What pays
was measured (docs/performance.md); a compiler left alone does none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor

__all__ = ["write_down"]

aten = torch.ops.aten
Product: TypeAlias = Callable[[Tensor, Tensor], Tensor]

LARGE = 2**20
"""Numbers from which a pass over a matrix costs more than a further kernel does to start."""
NARROW = 3
"""Columns of a product up to which it is better made in the loop before it than by a product's kernel."""
FAR_LARGER = 1024
"""How many times as large a tensor must be for what enters into it to be stored first."""


torch.library.define("dualdiff::add_product", "(Tensor(a!) total, Tensor x, Tensor w) -> ()")
torch.library.register_fake("dualdiff::add_product")(lambda total, x, w: None)


@torch.library.impl("dualdiff::add_product", "CPU")
def _add_product(total: Tensor, x: Tensor, w: Tensor) -> None:
    """Add x w to the total, matrices or batches of them; the compiler has no operation that does so in place."""
    if total.dim() == 2:
        total.addmm_(x, w)
    else:
        total.baddbmm_(x, w)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _is_large(x: Tensor) -> bool:
    return x.is_cpu and x.numel() >= LARGE


def _grouped(x: Tensor, w: Tensor) -> Tensor:
    """Make a batched product; where all factors are the same large one, which a CPU would copy, as many plain ones."""
    if x.stride(0) or not _is_large(x[0]):
        return torch.bmm(x, w)
    return torch.stack([torch.mm(x[0], w_i) for w_i in w.unbind()])


def _narrow(x: Tensor, w: Tensor) -> Any:
    """Make a product with a few columns on a CPU as sums, which the compiler puts into the loop that makes the rows."""
    if not x.is_cpu or w.shape[-1] > NARROW or x.stride(-1) != 1:
        return NotImplemented
    columns = (column.to(_wide(x)).contiguous().unsqueeze(-2) for column in w.unbind(-1))
    return torch.stack([(x.to(_wide(x)) * column).sum(-1) for column in columns], dim=-1).to(x.dtype)


def _rounded(x: Tensor, **to: Any) -> Any:
    """Round a transposed matrix as it lies in memory; the compiler would turn it as well."""
    turned = x.dim() == 2 and x.stride(0) == 1 < x.stride(1)
    return aten._to_copy.default(x.t(), **to).t() if turned else NotImplemented


REWRITTEN: dict[torch._ops.OpOverload, Callable[..., Any]] = {
    aten.mm.default: _narrow,
    aten.bmm.default: _narrow,
    aten._to_copy.default: _rounded,
}
"""Operations that are written down as others, whatever is around them."""

PRODUCTS: dict[Any, Product] = {aten.addmm.default: aten.mm, aten.baddbmm.default: _grouped}
"""Products with a bias, and how they are made without."""


class _Sum(NamedTuple):
    """A tensor as a matrix, or several, and what is added to every row: h = P + r, where P is x w at first."""

    P: Tensor
    r: Tensor
    x: Tensor
    w: Tensor


class _Apart(torch.fx.Interpreter):
    """Does a list of operations with products and biases apart, and with large sums of products made in place.

    The product x w + b is made as (x w) + b, with the bias added in float32: the compiler puts that into one loop with
    what follows. Where it is added to what is such a sum itself, h = P + r, that becomes (P + x w) + (r + b): the
    product's kernel adds to P as it writes, and P is read once in place of twice or more.
    """

    def __init__(self, operations: torch.fx.GraphModule) -> None:
        super().__init__(operations)
        self._place = {node: i for i, node in enumerate(operations.graph.nodes)}
        self._sums: dict[torch.fx.Node, _Sum] = {}

    def run_node(self, node: torch.fx.Node) -> Any:
        """Do an operation."""
        value = self._value(node)
        for unused in self.user_to_last_uses.get(node, []):  # they hold activations of many points
            self._sums.pop(unused, None)
        return value

    def _value(self, node: torch.fx.Node) -> Any:
        args = cast(Any, node.args)
        if node.target in PRODUCTS and not node.kwargs:
            bias, x, w = cast(Any, self.map_nodes_to_values(args, node))
            self._sums[node] = _Sum(PRODUCTS[node.target](x, w), bias.to(_wide(x)), x, w)
        elif node.target is aten.add.Tensor and not node.kwargs and self._goes_in_place(args[0], args[1], node):
            h, y = (self._sums[part] for part in args)
            torch.ops.dualdiff.add_product(h.P, y.x, y.w)
            self._sums[node] = h._replace(r=h.r + y.r)
        else:
            return super().run_node(node)
        P, r, *_ = self._sums[node]
        return (P.to(_wide(P)) + r).to(P.dtype)

    def _goes_in_place(self, h: Any, y: Any, node: torch.fx.Node) -> bool:
        """Whether node = h + y adds a product to a large sum of which, but for this, nothing is wanted any more.

        The compiler works out what it has not stored where it is used, and would do so from what P has become by then.
        It stores what enters into a product.
        """
        if h not in self._sums or y not in self._sums or y.target not in PRODUCTS or h is y:
            return False
        P = self._sums[h].P
        if not _is_large(P) or P.shape != self._sums[y].P.shape:
            return False
        made_of_it = [h]
        for made in made_of_it:
            former = [user for user in made.users if self._place[user] < self._place[node]]
            if any(_stores(user, made) for user in former):
                continue
            if any(self._place[user] > self._place[node] for user in made.users):
                return False
            made_of_it += former
        return True


def _stores(product: torch.fx.Node, factor: torch.fx.Node) -> bool:
    """Whether an operation is a product that is left to a kernel, and has this as a factor, not as its bias."""
    return product.target in PRODUCTS and factor in product.args[1:] and product.meta["tensor_meta"].shape[-1] > NARROW


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

    The list is called as well: what can be done at a place in it depends on what comes after.

    Args:
        function: of tensors; it must not look at their values.
        args: at least one; of the shapes and on the device that it will be called with.

    Raises:
        Exception: whatever the function does, or the tracer where the function looks at a value.

    """
    from torch.fx.experimental.proxy_tensor import make_fx

    operations = make_fx(lambda *own: function(*own))(*(arg.clone() for arg in args))
    apart = make_fx(_Apart(operations).run, decomposition_table=REWRITTEN)
    operations = apart(*(arg.clone() for arg in args))
    operations.graph.eliminate_dead_code()  # products that are made in place as well
    if args[0].is_cpu:  # a GPU has a kernel more to launch for each
        _keep_small(operations)
    return operations
