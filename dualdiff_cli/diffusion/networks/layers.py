"""The layers of E MLPs of one shape, evaluated together: a batched product a layer in place of one an MLP and layer.

Small products are slow for what surrounds them, and two in one call share that; their weights lie together, (E, in,
out), so that neither a product nor its gradient has to move them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["GroupedLinear", "ResidualBlock", "SplitLinear", "Trunk", "round_products"]

Activation = Literal["relu", "silu"]


class GroupedLinear(nn.Module):
    """x_i W_i + b_i for each of E groups: one batched product in place of E.

    The groups have an axis of their own, before the rows; where there is one group, or one that is chosen, there is
    no such axis.

    Args:
        groups: E.
        width_in, width_out: of every group.

    """

    def __init__(self, groups: int, width_in: int, width_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(groups, width_in, width_out))
        self.bias = nn.Parameter(torch.empty(groups, 1, width_out))

    @torch.no_grad()
    def reset(self, group: int) -> None:
        """Draw one group's weights as torch's linear layers do: uniform up to 1/√width_in."""
        _, width_in, width_out = self.weight.shape
        bound = width_in**-0.5
        self.weight[group] = torch.empty(width_out, width_in, device=self.weight.device).uniform_(-bound, bound).T
        self.bias[group] = torch.empty(1, width_out, device=self.bias.device).uniform_(-bound, bound)

    def forward(self, x: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Map each group's rows, or the same rows by each.

        Args:
            x: (n, width_in) or (E, n, width_in).
            chosen: the number of the only group that is wanted, (1,); its weights are selected where they are: a number
                that had to be known here would be a wait for a GPU, and a constant in a traced graph.

        Returns:
            (E, n, width_out), or (n, width_out) of one group.

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
    """GroupedLinear on [e_x, e_t], where e_t may be a single row: then what it gives is a bias for all rows of e_x."""

    def __init__(self, groups: int, width_x: int, width_t: int, width_out: int) -> None:
        super().__init__(groups, width_x + width_t, width_out)
        self.width_x = width_x

    def forward(self, e_x: Tensor, e_t: Tensor, chosen: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """e_x (n, width_x), e_t (n or 1, width_t), with or without an axis of groups; as `GroupedLinear.forward`.

        Without e_x's columns there are as many rows as e_t has.
        """
        weight, bias = self._wanted(chosen)
        if not self.width_x:
            return self._product(e_t, weight, bias)
        if e_t.shape[-2] > 1:
            return self._product(torch.cat([e_x, e_t], dim=-1), weight, bias)
        row = self._product(e_t, weight[:, self.width_x :], bias)
        return self._product(e_x, weight[:, : self.width_x], row.reshape(bias.shape))


class ResidualBlock(nn.Module):
    """h + Linear(act(h + b_t)), with a bias b_t = Linear(e_t) that starts at zero, or without one."""

    def __init__(self, groups: int, width: int, *, activation: Activation, width_t: int) -> None:
        super().__init__()
        self.activation = getattr(functional, activation)
        self.linear = GroupedLinear(groups, width, width)
        self.time = GroupedLinear(groups, width_t, width) if width_t else None

    def reset(self, group: int) -> None:
        """Draw one group's weights."""
        self.linear.reset(group)
        if self.time is not None:
            self.time.reset(group)
            with torch.no_grad():
                self.time.weight[group] = 0
                self.time.bias[group] = 0

    def forward(self, h: Tensor, e_t: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Map h (E, n, width) or (n, width) of one group, e_t (n or 1, width_t) or one each → as h."""
        shifted = h if self.time is None else h + self.time(e_t, chosen)
        output: Tensor = h + self.linear(self.activation(shifted), chosen)
        return output


class Trunk(nn.Module):
    """E MLPs of one shape on the embedding: first layers, residual blocks, heads. Experts and gate are of this kind.

    Args:
        groups: E.
        width_x, width_t: of the embeddings of point and time.
        width, blocks: of the body.
        head_hidden: hidden widths of the head.
        out: outputs.
        activation: between layers.
        time_bias: whether every block is told the time, and not the first layer only.

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
        for group in range(groups):  # one MLP after the other, so that each is what it would be alone
            for layer in (self.first, *self.blocks, *self.head):
                layer.reset(group)

    def forward(self, e_x: Tensor, e_t: Tensor, chosen: Tensor | None = None) -> Tensor:
        """e_x (n, width_x), e_t (n or 1, width_t), or one each → (E, n, out), or (n, out) of one group."""
        h: Tensor = self.first(e_x, e_t, chosen)
        for block in self.blocks:
            h = block(h, e_t, chosen)
        for layer in self.head:
            h = layer(self.activation(h), chosen)
        return h


def round_products(network: nn.Module, dtype: torch.dtype) -> None:
    """Keep the weights of all products in a lower precision, in place, in which autocasting would round them anew.

    Biases stay what they are; they are small, and added in float32 where the product is compiled.
    """
    for layer in network.modules():
        if isinstance(layer, GroupedLinear):
            layer.weight.data = layer.weight.data.to(dtype)
