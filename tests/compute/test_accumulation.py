from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dualdiff_cli.compute.accumulation import LARGE
from dualdiff_cli.compute.compiling import Compiled
from dualdiff_cli.compute.rewriting import write_down
from dualdiff_cli.seeding import torch_stream


def normal(*shape: int, role: str) -> Tensor:
    return torch.randn(*shape, generator=torch_stream(0, role))


def residual_network(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    h = torch.baddbmm(b, x, w)
    for _ in range(2):
        h = h + torch.baddbmm(b, h.relu(), w)
    return h.relu()


@pytest.mark.parametrize(
    ("rows", "dtype", "in_place"),
    [(LARGE // 16, torch.float32, 2), (LARGE // 16 - 1, torch.float32, 0), (LARGE // 16, torch.bfloat16, 0)],
    ids=["large", "small", "bfloat16"],
)
def test_products_are_added_in_place_to_large_sums_in_float32(rows: int, dtype: torch.dtype, in_place: int) -> None:
    x, w, b = (normal(2, *shape, role=str(shape)).to(dtype) for shape in [(rows, 8), (8, 8), (1, 8)])
    listed = write_down(residual_network, (x, w, b))
    assert listed.code.count("dualdiff.add_product.") == in_place
    assert listed.code.count("aten.bmm.") == 3 - in_place  # no product is computed twice
    exact = residual_network(x.double(), w.double(), b.double())
    for found in (listed(x, w, b), Compiled(residual_network, required=True)(x, w, b)):
        assert found.dtype == dtype
        assert float((found - exact).norm()) < 4 * torch.finfo(dtype).eps * float(exact.norm())


def head(h: Tensor, w: Tensor) -> Tensor:
    """Give a product with one column, which is replaced by sums and so does not make the compiler store a factor."""
    return torch.addmm(w[0, :1], h.sin(), w[:, :1])


@pytest.mark.parametrize(
    ("end", "in_place"),
    [
        (lambda h, y, w: (h + y,), 1),
        (lambda h, y, w: (h + y, y), 1),
        (lambda h, y, w: (y + h,), 1),
        (lambda h, y, w: (h + h,), 0),
        (lambda h, y, w: (h + y, h), 0),
        (lambda h, y, w: (h + y, h + y.sin()), 0),
        (lambda h, y, w: (h.sin(), h + y), 0),
        (lambda h, y, w: (h.view(-1), h + y), 0),
        (lambda h, y, w: (head(h, w), h + y), 0),
        (lambda h, y, w: (torch.addmm(h, y, w), h + y), 0),
        (lambda h, y, w: (h.sin().sum(0), h + y), 0),
    ],
)
def test_a_sum_that_is_needed_later_keeps_its_value(end: Callable[..., tuple[Tensor, ...]], in_place: int) -> None:
    """The compiler may recompute an intermediate value where it is used, from what the sum has become by then."""
    x, w = normal(LARGE // 8, 8, role="x"), normal(8, 8, role="w")

    def function(x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        h, y = torch.addmm(w[0], x, w), torch.addmm(w[1], x.relu(), w)
        return end(h, y, w)

    listed = write_down(function, (x, w))
    assert listed.code.count("dualdiff.add_product.") == in_place
    for found in (listed(x, w), Compiled(function, required=True)(x, w)):
        for value, exact in zip(found, function(x.double(), w.double()), strict=True):
            torch.testing.assert_close(value.double(), exact, rtol=1e-4, atol=1e-4)
