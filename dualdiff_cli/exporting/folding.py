"""A denoiser as a graph of operations, parted into what time decides and what depends on the points.

A sampler asks at times that are known beforehand. All that depends on the time alone (its embedding, the biases made
of it, a gate on time, the coefficients of the affine map) can then be computed once and stored, a row a time, and the
weights that made it are left behind: that is what makes an exported sampler smaller than the network it came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, fx, nn

__all__ = ["fold_constants", "part_by_time", "round_linear_layers", "trace"]

aten = torch.ops.aten
VIEWS = (aten.squeeze.dim, aten.slice.Tensor, aten.t.default, aten.flatten.using_ints)
"""Operations that show a tensor or a part of it otherwise, as the networks use them."""
PRODUCTS = (aten.linear.default, aten.baddbmm.default)
"""The networks' matrix products."""


def trace(
    denoiser: nn.Module, dim: int, dtype: torch.dtype, *, further: Mapping[str, Tensor] = MappingProxyType({})
) -> fx.GraphModule:
    """Give the graph of D for x_t (n, dim) of a dtype and any n ≥ 1, and t () float64, with constants folded.

    Args:
        denoiser: D, which has a schedule.
        dim, dtype: of the points.
        further: examples of further inputs of D, by name; a matrix has a row for each of two points.

    """
    points = torch.zeros(2, dim, dtype=dtype)
    t_max: float = denoiser.schedule.t_max  # type: ignore[union-attr, assignment]
    example = {"x_t": points, "t": torch.tensor(t_max, dtype=torch.float64), **further}
    n = torch.export.Dim("n", min=1)
    axes = tuple({0: n} if value.dim() > 1 else None for value in example.values())
    with torch.no_grad():
        program = torch.export.export(denoiser, tuple(example.values()), dynamic_shapes=axes, strict=False)
    traced = program.module(check_guards=False)
    inputs = [node for node in traced.graph.nodes if node.op == "placeholder"]
    graph = fx.Graph()
    copies = {node: graph.placeholder(name) for node, name in zip(inputs, example, strict=True)}
    for node in traced.graph.nodes:
        if node.op == "output":
            graph.output(copies[node.all_input_nodes[0]])
        elif node.op != "placeholder" and node.target is not aten._assert_tensor_metadata.default:
            copies[node] = graph.node_copy(node, lambda n: copies[n])
    folded = fold_constants(fx.GraphModule(traced, graph))
    _slice_before_selecting(folded.graph)
    return fold_constants(folded)


def fold_constants(module: fx.GraphModule) -> fx.GraphModule:
    """Compute what depends on no input, and hold it as buffers.

    A transposed constant stays one: a product rounds by the layout of its factors, and files keep but the plain one.
    """
    constant: dict[fx.Node, None] = {}
    for node in module.graph.nodes:
        leaf_or_computed = node.op not in ("placeholder", "output") and node.target is not aten.t.default
        if leaf_or_computed and all(argument in constant for argument in node.all_input_nodes):
            constant[node] = None
    values = _evaluate(module, list(constant))
    root, graph = nn.Module(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        if node not in values:
            copies[node] = graph.node_copy(node, lambda n: copies[n])
        elif any(user not in values for user in node.users):
            root.register_buffer(node.name, values[node])
            copies[node] = graph.get_attr(node.name)
    return fx.GraphModule(root, graph)


def part_by_time(module: fx.GraphModule) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Cut D(x_t, t) in two: t → what the points need of it, a tuple of tensors, and (x_t, *these) → x̂.

    Further inputs of D, such as given values, stand behind x_t. Of weights that the time chooses among, the points get
    the choice and not the weights, which every row of a table would repeat.
    """
    inputs = _inputs(module.graph)
    of_time = {node for node, names in inputs.items() if names == {"t"} and node.op != "output"}
    needed = {node for node in of_time if any(user not in of_time for user in node.users)}
    selections = {node: _selection(node) for node in needed}
    selected = {node for chain in selections.values() for node in chain}
    needed = {chain[-1].all_input_nodes[1] if (chain := selections[node]) else node for node in needed}
    cut = sorted(needed, key=list(module.graph.nodes).index)

    first, second = fx.Graph(), fx.Graph()
    in_first: dict[fx.Node, fx.Node] = {}
    in_second: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        if node in of_time or not inputs[node]:
            in_first[node] = first.node_copy(node, lambda n: in_first[n])
        if node.op == "placeholder" and node not in of_time:
            in_second[node] = second.node_copy(node)
    in_second |= {kept: second.placeholder(kept.name) for kept in cut}
    first.output(tuple(in_first[node] for node in cut))
    for node in module.graph.nodes:
        if (node not in of_time or node in selected) and node.op != "placeholder":
            in_second[node] = second.node_copy(node, lambda n: in_second[n])
    for graph in (first, second):
        graph.eliminate_dead_code()
    return fx.GraphModule(module, first), fx.GraphModule(module, second)


def _selection(node: fx.Node) -> list[fx.Node]:
    """Give the nodes from a view back to the selection among constants that it is a view of; none if it is not."""
    chain = [node]
    while chain[-1].target in VIEWS:
        chain.append(chain[-1].all_input_nodes[0])
    last = chain[-1]
    selects = last.target is aten.index_select.default and last.all_input_nodes[0].op == "get_attr"
    return chain if selects else []


def _slice_before_selecting(graph: fx.Graph) -> None:
    """Make a slice of a selected row, W[i:i+1, a:b], the selection from a constant slice, W[:, a:b][i:i+1]."""
    for node in list(graph.nodes):
        chain = _selection(node)
        if node.target is aten.slice.Tensor and len(chain) == 2:
            stack, first, index = chain[1].args
            with graph.inserting_before(node):
                part = graph.call_function(aten.slice.Tensor, (stack, *node.args[1:]))
                node.replace_all_uses_with(graph.call_function(aten.index_select.default, (part, first, index)))
    graph.eliminate_dead_code()


def round_linear_layers(module: fx.GraphModule, dtype: torch.dtype) -> None:
    """Do the matrix products in ``dtype`` and everything between them in float32, in place.

    What is left in float32 is cheap, and some of it cannot bear less: the sines of a fine embedding have arguments of
    hundreds of radians.
    """
    for node in [n for n in module.graph.nodes if n.target in PRODUCTS]:
        for term in node.all_input_nodes:
            constant = chain[-1].all_input_nodes[0] if (chain := _selection(term)) else term
            if constant.op == "get_attr":
                module.register_buffer(str(constant.target), getattr(module, str(constant.target)).to(dtype))
                continue
            with module.graph.inserting_before(node):
                node.replace_input_with(term, module.graph.call_function(aten.to.dtype, (term, dtype)))
        with module.graph.inserting_after(node):
            wide = module.graph.call_function(aten.to.dtype, (node, torch.float32))
            node.replace_all_uses_with(wide, delete_user_cb=lambda user, wide=wide: user is not wide)
    module.recompile()


def _inputs(graph: fx.Graph) -> dict[fx.Node, set[str]]:
    """Names of the inputs that each node depends on."""
    inputs: dict[fx.Node, set[str]] = {}
    for node in graph.nodes:
        inputs[node] = {node.name} if node.op == "placeholder" else set()
        inputs[node].update(*(inputs[argument] for argument in node.all_input_nodes))
    return inputs


@torch.no_grad()
def _evaluate(module: fx.GraphModule, nodes: list[fx.Node]) -> dict[fx.Node, Tensor]:
    """Compute nodes that need no input."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        copies[node] = graph.node_copy(node, lambda n: copies[n])
    graph.output(tuple(copies.values()))
    values = fx.GraphModule(module, graph)()
    return {node: value.detach().clone().contiguous() for node, value in zip(nodes, values, strict=True)}
