from __future__ import annotations

from typing import Literal

import pytest
import torch

from dualdiff_cli.compute.compiling import Compiled
from dualdiff_cli.compute.rewriting import FAR_LARGER, FEW_COLUMNS, write_down
from dualdiff_cli.diffusion.networks.layers import Trunk
from dualdiff_cli.seeding import torch_stream


def normal(*shape: int, role: str = "test") -> torch.Tensor:
    return torch.randn(*shape, generator=torch_stream(0, role))


@pytest.mark.parametrize("groups", [(), (2,)], ids=["one", "groups"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_bias_is_added_in_float32_after_the_product(groups: tuple[int, ...], dtype: torch.dtype) -> None:
    b, x, w = (normal(*groups, *shape, role=str(shape)).to(dtype) for shape in [(1, 8), (50, 40), (40, 8)])
    function = (lambda b, x, w: torch.baddbmm(b, x, w)) if groups else (lambda b, x, w: torch.addmm(b[0], x, w))
    listed = write_down(function, (b, x, w))
    assert "addmm" not in listed.code
    assert "baddbmm" not in listed.code
    exact = function(b.double(), x.double(), w.double())
    for found in (listed(b, x, w), Compiled(function, required=True)(b, x, w)):
        assert found.dtype == dtype
        assert float((found - exact).norm()) < 4 * torch.finfo(dtype).eps * float(exact.norm())


@pytest.mark.parametrize("groups", [(), (2,)], ids=["one", "groups"])
@pytest.mark.parametrize(("columns", "products"), [(1, 0), (FEW_COLUMNS, 0), (FEW_COLUMNS + 1, 1)])
def test_a_product_with_few_columns_becomes_sums(groups: tuple[int, ...], columns: int, products: int) -> None:
    x, w = normal(*groups, 1024, 40), normal(*groups, 40, columns, role="w")
    function = lambda x, w: torch.matmul(x.relu(), w)  # noqa: E731
    listed = write_down(function, (x, w))
    assert listed.code.count("aten.mm.") + listed.code.count("aten.bmm.") == products
    exact = function(x.double(), w.double()).float()
    torch.testing.assert_close(listed(x, w), exact)
    torch.testing.assert_close(Compiled(function, required=True)(x, w), exact)


def test_a_product_over_the_rows_stays_a_product() -> None:
    listed = write_down(lambda x, g: x.t() @ g, (normal(8, 5), normal(8, 2)))
    assert listed.code.count("aten.mm.") == 1


@pytest.mark.parametrize(("n", "stored"), [(FAR_LARGER, 1), (FAR_LARGER - 1, 0)])
def test_a_number_that_many_results_need_is_computed_once(n: int, stored: int) -> None:
    x, s = normal(n), torch.tensor(3.0)
    function = lambda x, s: x * (1 / s.sqrt())  # noqa: E731
    listed = write_down(function, (x, s))
    assert listed.code.count("aten.as_strided.") == stored
    assert torch.equal(listed(x, s), function(x, s))
    assert torch.equal(Compiled(function, required=True)(x, s), function(x, s))


def test_a_part_of_a_vector_keeps_its_offset_when_it_is_stored() -> None:
    v, x = torch.arange(10.0), torch.zeros(FAR_LARGER, 2)
    assert torch.equal(Compiled(lambda v, x: x + v[3:5], required=True)(v, x), x + v[3:5])


def test_a_column_of_a_matrix_keeps_its_stride_when_it_is_used_by_many_rows() -> None:
    m, x = normal(4, 3), torch.zeros(FAR_LARGER, 4)
    assert torch.equal(Compiled(lambda m, x: x + (2 * m)[:, 1], required=True)(m, x), x + (2 * m)[:, 1])


@pytest.mark.parametrize(("activation", "time_bias"), [("relu", False), ("silu", True)], ids=["paper", "precise"])
def test_gradients_of_a_compiled_network_are_the_plain_ones(
    activation: Literal["relu", "silu"], time_bias: bool
) -> None:
    shape = {"width": 16, "blocks": 2, "head_hidden": [8], "out": 2}
    trunk = Trunk(2, 8, 4, **shape, activation=activation, time_bias=time_bias)
    names = [name for name, _ in trunk.named_parameters()]
    parameters = [0.3 * normal(*p.shape, role=name) for name, p in trunk.named_parameters()]
    e_x, e_t = normal(512, 8), normal(512, 4, role="e_t")

    def gradients(*leaves: torch.Tensor) -> tuple[torch.Tensor, ...]:
        own = [leaf.detach().requires_grad_() for leaf in leaves]
        output = torch.func.functional_call(trunk, dict(zip(names, own, strict=True)), (e_x, e_t))
        return torch.autograd.grad(output.square().mean(), own)

    for compiled, plain in zip(Compiled(gradients, required=True)(*parameters), gradients(*parameters), strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-5)
