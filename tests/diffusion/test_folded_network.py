"""The network of the folds: its groups are MLPs that could as well be evaluated one by one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dualdiff_cli import seeding
from dualdiff_cli.config.recipes import resolve_diffusion
from dualdiff_cli.diffusion.networks.folds import ByFold, FoldedMLP

DIM, FOLDS, BANDS, SPAN = 2, 3, 2, 100.0


def folded(*, folds: int = FOLDS, bands: int = 1, drawn: bool = True) -> FoldedMLP:
    """A small network of the recipe; with ``drawn``, parameters that start at zero are drawn, too."""
    options = {"model": {"width": 8, "blocks": 2, "head_hidden": [6]}}
    model = resolve_diffusion(dataset="line", recipe="few-rows", options=options).model
    network = FoldedMLP(model, DIM, folds=folds, bands=bands, span=SPAN)
    network.reset(seeding.torch_stream(0, "weights"))
    if drawn:
        generator = seeding.torch_stream(0, "parameters that start at zero")
        with torch.no_grad():
            for parameter in network.parameters():
                if not parameter.all():
                    parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network.requires_grad_(False)


def alone(network: FoldedMLP, group: int) -> FoldedMLP:
    """One MLP of a network, as a network of its own."""
    single = folded(folds=1)
    single.load_state_dict({name: tensor[group : group + 1] for name, tensor in network.state_dict().items()})
    return single


def inputs(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points, times over the whole axis, and shares of noise."""
    x = torch.randn(n, DIM, generator=seeding.torch_stream(0, "points"))
    t = torch.linspace(0, SPAN, n)
    return x, t, (t / SPAN).sqrt()


@pytest.mark.parametrize("rows", [1, 7])
def test_each_folds_rows_are_answered_by_the_mlp_of_that_fold_alone(rows: int) -> None:
    network = folded()
    x, t, s = inputs(FOLDS * rows)
    own = [slice(fold * rows, (fold + 1) * rows) for fold in range(FOLDS)]
    expected = torch.cat([alone(network, fold)(x[part], t[part], s[part]) for fold, part in enumerate(own)])
    torch.testing.assert_close(network.by_fold(x, t, s), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(ByFold(network)(x, t, s, stratified=True), network.by_fold(x, t, s))
    if rows > 1:
        assert not torch.allclose(expected, alone(network, 0)(x, t, s), rtol=1e-2)


@pytest.mark.parametrize(("time", "band"), [(0.0, 0), (49.9, 0), (50.0, 1), (99.0, 1), (SPAN, 1)])
def test_at_one_time_the_answer_is_the_mean_over_the_folds_of_the_band(time: float, band: int) -> None:
    network = folded(bands=BANDS)
    x, _, _ = inputs(7)
    t, s = torch.tensor([time]), torch.tensor([0.3])
    mlps = [alone(network, band * FOLDS + fold) for fold in range(FOLDS)]
    expected = torch.stack([mlp(x, t, s) for mlp in mlps]).mean(0)
    torch.testing.assert_close(network(x, t, s), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bands", [1, BANDS])
@pytest.mark.parametrize("folds", [1, FOLDS])
def test_points_with_times_of_their_own_are_answered_as_at_one_time(folds: int, bands: int) -> None:
    network = folded(folds=folds, bands=bands)
    x, t, s = inputs(9)
    each = torch.cat([network(x[i : i + 1], t[i : i + 1], s[i : i + 1]) for i in range(9)])
    torch.testing.assert_close(network(x, t, s), each, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network(x, t[4:5], s[4:5]), network(x, t[4:5].expand(9), s[4:5].expand(9)))


def test_a_fold_in_training_changes_no_answer_of_another_fold() -> None:
    network = folded()
    x, t, s = inputs(FOLDS * 4)
    before = network.by_fold(x, t, s)
    for parameter in network.parameters():
        parameter[1] += 0.1
    changed = (network.by_fold(x, t, s) != before).any(1).reshape(FOLDS, 4).any(1)
    assert changed.tolist() == [False, True, False]


@pytest.mark.parametrize("bands", [1, BANDS])
def test_the_output_starts_at_zero_and_the_layers_before_it_do_not(bands: int) -> None:
    network = folded(bands=bands, drawn=False)
    x, t, s = inputs(6)
    assert not network(x, t, s).any()
    assert not network(x, t[:1], s[:1]).any()
    first = network.trunks.first.weight
    assert not torch.equal(first[0], first[1])
    assert first.any()


@pytest.mark.parametrize("bands", [3, 6, 7, 24])
def test_a_time_on_a_boundary_belongs_to_the_upper_band_in_every_precision(bands: int) -> None:
    network = folded(bands=bands)
    for k in range(bands):
        for dtype in (torch.float32, torch.float64):
            assert int(network._band(torch.tensor([k * SPAN / bands], dtype=dtype))) == k
