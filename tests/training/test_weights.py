"""The weights of the experts, fitted to rows that no expert has seen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dualdiff_cli import seeding
from dualdiff_cli.training.weights import errors_of, weights_by_component, weights_by_unit

LEVELS, N, D = 6, 200, 2
SCALE = torch.linspace(0.1, 1.0, LEVELS)


def draws(*shape: int, role: str) -> Tensor:
    return torch.randn(*shape, generator=seeding.torch_stream(0, role))


def by_component(
    answers: Tensor, x: Tensor, r: Tensor, *, scale: Tensor = SCALE, prior: float = 0.0, set_aside: float = 0.0
) -> Tensor:
    return weights_by_component(errors_of(answers, x, scale, set_aside=set_aside), r, prior=prior).float()


def experts(*, correlation: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Clean points and the answers of two experts, whose errors are of different size and may be correlated."""
    x, a, b = draws(N, D, role="x"), draws(LEVELS, N, D, role="a"), draws(LEVELS, N, D, role="b")
    growing = torch.linspace(0.2, 2.0, LEVELS).reshape(-1, 1, 1)
    return x, x + growing * a, x + correlation * growing * a + 0.7 * b


def common_weight(net: Tensor, closed: Tensor, x: Tensor, scale: Tensor, **options: float) -> Tensor:
    """Fit weights of two experts for all rows, and give that of the first, (L,)."""
    return by_component(torch.stack([net, closed]), x, torch.ones(LEVELS, N, 1), scale=scale, **options)[:, 0, 0]


def test_an_exact_network_gets_the_whole_weight() -> None:
    x, _, mixture = experts()
    torch.testing.assert_close(common_weight(x.expand(LEVELS, N, D), mixture, x, SCALE), torch.ones(LEVELS))


def test_an_exact_mixture_gets_the_whole_weight() -> None:
    x, network, _ = experts()
    torch.testing.assert_close(common_weight(network, x.expand(LEVELS, N, D), x, SCALE), torch.zeros(LEVELS))


@pytest.mark.parametrize("correlation", [0.0, 0.4, -0.5])
def test_the_weights_are_those_of_the_least_error_of_neighbouring_levels(correlation: float) -> None:
    x, network, mixture = experts(correlation=correlation)
    w = common_weight(network, mixture, x, SCALE)
    grid = torch.linspace(0, 1, 2001).reshape(-1, 1, 1)
    errors = [
        ((grid * network[i] + (1 - grid) * mixture[i] - x) / SCALE[i]).square().sum((1, 2)) for i in range(LEVELS)
    ]
    for i in range(LEVELS):
        together = errors[max(i - 1, 0)] + errors[i] + errors[min(i + 1, LEVELS - 1)]
        assert float(w[i]) == pytest.approx(float(grid.flatten()[together.argmin()]), abs=6e-4)
    assert ((w > 0) & (w < 1)).sum() >= 4


def test_rows_that_are_set_aside_do_not_decide() -> None:
    x, network, mixture = experts()
    plain = common_weight(network, mixture, x, SCALE)
    far = mixture.clone()
    far[:, 7] += 1e4
    assert common_weight(network, far, x, SCALE).min() > 0.999
    torch.testing.assert_close(common_weight(network, far, x, SCALE, set_aside=0.005), plain, atol=0.03, rtol=0)


def test_an_error_counts_in_units_of_the_scale_of_its_level() -> None:
    """Beside a level of large errors, another scale moves the fit from one level's optimum towards the other's."""
    x, network, mixture = experts()
    of_first = torch.full((LEVELS,), 1e6)
    of_first[0] = 1.0
    w = common_weight(network, mixture, x, of_first)
    a, b = network[0] - x, mixture[0] - x
    alone = float(((b * b).sum() - (a * b).sum()) / (a - b).square().sum())
    assert w[:2].tolist() == pytest.approx([alone, alone], abs=1e-4)
    assert abs(float(common_weight(network, mixture, x, SCALE)[1]) - alone) > 0.01


@pytest.mark.parametrize(("better", "weight"), [("network", 1.0), ("mixture", 0.0)])
def test_weights_beyond_the_two_experts_are_cut_off(better: str, weight: float) -> None:
    """If the errors of one expert are twice those of the other, the free optimum is twice as far: 2 or −1."""
    x = draws(N, D, role="x")
    a = draws(LEVELS, N, D, role="a")
    near, far = x + a, x + 2 * a
    pair = (near, far) if better == "network" else (far, near)
    torch.testing.assert_close(common_weight(*pair, x, SCALE), torch.full((LEVELS,), weight))


def test_equal_answers_have_a_finite_weight() -> None:
    x, network, _ = experts()
    w = common_weight(network, network, x, SCALE)
    assert bool(((w >= 0) & (w <= 1)).all())


def two_places() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points of two components; the network is good at the first of them and bad at the second, the mixture not."""
    x, a, b = draws(N, D, role="x"), draws(LEVELS, N, D, role="a"), draws(LEVELS, N, D, role="b")
    first = (torch.arange(N) < N // 4).reshape(-1, 1)
    r = torch.cat([first, ~first], dim=1).float().expand(LEVELS, N, 2)
    return x, x + torch.where(first, 0.01, 1.0) * a, x + torch.where(first, 1.0, 0.5) * b, r


def test_each_component_gets_the_weight_that_its_rows_ask_for() -> None:
    x, net, closed, r = two_places()
    W = by_component(torch.stack([net, closed]), x, r)
    assert W.shape == (LEVELS, 2, 2)
    w = W[..., 0]
    assert w[:, 0].min() > 0.99
    torch.testing.assert_close(w[:, 1], torch.full((LEVELS,), 0.2), atol=0.1, rtol=0)


def test_the_prior_draws_the_weights_of_all_components_towards_the_common_weight() -> None:
    x, net, closed, r = two_places()
    common = common_weight(net, closed, x, SCALE)
    answers = torch.stack([net, closed])
    free, weak, strong = (by_component(answers, x, r, prior=prior)[..., 0] for prior in (0.0, 0.2, 1e4))
    torch.testing.assert_close(strong, common[:, None].expand(-1, 2), atol=1e-3, rtol=0)
    for k in (0, 1):
        assert bool(((weak[:, k] - common) / (free[:, k] - common) < 0.99).all())
        assert bool(((weak[:, k] - common) / (free[:, k] - common) > 0.1).all())


def test_three_experts_with_independent_errors_count_inversely_to_their_squares() -> None:
    """Of unbiased estimates with variances v_e the best mean has weights in proportion to 1/v_e."""
    n = 20_000
    x, sizes = draws(n, D, role="many x"), torch.tensor([0.5, 1.0, 2.0])
    answers = x + sizes.reshape(3, 1, 1, 1) * draws(3, LEVELS, n, D, role="many errors")
    W = by_component(answers, x, torch.ones(LEVELS, n, 1))[:, 0]
    expected = sizes**-2 / (sizes**-2).sum()
    torch.testing.assert_close(W, expected.expand(LEVELS, 3), atol=0.01, rtol=0)
    torch.testing.assert_close(W.sum(-1), torch.ones(LEVELS))


def test_an_expert_that_only_repeats_another_changes_no_answer() -> None:
    x, net, closed = experts()
    r = torch.ones(LEVELS, N, 1)
    two, three = (by_component(torch.stack(each), x, r)[:, 0] for each in ([net, closed], [net, closed, net]))
    torch.testing.assert_close(three[:, [0, 2]].sum(1), two[:, 0], atol=1e-3, rtol=0)


# The weights of the features


def of_units(a: Tensor, units: list[int], *, prior: float = 0.0) -> Tensor:
    """Fit the weights of features of two experts, which the components weigh alike, (L, d, 3)."""
    return weights_by_unit(a, torch.full((*a.shape[1:3], 2), 0.5), units, prior=prior).float()


def three_features() -> Tensor:
    """Errors of two experts, (2, L, n, 3): the first is good at the first feature, the second at the others."""
    sizes = torch.tensor([[0.1, 1.0, 2.0], [3.0, 0.2, 0.3]])
    return (sizes.reshape(2, 1, 1, 3) * draws(2, LEVELS, N, 3, role="errors")).double()


def test_each_unit_of_features_asks_the_expert_that_knows_it() -> None:
    V = of_units(three_features(), [0, 1, 1])
    assert V.shape == (LEVELS, 3, 3)
    assert V[:, 0, 1].min() > 0.95
    assert V[:, 1, 2].min() > 0.9
    assert torch.equal(V[:, 1], V[:, 2])
    torch.testing.assert_close(V.sum(-1), torch.ones(LEVELS, 3))


def test_the_weights_of_a_unit_are_those_of_the_least_error_of_its_features() -> None:
    """The grid goes over all weights of three answers that sum to one."""
    a, step = three_features(), 0.02
    V = of_units(a, [0, 1, 1])
    of_all = torch.cat([a.mean(0, keepdim=True), a])
    places = torch.cartesian_prod(torch.arange(0, 1 + step, step), torch.arange(0, 1 + step, step))
    places = torch.cat([places, 1 - places.sum(1, keepdim=True)], dim=1)
    places = places[places[:, 2] > -1e-6].double()
    for features in ([0], [1, 2]):
        for level in range(LEVELS):
            near = of_all[:, max(level - 1, 0) : level + 2][..., features]
            weight = torch.ones(near.shape[1], dtype=torch.float64)
            weight[0 if level == 0 else -1] += level in {0, LEVELS - 1}
            gram = torch.einsum("elnd,flnd,l->ef", near, near, weight)
            found, best = V[level, features[0]].double(), torch.einsum("pe,ef,pf->p", places, gram, places).min()
            assert float(found @ gram @ found) <= float(best) * (1 + 1e-6)


@pytest.mark.parametrize("prior", [0.2, 1.0, 50.0])
def test_the_prior_draws_the_weights_of_a_feature_towards_the_mean_by_components(prior: float) -> None:
    """A weighted mean of the optimum without a prior, and of the mean by components, here one half of each expert."""
    a = three_features()[..., 1:]  # of the first feature the optimum is at the edge
    free, drawn = (V[..., 1:] + V[..., :1] / 2 for V in (of_units(a, [0, 1]), of_units(a, [0, 1], prior=prior)))
    torch.testing.assert_close(drawn, (free + prior / 2) / (1 + prior), atol=1e-3, rtol=0)


def test_one_expert_has_nothing_to_be_weighed_against() -> None:
    a = three_features()[:1]
    V = weights_by_unit(a, torch.ones(LEVELS, N, 1), [0, 1, 1])
    assert V.reshape(-1, 2).tolist() == [[1.0, 0.0]] * 3 * LEVELS
