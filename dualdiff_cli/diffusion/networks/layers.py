"""The layers of E MLPs of the same shape, which are evaluated together: one batched matrix product per layer.

The products are small, and calling a kernel takes as long as computing a small product, so one batched call is faster
than E calls. The weights of a layer are one tensor (E, in, out), so neither the product nor its gradient copies them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...config.sections import Activation

__all__ = ["GroupedLinear", "ResidualBlock", "SplitLinear", "Trunk", "round_products"]


class GroupedLinear(nn.Module):
    """x_i W_i + b_i for each of E groups, as one batched product.

    The first axis of the result is the group. A layer with one group, or with one chosen group, has no such axis. The
    weights are undefined until `reset` has drawn them.

    Args:
        groups: E.
        width_in, width_out: the widths of the input and the output of every group.

    """

    def __init__(self, groups: int, width_in: int, width_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(groups, width_in, width_out))
        self.bias = nn.Parameter(torch.empty(groups, 1, width_out))

    @torch.no_grad()
    def reset(self, group: int, generator: torch.Generator) -> None:
        """Draw the weights and the bias of one group from U(−1/√width_in, 1/√width_in), as torch's linear layers do."""
        _, width_in, width_out = self.weight.shape

        def uniform(*shape: int) -> Tensor:
            bound = width_in**-0.5
            return torch.empty(shape, device=generator.device).uniform_(-bound, bound, generator=generator)

        self.weight[group], self.bias[group] = uniform(width_out, width_in).T, uniform(1, width_out)

    def forward(self, x: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Apply each group to its own rows, or all groups to the same rows.

        Args:
            x: (n, width_in), the same rows for all groups, or (E, n, width_in).
            chosen: the number of the only group to evaluate, (1,). The number stays a tensor: reading it would make the
                program wait for a GPU and leave a constant in a traced graph.

        Returns:
            (E, n, width_out); (n, width_out) for a layer with one group or a chosen group.

        """
        return self._product(x, *self._wanted(chosen))

    def _wanted(self, chosen: Tensor | None) -> tuple[Tensor, Tensor]:
        if chosen is None:
            return self.weight, self.bias
        return self.weight.index_select(0, chosen), self.bias.index_select(0, chosen)

    @staticmethod
    def _product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if len(weight) == 1:
            return functional.linear(x, weight.squeeze(0).t(), bias.flatten())
        return torch.baddbmm(bias, x.expand(len(weight), -1, -1), weight)


class SplitLinear(GroupedLinear):
    """A `GroupedLinear` on the concatenation [e_x, e_t].

    If e_t is a single row, the product with e_t is computed once and added to all rows as a bias.

    Args:
        groups: E.
        width_x, width_t: the widths of e_x and e_t.
        width_out: the width of the output.

    """

    def __init__(self, groups: int, width_x: int, width_t: int, width_out: int) -> None:
        super().__init__(groups, width_x + width_t, width_out)
        self.width_x = width_x

    def forward(self, e_x: Tensor, e_t: Tensor, chosen: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Apply the layer to [e_x, e_t].

        Args:
            e_x: (n, width_x) or (E, n, width_x).
            e_t: (n or 1, width_t) or (E, n or 1, width_t).
            chosen: see `GroupedLinear.forward`.

        Returns:
            As `GroupedLinear.forward`; with width_x = 0, as many rows as e_t has.

        """
        weight, bias = self._wanted(chosen)
        if not self.width_x:
            return self._product(e_t, weight, bias)
        if e_t.shape[-2] > 1:
            return self._product(torch.cat([e_x, e_t], dim=-1), weight, bias)
        row = self._product(e_t, weight[:, self.width_x :], bias)
        return self._product(e_x, weight[:, : self.width_x], row.reshape(bias.shape))


class ResidualBlock(nn.Module):
    """h + Linear(act(h + b_t)), where b_t = Linear(e_t) starts at zero.

    Args:
        groups: E.
        width: the width of h.
        activation: act.
        width_t: the width of e_t; 0 for a block without b_t.

    """

    def __init__(self, groups: int, width: int, *, activation: Activation, width_t: int) -> None:
        super().__init__()
        self.activation = getattr(functional, activation)
        self.linear = GroupedLinear(groups, width, width)
        self.time = GroupedLinear(groups, width_t, width) if width_t else None

    @torch.no_grad()
    def reset(self, group: int, generator: torch.Generator) -> None:
        """Draw the weights of one group; those of b_t become zero."""
        self.linear.reset(group, generator)
        if self.time is not None:
            self.time.weight[group] = 0
            self.time.bias[group] = 0

    def forward(self, h: Tensor, e_t: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Map h, (E, n, width) or (n, width), and e_t, (n or 1, width_t) or (E, n or 1, width_t), to the shape of h."""
        shifted = h if self.time is None else h + self.time(e_t, chosen)
        output: Tensor = h + self.linear(self.activation(shifted), chosen)
        return output


class Trunk(nn.Module):
    """E MLPs of the same shape on the embeddings: a first layer, residual blocks, and a head.

    Experts and gates are trunks. The weights are undefined until `reset` has drawn them.

    Args:
        groups: E.
        width_x, width_t: the widths of the embeddings of point and time.
        width, blocks: the width and the number of residual blocks.
        head_hidden: the widths of the hidden layers of the head.
        out: the width of the output.
        activation: the nonlinearity between layers.
        time_bias: whether every residual block receives the embedded time, in addition to the first layer.

    """

    def __init__(
        self,
        groups: int,
        width_x: int,
        width_t: int,
        *,
        width: int,
        blocks: int,
        head_hidden: Sequence[int],
        out: int,
        activation: Activation,
        time_bias: bool,
    ) -> None:
        super().__init__()
        self.activation = getattr(functional, activation)
        self.first = SplitLinear(groups, width_x, width_t, width)
        told = width_t if time_bias else 0
        self.blocks = nn.ModuleList(
            ResidualBlock(groups, width, activation=activation, width_t=told) for _ in range(blocks)
        )
        self.head = nn.ModuleList(GroupedLinear(groups, a, b) for a, b in pairwise([width, *head_hidden, out]))

    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights, one MLP after the other, so that the first MLP has the weights that it would have alone."""
        for group in range(len(self.first.weight)):
            for layer in (self.first, *self.blocks, *self.head):
                layer.reset(group, generator)

    def forward(self, e_x: Tensor, e_t: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Evaluate the MLPs.

        Args:
            e_x: the embedded points, (n, width_x) or (E, n, width_x).
            e_t: the embedded times, (n or 1, width_t) or (E, n or 1, width_t).
            chosen: see `GroupedLinear.forward`.

        Returns:
            (E, n, out); (n, out) for one group or a chosen group.

        """
        h: Tensor = self.first(e_x, e_t, chosen)
        for block in self.blocks:
            h = block(h, e_t, chosen)
        for layer in self.head:
            h = layer(self.activation(h), chosen)
        return h


def round_products(network: nn.Module, dtype: torch.dtype) -> None:
    """Round the weights of all matrix products to a lower precision, in place.

    Autocast would round the weights again in every call. Biases stay as they are: they are small, and a compiled
    product adds them in float32.
    """
    for layer in network.modules():
        if isinstance(layer, GroupedLinear):
            layer.weight.data = layer.weight.data.to(dtype)
