from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor

from dualdiff_cli.compute.compiling import Compiled
from dualdiff_cli.compute.rewriting import FAR_LARGER, LARGE, NARROW, write_down
from dualdiff_cli.diffusion.networks.layers import Trunk
from dualdiff_cli.seeding import torch_stream


@pytest.mark.parametrize(("rows", "plain"), [(LARGE // 64, 3), (LARGE // 64 - 1, 0)])
def test_a_large_factor_that_groups_share_is_multiplied_by_each_and_not_copied(rows: int, plain: int) -> None:
    draws = torch_stream(0, "test")
    x, w, b = (torch.randn(*shape, generator=draws) for shape in [(rows, 64), (3, 64, 8), (3, 1, 8)])
    function = lambda x, w, b: torch.baddbmm(b, x.expand(3, -1, -1), w)  # noqa: E731
    listed = write_down(function, (x, w, b))
    assert (listed.code.count("aten.mm."), listed.code.count("aten.bmm.")) == (plain, 0 if plain else 1)
    torch.testing.assert_close(listed(x, w, b), function(x, w, b))


@pytest.mark.parametrize("groups", [(), (2,)], ids=["one", "groups"])
@pytest.mark.parametrize(("columns", "products"), [(1, 0), (NARROW, 0), (NARROW + 1, 1)])
def test_a_product_with_few_columns_is_made_as_sums(groups: tuple[int, ...], columns: int, products: int) -> None:
    draws = torch_stream(0, "test")
    n = FAR_LARGER  # so many rows that the columns are stored first
    x, w = torch.randn(*groups, n, 40, generator=draws), torch.randn(*groups, 40, columns, generator=draws)
    function = lambda x, w: torch.matmul(x.relu(), w)  # noqa: E731
    listed = write_down(function, (x, w))
    assert listed.code.count("aten.mm.") + listed.code.count("aten.bmm.") == products
    exact = function(x.double(), w.double()).float()
    torch.testing.assert_close(listed(x, w), exact)
    torch.testing.assert_close(Compiled(function, required=True)(x, w), exact)


def test_a_product_down_the_columns_stays_one() -> None:
    listed = write_down(lambda x, g: x.t() @ g, (torch.randn(8, 5), torch.randn(8, 2)))
    assert listed.code.count("aten.mm.") == 1


def test_a_transposed_weight_is_rounded_as_it_lies() -> None:
    w = torch.randn(3, 5)
    function = lambda w: w.t().to(torch.bfloat16)  # noqa: E731
    listed = write_down(function, (w,))
    (rounding,) = listed.graph.find_nodes(op="call_function", target=torch.ops.aten._to_copy.default)
    assert rounding.meta["tensor_meta"].shape == w.shape
    assert torch.equal(listed(w), function(w))
    assert torch.equal(Compiled(function, required=True)(w), function(w))


@pytest.mark.parametrize(("n", "kept"), [(FAR_LARGER, 1), (FAR_LARGER - 1, 0)])
def test_a_number_that_many_are_made_with_is_worked_out_once(n: int, kept: int) -> None:
    x, s = torch.randn(n), torch.tensor(3.0)
    function = lambda x, s: x * (1 / s.sqrt())  # noqa: E731
    listed = write_down(function, (x, s))
    assert listed.code.count("aten.as_strided.") == kept
    assert torch.equal(listed(x, s), function(x, s))
    assert torch.equal(Compiled(function, required=True)(x, s), function(x, s))


def test_a_part_of_a_vector_is_still_that_part_in_a_large_batch() -> None:
    """Biases are parts of one vector, with an offset that storing them must not lose."""
    v, x = torch.arange(10.0), torch.zeros(FAR_LARGER, 2)
    assert torch.equal(Compiled(lambda v, x: x + v[3:5], required=True)(v, x), x + v[3:5])


def test_a_column_of_a_matrix_is_still_that_column_in_a_large_batch() -> None:
    """It has gaps in memory, which what is stored has not."""
    m, x = torch.randn(4, 3), torch.zeros(FAR_LARGER, 4)
    assert torch.equal(Compiled(lambda m, x: x + (2 * m)[:, 1], required=True)(m, x), x + (2 * m)[:, 1])


def residual_network(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Three layers, each added to what the ones before it gave."""
    h = torch.baddbmm(b, x, w)
    for _ in range(2):
        h = h + torch.baddbmm(b, h.relu(), w)
    return h.relu()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("rows", "in_place"), [(LARGE // 16, 2), (LARGE // 16 - 1, 0)])
def test_products_are_added_in_place_to_what_is_large(dtype: torch.dtype, rows: int, in_place: int) -> None:
    draws = torch_stream(0, "test")
    x, w, b = (torch.randn(2, *shape, generator=draws).to(dtype) for shape in [(rows, 8), (8, 8), (1, 8)])
    listed = write_down(residual_network, (x, w, b))
    assert listed.code.count("dualdiff.add_product.") == in_place
    assert listed.code.count("aten.bmm.") == 3 - in_place  # none is made as well
    exact = residual_network(x.double(), w.double(), b.double())
    for given in (listed(x, w, b), Compiled(residual_network, required=True)(x, w, b)):
        assert given.dtype == dtype
        assert (given - exact).norm() < 4 * torch.finfo(dtype).eps * exact.norm()


def head(h: Tensor, w: Tensor) -> Tensor:
    return torch.addmm(w[0, :1], h.sin(), w[:, :1])


@pytest.mark.parametrize(
    ("late", "in_place"),
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
def test_what_is_still_wanted_is_not_added_to(late: Callable[..., tuple[Tensor, ...]], in_place: int) -> None:
    """The compiler works out what it has not stored where it is used, from what lies there by then."""
    draws = torch_stream(0, "test")
    x, w = torch.randn(LARGE // 8, 8, generator=draws), torch.randn(8, 8, generator=draws)

    def function(x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        h, y = torch.addmm(w[0], x, w), torch.addmm(w[1], x.relu(), w)
        return late(h, y, w)

    listed = write_down(function, (x, w))
    assert listed.code.count("dualdiff.add_product.") == in_place
    for given in (listed(x, w), Compiled(function, required=True)(x, w)):
        for value, exact in zip(given, function(x.double(), w.double()), strict=True):
            torch.testing.assert_close(value.double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("time_bias", [False, True])
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_gradients_in_large_batches_are_the_plain_ones(activation: Literal["relu", "silu"], time_bias: bool) -> None:
    shape = {"width": 16, "blocks": 2, "head_hidden": [8], "out": 2}
    trunk = Trunk(2, 8, 4, **shape, activation=activation, time_bias=time_bias)
    names, parameters = zip(*trunk.named_parameters(), strict=True)
    e_x, e_t = torch.randn(LARGE // 32, 8), torch.randn(LARGE // 32, 4)

    def gradients(*leaves: Tensor) -> tuple[Tensor, ...]:
        own = [leaf.detach().requires_grad_() for leaf in leaves]
        output = torch.func.functional_call(trunk, dict(zip(names, own, strict=True)), (e_x, e_t))
        return torch.autograd.grad(output.square().mean(), own)

    for compiled, plain in zip(Compiled(gradients, required=True)(*parameters), gradients(*parameters), strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-6)
